"""A run's curves in TensorBoard, trackio or Weights & Biases, for who asks for one of them; imported only then."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from trainer.errors import TrainerError

if TYPE_CHECKING:
    from trainer.watching.told import Entry, HeldOut

#: What runs are called together where a tracker wants to know.
PROJECT = "trainer"


class Tracker(Protocol):
    """Is given numbers by their names, step by step."""

    def log(self, step: int, values: Mapping[str, float]) -> None:
        """Numbers of a step."""

    def close(self) -> None:
        """Nothing follows."""


def tracker(name: str, *, out: Path, settings: Mapping[str, Any], step: int) -> Tracker | None:
    """The tracker of this name, for a run that goes on behind ``step``; None for ``none``.

    Raises TrainerError where its package is not installed, or where it does not start.
    """
    if name == "none":
        return None
    require(name)
    try:
        return _TRACKERS[name](out, settings, step)
    except Exception as error:  # each package has errors of its own
        text = " ".join(str(error).split())
        raise TrainerError(f"{name} does not start ({text}). {_REMEDIES[name]}") from error


def require(name: str) -> None:
    """Raise TrainerError where a tracker's package, which bears its name, is not installed; all ranks find it alike."""
    if name == "none":
        return
    try:
        import_module(name)
    except ImportError:
        raise TrainerError(
            f"tracker = {name!r} needs the package {name}, which is not installed: pip install {name}."
        ) from None


def step_values(entry: Entry, line: Mapping[str, Any]) -> dict[str, float]:
    """The numbers of a step that make curves."""
    values = {"loss": entry.loss, "lr": entry.lr, "norm": entry.norm, "skipped": float(entry.skipped)}
    values |= {f"dataset_loss/{name}": loss for name, loss in entry.dataset_loss.items()}
    paces = ("tokens_per_second", "supervised_per_second", "mfu")
    return values | {name: line[name] for name in paces if line[name] is not None}


def held_out_values(held_out: HeldOut) -> dict[str, float]:
    """The numbers of an evaluation that make curves."""
    return {"held_out": held_out.loss, **{f"held_out/{name}": loss for name, loss in held_out.dataset_loss.items()}}


class TensorBoard:
    """Event files in ``out/tensorboard``, written without TensorFlow and without torch."""

    def __init__(self, out: Path, settings: Mapping[str, Any], step: int) -> None:
        from tensorboard.compat.proto.event_pb2 import Event, SessionLog
        from tensorboard.compat.proto.summary_pb2 import Summary
        from tensorboard.summary.writer.event_file_writer import EventFileWriter

        self._event, self._summary = Event, Summary
        self._file = EventFileWriter(str(out / "tensorboard"))
        if step:
            # Has TensorBoard forget what an earlier file tells of the steps that are now done anew.
            self._file.add_event(Event(step=step + 1, session_log=SessionLog(status=SessionLog.START)))

    def log(self, step: int, values: Mapping[str, float]) -> None:
        """An event that holds the numbers."""
        import time

        held = [self._summary.Value(tag=name, simple_value=value) for name, value in values.items()]
        self._file.add_event(self._event(step=step, wall_time=time.time(), summary=self._summary(value=held)))

    def close(self) -> None:
        """Write what is left."""
        self._file.close()


class Trackio:
    """A local trackio project; ``trackio show`` opens it."""

    def __init__(self, out: Path, settings: Mapping[str, Any], step: int) -> None:
        import trackio

        self._run = trackio.init(project=PROJECT, name=_run_name(out), config=dict(settings), resume="allow")

    def log(self, step: int, values: Mapping[str, float]) -> None:
        """A step of the project's run."""
        self._run.log(dict(values), step=step)

    def close(self) -> None:
        """Write what is left."""
        self._run.finish()


class Wandb:
    """A run of Weights & Biases; WANDB_MODE=offline keeps it on this machine, in ``out/wandb``."""

    def __init__(self, out: Path, settings: Mapping[str, Any], step: int) -> None:
        import wandb

        name = _run_name(out)
        self._run = wandb.init(
            project=PROJECT, name=out.name, id=name, dir=str(out), config=dict(settings), resume="allow"
        )
        # Its own counter of steps only goes up; a run that resumes goes back to its checkpoint.
        self._run.define_metric("*", step_metric="step")

    def log(self, step: int, values: Mapping[str, float]) -> None:
        """Numbers, and the step as one of them."""
        self._run.log({**values, "step": step})

    def close(self) -> None:
        """Write or send what is left."""
        self._run.finish()


_TRACKERS: Mapping[str, Callable[[Path, Mapping[str, Any], int], Tracker]] = {
    "tensorboard": TensorBoard,
    "trackio": Trackio,
    "wandb": Wandb,
}
_REMEDIES = {
    "tensorboard": "Is the run folder writable?",
    "trackio": "Set TRACKIO_DIR to a folder that can be written.",
    "wandb": "Run `wandb login` once, or set WANDB_MODE=offline.",
}


def _run_name(out: Path) -> str:
    """The same name for the same run folder, so that a resumed run goes on where it was."""
    place = out.resolve()
    return f"{place.name}-{hashlib.sha256(str(place).encode()).hexdigest()[:8]}"
