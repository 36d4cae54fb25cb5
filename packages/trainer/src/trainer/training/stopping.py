"""When a run should save and stop before its end: a signal, its launcher's death, or the time it was given."""

from __future__ import annotations

import os
import signal
import time
from types import FrameType
from typing import Any, Self

#: What schedulers and people send: Slurm's warning is one of the first two, Ctrl-C the third, a lost terminal the last.
SIGNALS = (signal.SIGTERM, signal.SIGUSR1, signal.SIGINT, signal.SIGHUP)


class Stopping:
    """Notes signals instead of dying of them, while it is entered; a second Ctrl-C is obeyed at once.

    A signal reaches one rank or all and at any moment, so nothing follows from it before all ranks agree on a step.
    ``minutes`` are what the run was given, 0 for any number; one that was ``launched`` has a parent that is to outlive
    it, and whose death with SIGKILL would otherwise leave its ranks to themselves.
    """

    def __init__(self, minutes: float, *, launched: bool = False) -> None:
        self._until = time.monotonic() + 60 * minutes if minutes else float("inf")
        self._parent = os.getppid() if launched else 0
        self._reason = ""
        self._before: dict[signal.Signals, Any] = {}

    def __enter__(self) -> Self:
        ignored = signal.getsignal(signal.SIGHUP) is signal.SIG_IGN  # by nohup, and the run is to outlive its terminal
        numbers = [one for one in SIGNALS if one != signal.SIGHUP or not ignored]
        self._before = {number: signal.signal(number, self._note) for number in numbers}
        return self

    def __exit__(self, *_: object) -> None:
        for number, before in self._before.items():
            signal.signal(number, before)

    @property
    def reason(self) -> str:
        """Why this rank would stop, as the beginning of a sentence; empty if it would not."""
        if not self._reason and self._parent and os.getppid() != self._parent:
            self._reason = "Its launcher is gone"
        if not self._reason and time.monotonic() >= self._until:
            self._reason = "Its time limit is reached"
        return self._reason

    def _note(self, number: int, _: FrameType | None) -> None:
        if self._reason and number == signal.SIGINT:
            raise KeyboardInterrupt
        self._reason = f"{signal.Signals(number).name} was received"
