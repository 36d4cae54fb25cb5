"""Training from the first step to the exported model, on one process."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from tests.trainer import trained

from trainer.errors import Interrupted, TrainerError

small = pytest.importorskip("tests.trainer.small_models")
train = pytest.importorskip("trainer.training.train").train

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
    out, _ = undisturbed
    before, told = trained.weights(out), trained.Told()
    assert train(trained.settings(*ingredients, out), told) == out / "model"
    assert not told.starts
    assert told.said == [f"{out} is done and {out / 'model'} holds its model: set out to another folder to train anew."]
    assert trained.weights(out) == before


def test_the_model_is_evaluated_on_the_way_and_in_the_end(ingredients: tuple[Path, Path], tmp_path: Path) -> None:
    small.prepare(ingredients[0], tmp_path / "held_out", count=20, seed=1)
    told = trained.Told()
    settings = trained.settings(
        *ingredients,
        tmp_path / "run",
        max_steps=4,
        held_out=str(tmp_path / "held_out"),
        evaluate_every=3,
        evaluate_command="ls {model} && echo behind {step}",
    )
    train(settings, told)
    assert [one.step for one in told.held_out] == [0, 3, 4]
    assert told.held_out[2].loss < told.held_out[1].loss < told.held_out[0].loss
    assert [(one.step, one.exit_code, one.last_line) for one in told.commands] == [
        (3, 0, "behind 3"),
        (4, 0, "behind 4"),
    ]
    assert "model.safetensors" in told.commands[0].output.read_text()


def test_an_evaluation_changes_nothing(ingredients: tuple[Path, Path], tmp_path: Path, undisturbed: Any) -> None:
    small.prepare(ingredients[0], tmp_path / "held_out", count=20, seed=1)
    changes: dict[str, Any] = {"held_out": str(tmp_path / "held_out"), "evaluate_every": 1}
    train(trained.settings(*ingredients, tmp_path / "run", **changes), trained.Told())
    assert trained.weights(tmp_path / "run") == trained.weights(undisturbed[0])


def test_a_loss_that_is_no_number_stops_behind_the_last_checkpoint_that_was_good(
    ingredients: tuple[Path, Path], tmp_path: Path
) -> None:
    told = trained.Told()
    settings = trained.settings(*ingredients, tmp_path / "run", learning_rate=3e38, schedule="constant", save_every=1)
    with pytest.raises(
        Interrupted, match=r"The loss of step \d is (nan|inf)\. Repeating the command goes on from"
    ) as stop:
        train(settings, told)
    assert stop.value.exit_code == 75
    assert told.ends == [str(stop.value)]
    assert [one.skipped for one in told.entries] == [False, True]
    assert trained.checkpoints(tmp_path / "run") == ["step-000001"]


def test_the_garbage_collector_gets_everything_back(undisturbed: Any) -> None:
    import gc

    assert gc.get_freeze_count() == 0
    assert gc.isenabled()


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"tokens": 10}, "tokens and a micro-step holds 10: allow"),
        ({"offload": "all", "zero": 3, "engine": "torch"}, "offload all is DeepSpeed's, and engine is torch"),
        ({"model": "nowhere"}, "nowhere"),
        ({"data": "nowhere"}, "nowhere holds no prepared data"),
    ],
)
def test_what_cannot_be_trained_is_told_before_a_model_is_loaded(
    ingredients: tuple[Path, Path], tmp_path: Path, changes: dict[str, Any], says: str
) -> None:
    with pytest.raises(TrainerError, match=says):
        train(replace(trained.settings(*ingredients, tmp_path / "run"), **changes), trained.Told())
    assert not (tmp_path / "run" / "checkpoints").exists()


def test_a_folder_that_another_process_trains_in_is_left_alone(ingredients: tuple[Path, Path], tmp_path: Path) -> None:
    from trainer.training import alone

    out, told = tmp_path / "run", trained.Told()
    with alone.locked(out, 0) as problem:  # flock tells open files apart, so this process stands for another
        assert not problem
        with pytest.raises(TrainerError, match=rf"Another process trains in {out} \(.+, pid {os.getpid()}\): wait"):
            train(trained.settings(*ingredients, out), told)
        assert [one.name for one in out.iterdir()] == [alone.LOCK]
    assert not told.starts
    with alone.locked(out, 0) as problem:
        assert not problem


def test_a_lost_terminal_stops_as_a_scheduler_does() -> None:
    from trainer.training.stopping import Stopping

    with Stopping(0) as stopping:
        os.kill(os.getpid(), signal.SIGHUP)
        assert stopping.reason == "SIGHUP was received"


def test_a_disk_too_small_for_the_run_is_told_at_its_start(
    ingredients: tuple[Path, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    told = trained.Told()
    # In the place of a disk that is nearly full; what a full one does to a run is tested with its checkpoints.
    monkeypatch.setattr("shutil.disk_usage", lambda _: SimpleNamespace(free=10**5))
    train(trained.settings(*ingredients, tmp_path / "run", max_steps=1), told)
    parameters = told.starts[0].parameters
    says = f"will grow by up to {(12 + 4) * parameters / 1e9:.1f} GB and its disk has 0.0 GB free: make room"
    assert [says in one for one in told.said] == [True], told.said


def test_a_run_under_nohup_outlives_its_terminal() -> None:
    from trainer.training.stopping import Stopping

    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        with Stopping(0) as stopping:
            os.kill(os.getpid(), signal.SIGHUP)
            assert not stopping.reason
    finally:
        signal.signal(signal.SIGHUP, before)


def test_a_skipped_step_is_no_update(
    ingredients: tuple[Path, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from trainer.training import checkpoint
    from trainer.training.torch_engine import TorchEngine

    real, done = TorchEngine.step, []

    def fake_step(self: TorchEngine, learning_rate: float) -> Any:
        done.append(learning_rate)
        return replace(real(self, learning_rate), skipped=len(done) == 2)

    monkeypatch.setattr(TorchEngine, "step", fake_step)
    train(trained.settings(*ingredients, tmp_path / "run"), trained.Told())
    newest = checkpoint.newest(tmp_path / "run")
    assert newest is not None
    assert (newest.state.step, newest.state.updates) == (6, 5)
