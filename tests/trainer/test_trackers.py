"""Curves reach the tracker that is asked for; no other is imported, and none stops a run."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from tests.trainer.watched import START, entry

from trainer.errors import TrainerError
from trainer.watching.told import HeldOut
from trainer.watching.trackers import held_out_values, require, step_values, tracker
from trainer.watching.watch import step_line

VALUES = {"loss": 2.0, "dataset_loss/dolly": 1.5}


def curves(folder: Path) -> dict[str, list[tuple[int, float]]]:
    """What TensorBoard itself reads back from a folder of event files, as it would show it."""
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    found = EventAccumulator(str(folder))
    found.Reload()
    tags = found.Tags()["tensors"] + found.Tags()["scalars"]
    return {tag: [(one.step, round(one.value, 4)) for one in found.Scalars(tag)] for tag in tags}


def test_tensorboard_reads_back_what_was_written(tmp_path: Path) -> None:
    made = tracker("tensorboard", out=tmp_path, settings={}, step=0)
    assert made is not None
    made.log(1, VALUES)
    made.log(2, {"loss": 1.0})
    made.close()
    assert curves(tmp_path / "tensorboard") == {"loss": [(1, 2.0), (2, 1.0)], "dataset_loss/dolly": [(1, 1.5)]}


def test_tensorboard_forgets_the_steps_that_a_resumed_run_does_anew(tmp_path: Path) -> None:
    for start, steps in ((0, (1, 2, 3, 4)), (2, (3, 4))):
        made = tracker("tensorboard", out=tmp_path, settings={}, step=start)
        assert made is not None
        for step in steps:
            made.log(step, {"loss": float(step + 10 * start)})
        made.close()
    assert curves(tmp_path / "tensorboard") == {"loss": [(1, 1.0), (2, 2.0), (3, 23.0), (4, 24.0)]}


@pytest.mark.parametrize("name", ["tensorboard", "trackio", "wandb"])
def test_a_missing_package_is_one_sentence_with_the_command(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, name, None)
    with pytest.raises(TrainerError) as missing:
        require(name)
    assert str(missing.value) == (
        f"tracker = {name!r} needs the package {name}, which is not installed: pip install {name}."
    )


def test_without_a_tracker_none_is_imported(tmp_path: Path) -> None:
    code = """
import sys
from pathlib import Path
from trainer.watching import trackers, watch
assert trackers.tracker("none", out=Path("."), settings={}, step=0) is None
print({"torch", "tensorboard", "trackio", "wandb"} & set(sys.modules))
"""
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert (ran.stdout, ran.stderr) == ("set()\n", "")


class FakeRun:
    """Stands in for a run of wandb or trackio, whose packages the tests do without."""

    def __init__(self, **told: Any) -> None:
        self.told = told
        self.logged: list[Any] = []

    def define_metric(self, name: str, step_metric: str) -> None:
        self.logged.append((name, step_metric))

    def log(self, values: dict[str, float], step: int | None = None) -> None:
        self.logged.append((values, step))

    def finish(self) -> None:
        self.logged.append("finished")


def fake(name: str, monkeypatch: pytest.MonkeyPatch) -> list[FakeRun]:
    """A fake package in the place of the real one; the runs that it is asked for."""
    runs: list[FakeRun] = []

    def init(**told: Any) -> FakeRun:
        runs.append(FakeRun(**told))
        return runs[-1]

    module = ModuleType(name)
    module.init = init  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, name, module)
    return runs


def test_a_fake_wandb_is_given_the_step_as_a_number_of_its_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    runs = fake("wandb", monkeypatch)
    for _ in range(2):
        made = tracker("wandb", out=tmp_path / "run", settings={"batch": 8}, step=3)
        assert made is not None
        made.log(4, VALUES)
        made.close()
    first, second = runs
    assert first.logged == [("*", "step"), ({**VALUES, "step": 4}, None), "finished"]
    assert (first.told["config"], first.told["resume"], first.told["dir"]) == ({"batch": 8}, "allow", f"{tmp_path}/run")
    assert first.told["id"] == second.told["id"]  # so that a resumed run goes on where it was


def test_a_fake_trackio_is_given_each_step(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (run,) = [fake("trackio", monkeypatch)]
    made = tracker("trackio", out=tmp_path / "run", settings={"batch": 8}, step=0)
    assert made is not None
    made.log(1, VALUES)
    made.close()
    assert run[0].logged == [(VALUES, 1), "finished"]


def test_a_tracker_that_does_not_start_says_what_to_do(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def init(**_: Any) -> None:
        raise RuntimeError("no API key\nconfigured")

    module = ModuleType("wandb")
    module.init = init  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "wandb", module)
    with pytest.raises(TrainerError) as failed:
        tracker("wandb", out=tmp_path, settings={}, step=0)
    assert str(failed.value) == (
        "wandb does not start (no API key configured). Run `wandb login` once, or set WANDB_MODE=offline."
    )


def test_every_number_of_a_step_makes_a_curve() -> None:
    one = entry(3)
    assert step_values(one, step_line(one, peak=START.peak)) == {
        "loss": 2.0,
        "lr": 2e-5,
        "norm": 1.5,
        "skipped": 0.0,
        "dataset_loss/dolly": 2.5,
        "dataset_loss/cot": 1.5,
        "tokens_per_second": 150.0,
        "supervised_per_second": 50.0,
        "mfu": 0.25,
    }
    held = HeldOut(step=3, loss=2.0, dataset_loss={"dolly": 2.5}, supervised=10, seconds=1.0)
    assert held_out_values(held) == {"held_out": 2.0, "held_out/dolly": 2.5}
