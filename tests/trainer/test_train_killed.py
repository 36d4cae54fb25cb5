"""Ranks that die of SIGKILL, during a step or a save, cost steps and never the run: it ends as if undisturbed."""

from __future__ import annotations

import random
from pathlib import Path

import pytest
from tests.trainer import killing, trained

small = pytest.importorskip("tests.trainer.small_models")
pytest.importorskip("deepspeed")

pytestmark = pytest.mark.torch

KILLS = [
    killing.Kill(during="step", whom="one", after=0.5),
    killing.Kill(during="save", whom="all", after=0.2),
    killing.Kill(during="save", whom="one", after=0.6),
]


def test_killed_ranks_end_with_the_weights_of_an_undisturbed_run(tmp_path: Path) -> None:
    source = small.save("llama", tmp_path / "model")
    small.prepare(source, tmp_path / "data")
    straight, disturbed = (
        trained.settings(source, tmp_path / "data", tmp_path / name, max_steps=16, save_every=1)
        for name in ("straight", "disturbed")
    )
    assert killing.finished(killing.recipe(straight, tmp_path / "straight.toml"), 2) == [0, 0]
    recipe, chance = killing.recipe(disturbed, tmp_path / "disturbed.toml"), random.Random(3)
    before = 0
    for kill in KILLS:
        found = killing.killed(recipe, tmp_path / "disturbed", 2, kill, chance)
        assert found is not None
        assert before < found.saved <= found.step < 16
        assert found.step - found.saved <= 1
        assert found.code == (75 if kill.whom == "one" else None)
        before = found.saved
    assert killing.finished(recipe, 2) == [0, 0]
    assert trained.weights(tmp_path / "disturbed") == trained.weights(tmp_path / "straight")
    assert [one["loss"] for one in trained.log(tmp_path / "disturbed")] == [
        one["loss"] for one in trained.log(tmp_path / "straight")
    ]
