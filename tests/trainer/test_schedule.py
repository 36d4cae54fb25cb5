"""The learning rate of each step, against transformers' schedulers where they are there."""

from __future__ import annotations

from typing import Any

import pytest

from trainer.training.schedule import learning_rate, warmup_steps
from trainer.training.settings import Settings


def settings(**changes: object) -> Settings:
    told: dict[str, Any] = {"learning_rate": 1.0, "warmup": 0.2} | changes
    return Settings(model="m", data="d", out="o", **told)


def test_the_rate_rises_from_0_and_falls_to_where_it_would_be_0_behind_the_last_step() -> None:
    rates = [learning_rate(settings(), step, 10) for step in range(10)]
    assert rates == [0.0, 0.5, 1.0, 0.875, 0.75, 0.625, 0.5, 0.375, 0.25, 0.125]


def test_a_constant_rate_only_rises() -> None:
    rates = [learning_rate(settings(schedule="constant", warmup=0.5), step, 4) for step in range(4)]
    assert rates == [0.0, 0.5, 1.0, 1.0]


def test_steps_of_warmup_are_rounded_down() -> None:
    assert warmup_steps(settings(warmup=0.03), 100) == 3
    assert warmup_steps(settings(warmup=0.03), 33) == 0
    assert learning_rate(settings(warmup=0.03), 0, 33) == 1.0


@pytest.mark.torch
@pytest.mark.parametrize("schedule", ["linear", "cosine"])
def test_it_is_the_rate_of_the_code_of_2023(schedule: str) -> None:
    torch, transformers = pytest.importorskip("torch"), pytest.importorskip("transformers")
    weight = torch.nn.Parameter(torch.zeros(1))
    optimizer = torch.optim.SGD([weight], lr=2e-5)
    theirs = transformers.get_scheduler(schedule, optimizer, num_warmup_steps=3, num_training_steps=100)
    told = settings(schedule=schedule, learning_rate=2e-5, warmup=0.03)
    for step in range(100):
        assert learning_rate(told, step, 100) == pytest.approx(optimizer.param_groups[0]["lr"], rel=1e-12, abs=1e-20)
        optimizer.step()
        theirs.step()
