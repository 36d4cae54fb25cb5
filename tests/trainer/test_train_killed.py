"""Ranks that die of SIGKILL, during a step or a save, cost steps and never the run: it ends as if undisturbed."""

from __future__ import annotations

import random
import subprocess
import sys
from pathlib import Path

import pytest
from tests.trainer import killing, trained

from trainer.watching import history

small = pytest.importorskip("tests.trainer.small_models")
pytest.importorskip("deepspeed")

pytestmark = pytest.mark.torch

KILLS = [
    killing.Kill(during="step", whom="one", after=0.5),
    killing.Kill(during="save", whom="all", after=0.2),
    killing.Kill(during="save", whom="one", after=0.6),
]


STEPS = 16


@pytest.fixture(scope="module")
def straight(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a run that nobody disturbed, on two ranks under DeepSpeed; its recipe stands beside it."""
    folder = tmp_path_factory.mktemp("killed")
    source = small.save("llama", folder / "model")
    small.prepare(source, folder / "data")
    settings = trained.settings(source, folder / "data", folder / "straight", max_steps=STEPS, save_every=1)
    assert killing.finished(killing.recipe(settings, folder / "straight.toml"), 2) == [0, 0]
    return folder / "straight"


def test_the_terminal_shows_the_run_and_nothing_of_deepspeed(straight: Path) -> None:
    said = (straight.parent / "rank-0.txt").read_text().splitlines()
    starts = [line.partition(" · ")[0] for line in said]
    steps = [f"step {step:2}/{STEPS}" for step in range(1, STEPS + 1)]
    assert starts == [f"{STEPS} steps", *steps, f"run card: {straight / 'card.html'}", str(straight / "model")]
    assert (straight.parent / "rank-1.txt").read_text() == ""


def test_ranks_whose_launcher_is_killed_save_and_stop(straight: Path, tmp_path: Path) -> None:
    out, folder = tmp_path / "run", straight.parent
    endless = trained.settings(folder / "model", folder / "data", out, max_steps=5000, save_every=5000)
    words = ["launch", str(killing.recipe(endless, tmp_path / "recipe.toml")), "--gpus-per-node", "2"]
    with subprocess.Popen([sys.executable, "-m", "trainer", *words]) as launcher:
        try:
            assert killing.until(lambda: killing.steps(out) > 1, [launcher.poll])
        finally:
            launcher.kill()
    assert killing.until(lambda: bool(history.read(out).why), [])
    (saved,) = trained.checkpoints(out)
    assert saved == f"step-{killing.steps(out):06d}"
    says = f"Its launcher is gone behind step {killing.steps(out):,}; repeat the command to go on."
    assert history.read(out).why == says


def test_killed_ranks_end_with_the_weights_of_an_undisturbed_run(straight: Path, tmp_path: Path) -> None:
    folder = straight.parent
    disturbed = trained.settings(folder / "model", folder / "data", tmp_path / "run", max_steps=STEPS, save_every=1)
    recipe, chance = killing.recipe(disturbed, tmp_path / "recipe.toml"), random.Random(3)
    before = 0
    for kill in KILLS:
        found = killing.killed(recipe, tmp_path / "run", 2, kill, chance, most=4)
        assert found is not None
        assert before < found.saved <= found.step < STEPS
        assert found.step - found.saved <= 1
        assert found.code == (75 if kill.whom == "one" else None)
        before = found.saved
    assert killing.finished(recipe, 2) == [0, 0]
    assert trained.weights(tmp_path / "run") == trained.weights(straight)
    told = ([one["loss"] for one in trained.log(out)] for out in (tmp_path / "run", straight))
    assert next(told) == next(told)
