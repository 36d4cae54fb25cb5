"""Training from the first step to the exported model, on one process."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from tests.trainer import trained

small = pytest.importorskip("tests.trainer.small_models")

pytestmark = pytest.mark.torch


@pytest.fixture(scope="module")
def ingredients(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Path, Path]]:
    """A model's folder and data prepared for it."""
    from trainer.training import engine

    folder = tmp_path_factory.mktemp("ingredients")
    source = small.save("llama", folder / "model")
    small.prepare(source, folder / "data")
    yield source, folder / "data"
    engine.leave()


@pytest.fixture(scope="module")
def undisturbed(ingredients: tuple[Path, Path], tmp_path_factory: pytest.TempPathFactory) -> Any:
    """A run from its first step to its last: its folder and what it told."""
    from trainer.training.train import train

    out, told = tmp_path_factory.mktemp("undisturbed") / "run", trained.Told()
    train(trained.settings(*ingredients, out), told)
    return out, told


def test_a_run_learns_and_ends_with_a_model(undisturbed: Any, ingredients: tuple[Path, Path]) -> None:
    import torch
    from transformers import AutoModelForCausalLM

    out, told = undisturbed
    assert told.starts[0].steps == len(told.entries) == 6
    assert told.losses[-1] < told.losses[0] - 0.5
    assert told.ends == ["done"]
    before, after = (AutoModelForCausalLM.from_pretrained(one).state_dict() for one in (ingredients[0], out / "model"))
    assert before.keys() == after.keys()
    assert not any(torch.equal(before[name], after[name]) for name in before)


def test_a_step_tells_what_it_read(undisturbed: Any, ingredients: tuple[Path, Path]) -> None:
    from trainer.planning.plan import Examples
    from trainer.preparation.prepared import Prepared
    from trainer.training import weights

    prepared = Prepared.open(ingredients[1])
    ids = Examples(lengths=prepared.lengths, batch=16).ids(0, 0)
    _, told = undisturbed
    first = told.entries[0]
    assert first.step == 1
    assert first.epoch == pytest.approx(16 / 64)
    assert first.tokens == first.slots == prepared.lengths[ids].sum()
    assert first.supervised == weights.targets(prepared)[ids].sum()
    assert first.lr == 1e-3
    assert 0 < first.seconds_model < first.seconds


def test_a_run_that_is_done_is_left_as_it_is(undisturbed: Any, ingredients: tuple[Path, Path]) -> None:
    from trainer.training.train import train

    out, _ = undisturbed
    before, told = trained.weights(out), trained.Told()
    assert train(trained.settings(*ingredients, out), told) == out / "model"
    assert not told.starts
    assert told.said == [f"{out} is done and {out / 'model'} holds its model: set out to another folder to train anew."]
    assert trained.weights(out) == before
