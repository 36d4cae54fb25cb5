"""How training is told: a live bar with its numbers on a terminal, plain lines elsewhere."""

from __future__ import annotations

import contextlib
import sys
from collections import deque
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    from rich.console import Console, RenderableType
    from rich.live import Live as RichLive

    from trainer.watching.told import Entry, HeldOut, Start

#: Steps whose mean time the rest of the run is estimated by.
RECENT = 20


class Progress(Protocol):
    """Shows the steps as they are done."""

    def start(self, start: Start, *, log_every: int) -> None:
        """The first step is about to begin."""

    def stepped(self, entry: Entry, line: Mapping[str, Any]) -> None:
        """A step is done; ``line`` is what the log holds of it."""

    def evaluated(self, held_out: HeldOut) -> None:
        """The held-out loss was computed."""

    def say(self, text: str) -> None:
        """Something the user should know."""

    def stop(self) -> None:
        """Nothing follows."""


def progress() -> Progress:
    """The way of telling that fits where standard error goes."""
    return Live() if sys.stderr.isatty() else Lines()


class Pace:
    """How long the rest will take, by the last steps."""

    def __init__(self, start: Start) -> None:
        self._steps = start.steps
        self._seconds: deque[float] = deque(maxlen=RECENT)

    def left(self, entry: Entry) -> str:
        """The time that the steps behind this one will take: ``1:02:03``."""
        self._seconds.append(entry.seconds)
        return duration(sum(self._seconds) / len(self._seconds) * (self._steps - entry.step))


class Lines:
    """A line every few steps, for logs."""

    def start(self, start: Start, *, log_every: int) -> None:
        """Begin to count, and say where."""
        self._steps, self._every = start.steps, max(log_every, 1)
        self._pace = Pace(start)
        done = f", {start.step:,} of them done before" if start.step else ""
        self.say(f"{start.steps:,} steps{done} · {ranks(start)} · {weights(start)}")

    def stepped(self, entry: Entry, line: Mapping[str, Any]) -> None:
        """Print a line, unless this step is passed over."""
        left = self._pace.left(entry)
        if entry.step % self._every == 0 or entry.step == self._steps:
            width = len(f"{self._steps:,}")
            numbers = " · ".join(f"{name} {value}" for name, value in shown(entry, line))
            parts = [f"step {entry.step:>{width},}/{self._steps:,}", numbers, f"{left} left"]
            if len(entry.dataset_loss) > 1:
                parts.append(", ".join(f"{name} {loss:.3f}" for name, loss in sorted(entry.dataset_loss.items())))
            self.say(" · ".join(parts))

    def evaluated(self, held_out: HeldOut) -> None:
        """Print the held-out loss."""
        self.say(evaluation(held_out))

    def say(self, text: str) -> None:
        """Print a line, to whoever still reads: `2>&1 | head` has had enough, and the run and its log go on."""
        with contextlib.suppress(OSError):
            print(text, file=sys.stderr, flush=True)  # noqa: T201

    def stop(self) -> None:
        """Nothing to take away."""


class Live:
    """A bar and the newest numbers on a terminal; what else is said scrolls above them."""

    def __init__(self, console: Console | None = None) -> None:
        from rich.console import Console

        self._console = console or Console(stderr=True)
        #: The newest loss of each dataset; a step need not have some of all.
        self._each: dict[str, float] = {}
        self._live: RichLive | None = None

    def start(self, start: Start, *, log_every: int) -> None:
        """Show the bar."""
        from rich.live import Live as RichLive

        self._steps = start.steps
        self._pace = Pace(start)
        self.say(f"{start.steps:,} steps · {ranks(start)} · {weights(start)}")
        self._live = RichLive(console=self._console, refresh_per_second=4)
        self._live.start()

    def stepped(self, entry: Entry, line: Mapping[str, Any]) -> None:
        """Show the newest numbers."""
        if self._live is not None:
            self._live.update(self._picture(entry, line))

    def evaluated(self, held_out: HeldOut) -> None:
        """Print the held-out loss above the bar."""
        self.say(evaluation(held_out))

    def say(self, text: str) -> None:
        """Print a line above the bar."""
        self._console.print(text, markup=False, highlight=False, soft_wrap=True)

    def stop(self) -> None:
        """Leave the last picture standing."""
        if self._live is not None:
            self._live.stop()
            self._live = None

    def _picture(self, entry: Entry, line: Mapping[str, Any]) -> RenderableType:
        from rich.columns import Columns
        from rich.console import Group
        from rich.progress_bar import ProgressBar
        from rich.table import Table
        from rich.text import Text

        top = Table.grid(padding=(0, 2))
        bar = ProgressBar(total=self._steps, completed=entry.step, width=30)
        top.add_row(
            Text(f"step {entry.step:,}/{self._steps:,}"),
            bar,
            Text(f"{entry.step / self._steps:.0%}"),
            Text(f"{self._pace.left(entry)} left"),
        )
        numbers = [Text.assemble((f"{name} ", "dim"), value) for name, value in shown(entry, line)]
        parts: list[RenderableType] = [top, Columns(numbers, padding=(0, 3))]
        self._each.update(entry.dataset_loss)
        if len(self._each) > 1:
            each = [Text.assemble((f"{name} ", "dim"), f"{loss:.3f}") for name, loss in sorted(self._each.items())]
            parts.append(Columns(each, padding=(0, 3)))
        return Group(*parts)


def shown(entry: Entry, line: Mapping[str, Any]) -> list[tuple[str, str]]:
    """The numbers of a step as names and values."""
    numbers = [
        ("loss", f"{entry.loss:.4f}"),
        ("lr", f"{entry.lr:.2e}"),
        ("norm", f"{entry.norm:.3g}" + (" skipped" if entry.skipped else "")),
        ("tokens/s", _count(line["tokens_per_second"])),
        ("supervised/s", _count(line["supervised_per_second"])),
    ]
    if line["mfu"] is not None:
        numbers.append(("MFU", f"{line['mfu']:.1%}"))
    return numbers


def ranks(start: Start) -> str:
    """Who computes: ``2 ranks, deepspeed, cpu``."""
    return f"{start.world:,} rank{'s' if start.world > 1 else ''}, {start.engine}, {start.device}"


def weights(start: Start) -> str:
    """What is trained: ``134,515,008 weights``."""
    part = "" if start.trainable == start.parameters else f", {start.trainable:,} of them trained"
    return f"{start.parameters:,} weights{part}"


def evaluation(held_out: HeldOut) -> str:
    """The held-out loss in a line."""
    each = ", ".join(f"{name} {loss:.4f}" for name, loss in sorted(held_out.dataset_loss.items()))
    return f"step {held_out.step:,}: held-out loss {held_out.loss:.4f}" + (f" ({each})" if each else "")


def duration(seconds: float) -> str:
    """Hours, minutes and seconds: ``1:02:03``, ``2:03``."""
    whole = round(max(seconds, 0))
    hours, minutes = whole // 3600, whole // 60 % 60
    return f"{hours}:{minutes:02}:{whole % 60:02}" if hours else f"{minutes}:{whole % 60:02}"


def _count(pace: float | None) -> str:
    return "–" if pace is None else f"{pace:,.0f}"
