"""How a preparation's progress is told: a live bar on a terminal, lines elsewhere."""

from __future__ import annotations

import sys
import time
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rich.progress import Progress

    from trainer.preparation.prepare import Watch

#: Seconds between two lines where there is no terminal.
LINE_EVERY = 15.0


def watch() -> Watch:
    """The way of telling that fits where standard error goes."""
    return Live() if sys.stderr.isatty() else Lines()


class Lines:
    """A line now and then, for logs."""

    def say(self, text: str) -> None:
        """Print a line."""
        print(text, file=sys.stderr, flush=True)  # noqa: T201

    def start(self, *, total: int, done: int) -> None:
        """Begin to count."""
        self._total, self._done = total, done
        self._examples = self._tokens = 0
        self._began = self._last = time.monotonic()

    def prepared(self, *, size: int, examples: int, tokens: int) -> None:
        """Count a chunk, and print a line when the last one is long ago."""
        self._done += size
        self._examples += examples
        self._tokens += tokens
        if time.monotonic() - self._last >= LINE_EVERY:
            self._last = time.monotonic()
            pace = _pace(self._tokens, self._last - self._began)
            self.say(f"{self._done / self._total:.0%} of the text · {self._examples:,} examples · {pace}")

    def stop(self) -> None:
        """Print nothing: what follows says it all."""


class Live:
    """A progress bar on a terminal."""

    def __init__(self) -> None:
        from rich.console import Console

        self._console = Console(stderr=True)
        self._progress: Progress | None = None

    def say(self, text: str) -> None:
        """Print a line above the bar."""
        self._console.print(text, markup=False, highlight=False, soft_wrap=True)

    def start(self, *, total: int, done: int) -> None:
        """Show the bar."""
        from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

        self._examples = self._tokens = 0
        self._began = time.monotonic()
        columns = TextColumn("preparing"), BarColumn(), TextColumn("{task.percentage:.0f} %")
        numbers = TextColumn("{task.fields[pace]}"), TimeRemainingColumn()
        self._progress = Progress(*columns, *numbers, console=self._console, transient=True)
        self._task = self._progress.add_task("", total=total, completed=done, pace="")
        self._progress.start()

    def prepared(self, *, size: int, examples: int, tokens: int) -> None:
        """Move the bar."""
        self._examples += examples
        self._tokens += tokens
        if self._progress is not None:
            pace = f"{self._examples:,} examples · {_pace(self._tokens, time.monotonic() - self._began)}"
            self._progress.update(self._task, advance=size, pace=pace)

    def stop(self) -> None:
        """Take the bar away."""
        if self._progress is not None:
            self._progress.stop()
            self._progress = None


def _pace(tokens: int, seconds: float) -> str:
    return f"{tokens / max(seconds, 1e-9) / 1e6:.2f} million tokens a second"
