"""What a training loop calls as it goes on: the watch of rank 0, which writes, and that of the other ranks."""

from __future__ import annotations

import math
import time
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from trainer.errors import Interrupted
from trainer.watching import log, run_file, trackers
from trainer.watching.alarms import Alarm, Rules, alarm, warning
from trainer.watching.progress import Progress, progress
from trainer.watching.secrets import redact
from trainer.watching.told import Entry, HeldOut, Ran, Saved, Start

if TYPE_CHECKING:
    from trainer.training.settings import Resolved


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


def open_watch(resolved: Resolved, *, rank: int) -> Watch:
    """The watch of a rank; raises TrainerError, on all of them, where the tracker's package is not installed.

    A rank that found it out alone, and later, would leave the others waiting for it.
    """
    trackers.require(resolved.settings.tracker)
    return Writer(resolved=resolved) if rank == 0 else Guard(rules(resolved))


def rules(resolved: Resolved) -> Rules:
    """What stops the run, as its settings say."""
    return Rules(spike=resolved.settings.spike, max_skipped=resolved.settings.max_skipped)


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
    """The watch of rank 0: ``run.json``, a line of ``log.jsonl`` for all that happens, a tracker, and progress."""

    resolved: Resolved
    progress: Progress = field(default_factory=progress)
    #: Open from the start to the end.
    _log: log.Log | None = field(default=None, init=False)
    _tracker: trackers.Tracker | None = field(default=None, init=False)

    def started(self, start: Start) -> None:
        """Write ``run.json``, open the log and forget what it holds of later steps.

        Raises TrainerError where the tracker that is asked for is not installed or does not start.
        """
        settings = self.resolved.settings
        self._out = Path(settings.out)
        self._rules = rules(self.resolved)
        self._recent: deque[Entry] = deque(maxlen=self._rules.memory)
        self._start = start
        config = {name: redact(one) if isinstance(one, str) else one for name, one in asdict(settings).items()}
        self._tracker = trackers.tracker(settings.tracker, out=self._out, settings=config, step=start.step)
        self._log = log.Log(self._out / log.NAME, step=start.step)
        run_file.write(self._out, self.resolved, start)
        self._write(start.step, event="started")
        self.progress.start(start, log_every=settings.log_every)

    def stepped(self, entry: Entry) -> None:
        """Log the step and show it; raises Alarm where training should not go on, and logs that, too."""
        self._recent.append(entry)
        line = step_line(entry, peak=self._start.peak)
        self._write(**line)
        self.progress.stepped(entry, line)
        self._track(lambda one: one.log(entry.step, trackers.step_values(entry, line)))
        if reason := alarm(self._recent, self._rules):
            self._write(entry.step, event="alarm", text=reason)
            raise Alarm(reason)
        if doubt := warning(self._recent, self._rules):
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
        self._track(lambda one: one.log(held_out.step, trackers.held_out_values(held_out)))

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
        if self._log is not None:
            self._log.sync()

    def say(self, text: str) -> None:
        """Print a line above the bar."""
        self.progress.say(text)

    def ended(self, how: str) -> None:
        """Close the log and the tracker and write the run card; nothing to do where nothing began."""
        self.progress.stop()
        self._track(lambda one: one.close())
        if self._log is not None:
            with suppress(Interrupted):  # on a full disk, of which the run has ended
                self._write(self._recent[-1].step if self._recent else self._start.step, event="ended", text=how)
                self._log.close()
            self._log = None
            self._card()

    def _card(self) -> None:
        from trainer.watching import card

        try:
            self.say(f"run card: {card.write(self._out)}")
        except Exception as error:  # what was learnt must not be lost for what is told of it
            self.say(f"the run card could not be written ({error}); `trainer card {self._out}` tries again")

    def _track(self, tell: Callable[[trackers.Tracker], None]) -> None:
        """Tell the tracker; one that fails, for want of a network perhaps, is told no more and stops no training."""
        if self._tracker is None:
            return
        try:
            tell(self._tracker)
        except Exception as error:  # each package has errors of its own
            self._tracker = None
            self.say(f"the tracker failed and is told no more; the log goes on: {redact(' '.join(str(error).split()))}")

    def _write(self, step: int, **values: Any) -> None:
        if self._log is not None:
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
    }


def _pace(count: int, seconds: float) -> float | None:
    return round(count / seconds, 1) if seconds > 0 else None
