"""What the training loop tells a watch, and the two watches: the one that writes and the one of the other ranks."""

from __future__ import annotations

import math
import time
from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

from trainer.watching.alarms import Alarm, Rules, alarm, warning
from trainer.watching.log import Log
from trainer.watching.progress import Progress, progress


@dataclass(frozen=True, slots=True, kw_only=True)
class Start:
    """What is known when the first step is about to begin."""

    #: Optimizer steps done before: 0, or those of the checkpoint that the run resumes from.
    step: int
    #: Optimizer steps of the whole run.
    steps: int
    world: int
    #: ``torch`` or ``deepspeed``, and what a rank computes on: ``cpu``, ``NVIDIA A100-SXM4-80GB``.
    engine: str
    device: str
    #: Weights of the model, and those of them that are trained.
    parameters: int
    trainable: int
    #: FLOP a second that all ranks together could do at best in this precision; 0 where it is not known.
    peak: float = 0.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """An optimizer step that was done; sums and means are over all ranks, and equal on all of them."""

    #: Steps done with this one, hence 1 for the first.
    step: int
    #: Epochs done with this one, in parts: 0.25 behind a quarter of the first.
    epoch: float
    #: What was minimised, by the run's reduction.
    loss: float
    #: The mean over supervised tokens, by dataset; without those of which the step had none.
    dataset_loss: Mapping[str, float]
    lr: float
    #: Of the whole gradient, before clipping.
    norm: float
    #: Whether the weights stayed as they were because the gradient was not finite.
    skipped: bool
    #: Tokens without padding; those of them that the loss counted; and those that were computed, padding included.
    tokens: int
    supervised: int
    slots: int
    #: From the end of the last step to the end of this one, and the part of it in forward, backward and update.
    seconds: float
    seconds_model: float
    #: What the model itself needs for it, recomputation left out; 0 where it is not known.
    flops: float = 0.0


@dataclass(frozen=True, slots=True, kw_only=True)
class HeldOut:
    """The loss on held-out data: means over supervised tokens."""

    step: int
    loss: float
    dataset_loss: Mapping[str, float]
    supervised: int
    seconds: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Ran:
    """An evaluation by a command of the user's."""

    step: int
    #: As it ran, with secrets struck out.
    command: str
    #: Negative where a signal ended it.
    exit_code: int
    seconds: float
    #: The last line of its output that is not empty, secrets struck out.
    last_line: str
    #: The file of all its output.
    output: Path


@dataclass(frozen=True, slots=True, kw_only=True)
class Saved:
    """A checkpoint that is whole."""

    step: int
    folder: Path
    bytes: int
    seconds: float


class Watch(Protocol):
    """Is told how training gets on, by every rank's loop; only rank 0's tells it on.

    The loop calls ``started`` once, ``stepped`` behind every step and *before* it saves: what it raises leaves the
    checkpoint before the bad step the newest one.
    """

    def started(self, start: Start) -> None:
        """The first step is about to begin; what the log holds of later steps than ``start.step`` is forgotten."""

    def stepped(self, entry: Entry) -> None:
        """A step is done; raises Alarm, on all ranks alike, where training should not go on."""

    def evaluated(self, held_out: HeldOut) -> None:
        """The held-out loss was computed."""

    def ran(self, ran: Ran) -> None:
        """An evaluation command has ended, whether well or not."""

    def saved(self, saved: Saved) -> None:
        """A checkpoint is whole."""

    def say(self, text: str) -> None:
        """Something the user should know."""

    def ended(self, how: str) -> None:
        """Nothing follows: ``done``, or why not."""


class Guard:
    """The watch of a rank other than 0: sees the alarms that rank 0 sees, and writes nothing."""

    def __init__(self, rules: Rules) -> None:
        self._rules = rules
        self._recent: deque[Entry] = deque(maxlen=rules.memory)

    def started(self, start: Start) -> None:
        """Nothing to do."""

    def stepped(self, entry: Entry) -> None:
        """Raise Alarm where training should not go on."""
        self._recent.append(entry)
        if reason := alarm(self._recent, self._rules):
            raise Alarm(reason)

    def evaluated(self, held_out: HeldOut) -> None:
        """Nothing to do."""

    def ran(self, ran: Ran) -> None:
        """Nothing to do."""

    def saved(self, saved: Saved) -> None:
        """Nothing to do."""

    def say(self, text: str) -> None:
        """Nothing to do: rank 0 says it."""

    def ended(self, how: str) -> None:
        """Nothing to do."""


@dataclass(kw_only=True)
class Writer:
    """The watch of rank 0: a line of ``log.jsonl`` for everything, and progress for whoever looks on."""

    #: The run folder.
    out: Path
    rules: Rules
    #: Steps between two lines of progress where there is no terminal.
    log_every: int = 1
    progress: Progress = field(default_factory=progress)

    def started(self, start: Start) -> None:
        """Open the log and forget what it holds of later steps."""
        self._recent: deque[Entry] = deque(maxlen=self.rules.memory)
        self._start = start
        self._log = Log(self.out / "log.jsonl", step=start.step)
        self._write(start.step, event="started", steps=start.steps, world=start.world, peak=start.peak)
        self.progress.start(start, log_every=self.log_every)

    def stepped(self, entry: Entry) -> None:
        """Log the step and show it; raises Alarm where training should not go on, and logs that, too."""
        self._recent.append(entry)
        line = step_line(entry, peak=self._start.peak)
        self._log.write(line)
        self.progress.stepped(entry, line)
        if reason := alarm(self._recent, self.rules):
            self._write(entry.step, event="alarm", text=reason)
            raise Alarm(reason)
        if doubt := warning(self._recent, self.rules):
            self._write(entry.step, event="warning", text=doubt)
            self.progress.say(doubt)

    def evaluated(self, held_out: HeldOut) -> None:
        """Log and show the held-out loss."""
        self._write(
            held_out.step,
            held_out=held_out.loss,
            held_out_datasets=dict(held_out.dataset_loss),
            supervised=held_out.supervised,
            seconds=held_out.seconds,
        )
        self.progress.evaluated(held_out)

    def ran(self, ran: Ran) -> None:
        """Log an evaluation command and tell how it ended."""
        self._write(
            ran.step,
            command=ran.command,
            exit_code=ran.exit_code,
            seconds=ran.seconds,
            last_line=ran.last_line,
            output=str(ran.output),
        )
        how = "" if ran.exit_code == 0 else f" failed with exit code {ran.exit_code}, its output is in {ran.output}"
        self.progress.say(f"step {ran.step:,}: the evaluation command{how}: {ran.last_line or 'it said nothing'}")

    def saved(self, saved: Saved) -> None:
        """Log a checkpoint, and see that the disk holds the log up to it."""
        self._write(saved.step, saved=str(saved.folder), bytes=saved.bytes, seconds=saved.seconds)
        self._log.sync()

    def say(self, text: str) -> None:
        """Print a line above the bar."""
        self.progress.say(text)

    def ended(self, how: str) -> None:
        """Close the log."""
        self.progress.stop()
        self._write(self._recent[-1].step if self._recent else self._start.step, event="ended", text=how)
        self._log.close()

    def _write(self, step: int, **values: Any) -> None:
        self._log.write({"step": step, **values, "time": round(time.time(), 3)})


def step_line(entry: Entry, *, peak: float) -> dict[str, Any]:
    """The log's line of a step; ``mfu`` is None where the model's FLOPs or the devices' peak are not known."""
    used = entry.flops / entry.seconds / peak if entry.flops and peak and entry.seconds else None
    return {
        "step": entry.step,
        "epoch": round(entry.epoch, 6),
        "loss": entry.loss,
        "dataset_loss": dict(entry.dataset_loss),
        "lr": entry.lr,
        "norm": entry.norm,
        "skipped": entry.skipped,
        "tokens": entry.tokens,
        "supervised": entry.supervised,
        "slots": entry.slots,
        "seconds": round(entry.seconds, 6),
        "seconds_model": round(entry.seconds_model, 6),
        "tokens_per_second": _pace(entry.tokens, entry.seconds),
        "supervised_per_second": _pace(entry.supervised, entry.seconds),
        "mfu": None if used is None or not math.isfinite(used) else round(used, 4),
        "time": round(time.time(), 3),
    }


def _pace(count: int, seconds: float) -> float | None:
    return round(count / seconds, 1) if seconds > 0 else None
