"""A backend whose replicas die, stall and complain as a test tells them to; real ones do so too seldom."""

from __future__ import annotations

import os
import signal
import time
from contextlib import suppress
from pathlib import Path

from evalkit import Backend, Generation, Text, hookimpl
from evalkit.errors import EngineDied, ModelError


class Fragile(Backend):
    """Answers in capitals. ``model`` is a folder in which each process that opens leaves a link, named by how many did
    so before, to its process number.

    ``deadly`` is the prompt that kills the process, ``breaking`` one that breaks the engine; each counts only for the
    first ``times`` processes. The first process alone takes ``stall`` seconds an answer. Each process waits before its
    41st answer until the file ``gate`` is there.
    """

    can = frozenset({"generate"})
    streams = True

    def __init__(
        self,
        model: str,
        *,
        delay: float = 0.0,
        stall: float = 0.0,
        gate: str = "",
        deadly: str = "",
        breaking: str = "",
        times: int = 1000,
        wrong: str = "",
    ) -> None:
        self._folder, self._delay, self._stall, self._wrong = Path(model), delay, stall, wrong
        self._deadly, self._breaking, self._times = deadly, breaking, times
        self._gate, self._answered = gate, 0

    def open(self) -> None:
        if self._wrong == "model":
            raise ModelError("The weights are of another model.")
        if self._wrong == "engine":
            raise RuntimeError("no kernel image")
        # Two may open at once, and each number is taken by one.
        while True:
            self._number = len(list(self._folder.iterdir()))
            with suppress(FileExistsError):
                (self._folder / str(self._number)).symlink_to(str(os.getpid()))
                return

    def generate(self, requests):
        for position, request in requests:
            time.sleep(self._stall if self._stall and self._number == 0 else self._delay)
            while self._gate and self._answered >= 40 and not Path(self._gate).exists():
                time.sleep(0.01)
            self._answered += 1
            if request.prompt == self._deadly and self._number < self._times:
                os.kill(os.getpid(), signal.SIGKILL)
            if request.prompt == self._breaking and self._number < self._times:
                raise EngineDied("The engine died: it was told to.")
            yield position, Generation(texts=(Text(text=request.prompt.upper()),) * request.n)

    def remarks(self):
        return ("It answers in capitals.",)

    def account(self):
        return "fragile: all well"


class Chunked(Fragile):
    """The same, given finite chunks."""

    streams = False


@hookimpl
def backend():
    return Fragile if __name__ == "evalkit_fragile" else Chunked
