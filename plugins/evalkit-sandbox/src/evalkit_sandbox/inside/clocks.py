"""How long a candidate has worked and waited, told apart, whatever else the machine does.

Processor time alone is no fair measure: the same program takes up to twice as much of it on a busy machine as on a
quiet one, for caches and cores are shared, and any number of times as much on another machine. So while a candidate
works, its judge does a fixed piece of work on the same core every now and then, and *work* is processor time in units
of that piece: seconds on a machine that does it in `PIECE`.
"""

from __future__ import annotations

import os
import time

#: Seconds that `_piece` takes on the reference machine (CPython 3.11 on a server processor of 2024, nothing beside it).
PIECE = 0.000475
#: Seconds between two looks at a candidate's clocks.
NEXT = 0.04


def bind(core: int) -> None:
    """Keep this process and its children on one core: where all cores have a worker, none gains by moving about."""
    os.sched_setaffinity(0, {core})


def _piece() -> float:
    """The processor time that a fixed piece of work takes now."""
    began, value = time.thread_time(), 0
    for turn in range(10_000):
        value = value * 31 + turn & 0xFFFFF
    return time.thread_time() - began


def lateness() -> float:
    """Seconds that this process was ready to work and had no core; 0 where the kernel does not tell."""
    try:
        with open("/proc/self/schedstat", "rb") as file:
            return int(file.read().split()[1]) / 1e9
    except (OSError, IndexError):
        return 0.0


class Clock:
    """Of one candidate, by the number that its process has here."""

    def __init__(self, core: int) -> None:
        self._core, self._free = core, set[int]()
        self._pid = 0
        self._late = lateness()
        self._pieces, self._sum = 0, 0.0
        self._cpu = self._delay = self._before = 0.0
        #: Seconds that the judge has waited for it.
        self.waited = 0.0
        self.began = time.monotonic()
        #: Since when it is ready; 0 until then.
        self.ready = 0.0

    def follow(self, pid: int) -> None:
        """It is ready, and this is its process: what it waits from now on is its own affair."""
        self._pid = pid
        self.waited, self._late = 0.0, lateness()
        self.ready = time.monotonic()

    def look(self) -> None:
        """Read the clocks and see how fast this core is now."""
        if not self._pid:
            return
        try:
            if not self._free:  # it is a slow one: from now on both are on one core
                self._free = os.sched_getaffinity(0)
                os.sched_setaffinity(0, {self._core})
                os.sched_setaffinity(self._pid, {self._core})
            self._cpu = time.clock_gettime(~self._pid << 3 | 2)  # the kernel's name for another process's clock
            delay = self._delayed()
        except OSError:  # it has just ended
            return
        if not self._pieces:  # it was born before its program came: what it waited for a core until then is not counted
            self._before = max(0.0, self._cpu + delay - self.waited)
        self._delay = delay - self._before
        self._sum += _piece()
        self._pieces += 1

    def release(self) -> None:
        """Let the judge use all the cores again that it could use before."""
        if self._free:
            os.sched_setaffinity(0, self._free)

    def _delayed(self) -> float:
        """Seconds that its threads were ready to work and had no core."""
        folder, found = f"/proc/{self._pid}/task", 0
        for thread in os.listdir(folder):
            with open(f"{folder}/{thread}/schedstat", "rb") as file:
                found += int(file.read().split()[1])
        return found / 1e9

    def work(self, cpu: float | None = None) -> float:
        """Seconds of work in seconds of processor time, those of the last look unless given."""
        cpu = self._cpu if cpu is None else cpu
        return cpu * PIECE * self._pieces / self._sum if self._pieces else cpu

    @property
    def idle(self) -> float:
        """Seconds in which it did nothing though it could have, up to the last look.

        The judge may notice an answer late, when it has no core itself: that is nothing of the candidate's.
        """
        return self.waited - self._cpu - self._delay - (lateness() - self._late)

    @property
    def wall(self) -> float:
        """Seconds since it was made."""
        return time.monotonic() - self.began
