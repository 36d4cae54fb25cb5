"""The held-out loss is that of every example alone, whoever computes which part of it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from trainer.errors import DataError
from trainer.watching import evaluation

small = pytest.importorskip("tests.trainer.small_models")

pytestmark = pytest.mark.torch


class Learning:
    """A rank that evaluates with a real learner; what it would sum with the others is kept."""

    def __init__(self, learner: Any, rank: int, world: int) -> None:
        self.learner, self.rank, self.world = learner, rank, world
        self.sent: list[float] = []

    def evaluate(self, batch: Any) -> Any:
        import torch

        with torch.no_grad():
            return self.learner(batch)[1]

    def sum(self, values: Sequence[float]) -> list[float]:
        self.sent = list(values)
        return self.sent


@pytest.fixture(scope="module")
def family(tmp_path_factory: pytest.TempPathFactory) -> Any:
    folder = tmp_path_factory.mktemp("held_out")
    source = small.save("llama", folder / "model")
    return source, small.prepare(source, folder / "data", count=40)


def test_it_is_the_mean_over_tokens_that_each_example_alone_would_give(family: Any) -> None:
    source, prepared = family
    counts = small.weights.targets(prepared)
    wanted, _ = small.one_by_one(source, prepared, dict.fromkeys(range(len(prepared)), 1 / int(counts.sum())))
    told = evaluation.held_out(Learning(small.built(source, prepared), 0, 1), prepared, step=7, tokens=300)
    assert told is not None
    assert (told.step, told.supervised) == (7, int(counts.sum()))
    assert told.loss == pytest.approx(wanted, rel=1e-5)
    of_each = {name: int(counts[prepared.datasets == place].sum()) for place, name in enumerate(prepared.names)}
    assert sum(told.dataset_loss[name] * count for name, count in of_each.items()) == pytest.approx(
        told.loss * told.supervised, rel=1e-9
    )


def test_ranks_share_the_work_in_equally_many_parts_and_lose_nothing(family: Any) -> None:
    source, prepared = family
    learner = small.built(source, prepared)
    alone = Learning(learner, 0, 1)
    evaluation.held_out(alone, prepared, step=1, tokens=300)
    ranks = [Learning(learner, rank, 3) for rank in range(3)]
    parts = [list(evaluation.batches(prepared, rank=one.rank, world=3, tokens=300)) for one in ranks]
    assert len({len(one) for one in parts}) == 1
    for one in ranks:
        evaluation.held_out(one, prepared, step=1, tokens=300)
    together = [sum(values) for values in zip(*(one.sent for one in ranks), strict=True)]
    assert together == pytest.approx(alone.sent, rel=1e-6)
    assert together[1::2] == alone.sent[1::2]


def test_an_example_longer_than_a_micro_step_is_read_all_the_same(family: Any) -> None:
    source, prepared = family
    told = evaluation.held_out(Learning(small.built(source, prepared), 0, 1), prepared, step=1, tokens=1)
    assert told is not None
    assert told.supervised == int(small.weights.targets(prepared).sum())


def test_data_prepared_otherwise_is_refused(family: Any, tmp_path: Path) -> None:
    source, prepared = family
    evaluation.check(prepared, small.prepare(source, tmp_path / "others", count=10, seed=5))
    other = small.prepare(small.save("opt", tmp_path / "opt"), tmp_path / "held")
    with pytest.raises(DataError, match="was prepared with another tokenizer than"):
        evaluation.check(prepared, other)
    with pytest.raises(DataError, match="holds the very data of"):
        evaluation.check(prepared, replace(prepared, folder=tmp_path))
