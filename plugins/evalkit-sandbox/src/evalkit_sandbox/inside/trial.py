"""One run of one program: its test calls a stub, which has the candidate answer, within limits."""

from __future__ import annotations

import builtins
import os
import select
import socket
import struct
import time
from collections.abc import Callable
from typing import Any, NamedTuple, NoReturn, TypeVar

from . import channel, clocks
from .candidate import ANSWER, CALL, LOADED, NONCE, OVERSIZED, RAISED, READY, UNCOMPILED, UNLOADED, program
from .layers import Limits
from .orders import Candidate, Gone

T = TypeVar("T")

#: A run is over for certain when its work is so many times the limit; below that it may have been bad luck.
CERTAIN = 1.25
#: However busy the machine: nobody waits for so many times the limit.
_BACKSTOP = 100
#: Seconds for a candidate to be born and confined: nothing of the program has run before.
_BIRTH = 60.0
#: Why a trial ended that says nothing of the program yet: its process ended, or it did before it was confined.
ENDED, UNBORN = "ended", "unborn"


class Job(NamedTuple):
    """A program and its test, as the main process sends it."""

    source: str
    #: What the test stands on: the source of helpers that are the problem's, not the candidate's.
    setup: str
    test: str
    #: The candidate's function, and the test's.
    entry_point: str
    check: str
    #: A program that passes, to see how fast this machine is; empty for none.
    reference: str
    limits: list[Any]


class End(BaseException):
    """The candidate is done with; no test of a benchmark catches this."""


class CandidateError(Exception):
    """An exception of a class that only the candidate knows."""


class Trial:
    """One run of one program: what its test calls, and the deadline that stands over it.

    ``main`` tells when the main process has gone, whatever it had still said before.
    """

    def __init__(self, job: Job, limits: Limits, candidate: Candidate, main: select.poll, clock: clocks.Clock) -> None:
        self.job, self.limits, self.clock = job, limits, clock
        self._socket = candidate.socket
        self._main = main
        self._data = b""
        self._nonces = os.urandom(64 * NONCE)
        self._next = clock.began + clocks.NEXT
        #: Why it is over, once it is, and what the last call raised.
        self.reason = ""
        self.raised: BaseException | None = None
        self.opaque = False

    def load(self, needed: list[str]) -> None:
        """Have the candidate load its program."""
        for part in program(self.job.source, self.job.entry_point, needed):
            self._send(part)
        self._expect(READY)
        kind, name = self._receive()
        if kind == UNCOMPILED:
            self._over("syntax-error")
        if kind == UNLOADED:
            self._over(_reason(name))
        if kind != LOADED or name:
            self._over("malformed")

    def __call__(self, *arguments: Any, **keywords: Any) -> Any:
        """Call the candidate's function."""
        if self.reason:
            raise End
        nonce, self._nonces = self._nonces[:NONCE], self._nonces[NONCE:] or os.urandom(64 * NONCE)
        self._send(channel.frame(CALL + nonce + channel.encode((arguments, keywords))))
        kind, content = self._receive()
        if content[:NONCE] != nonce:
            self._over("malformed")
        if kind == OVERSIZED:
            self._over("too-large")
        if kind == RAISED:
            self._raise(content[NONCE:])
        if kind != ANSWER:
            self._over("malformed")
        try:
            answer, plain = channel.decode(content[NONCE:])
        except channel.Malformed:
            self._over("malformed")
        except channel.TooLarge:
            self._over("too-large")
        self.opaque = self.opaque or not plain
        return answer

    def finish(self) -> None:
        """The test has nothing more to ask; nothing may have been said that was not asked for."""
        try:
            more = self._socket.recv(1, socket.MSG_DONTWAIT)
        except OSError:
            more = b""
        if self._data or more:
            self._over("malformed")

    def _raise(self, name: bytes) -> NoReturn:
        reason = _reason(name)
        if not reason.startswith("exception"):
            self._over(reason)
        text = clean(name)
        kind = getattr(builtins, text, None)
        known = isinstance(kind, type) and issubclass(kind, Exception)
        self.raised = kind() if known and kind in _PLAIN else CandidateError(text)
        raise self.raised

    def _over(self, reason: str) -> NoReturn:
        self.reason = self.reason or reason
        raise End

    def _expect(self, kind: bytes) -> None:
        """The first frame, which tells whose it is: the kernel says so, not the candidate."""
        nothing: tuple[bytes, list[tuple[int, int, bytes]], int, Any] = (b"", [], 0, None)
        found, extra, _, _ = self._when_ready(lambda: self._socket.recvmsg(5, socket.CMSG_SPACE(12)), nothing)
        if found != channel.frame(kind):  # nothing of the program has run yet
            self._over(UNBORN)
        self.clock.follow(next((struct.unpack("iII", data)[0] for _, _, data in extra), 0))

    def _receive(self) -> tuple[bytes, bytes]:
        """The next frame's kind and content."""
        while len(self._data) < 4:
            self._more()
        try:
            size = 4 + channel.length(self._data[:4])
        except channel.TooLarge:
            self._over("too-large")
        while len(self._data) < size:
            self._more()
        found, self._data = self._data[4:size], self._data[size:]
        return found[:1], found[1:]

    def _more(self) -> None:
        found = self._when_ready(lambda: self._socket.recv(1 << 16), b"")
        if not found:
            self._over(ENDED)
        self._data += found

    def _send(self, data: bytes) -> None:
        left = memoryview(data)
        while left:
            sent = self._when_ready(lambda: self._socket.send(left), 0)  # noqa: B023  (called at once)
            if not sent:
                self._over(ENDED)
            left = left[sent:]

    def _when_ready(self, transfer: Callable[[], T], nothing: T) -> T:
        """What a transfer gives that waits for the candidate, ``nothing`` where that has gone; watches the limits."""
        while True:
            before = time.monotonic()
            if before >= self._next:
                self._look(before)
            try:
                return transfer()
            except BlockingIOError:  # the socket's own patience is at an end
                if self._main.poll(0):
                    raise Gone("The main process has ended.") from None
            except OSError:
                return nothing
            finally:
                self.clock.waited += time.monotonic() - before

    def _look(self, now: float) -> None:
        self._next = now + clocks.NEXT
        if not self.clock.ready:  # slow to be born: that is no fault of the program's
            if now - self.clock.began >= _BIRTH:
                self._over(UNBORN)
            return
        if self.limits.wall:
            if now - self.clock.ready >= self.limits.wall:
                self._over("timed-out wall")
            return
        self.clock.look()
        if self.clock.work() >= self.limits.work * CERTAIN:
            self._over("timed-out cpu")
        if self.clock.idle >= self.limits.idle or now - self.clock.began >= _BACKSTOP * self.limits.idle:
            self._over("timed-out wall")


#: Exceptions that a stub raises again by name: made of nothing, and saying nothing to the test but what they are.
_PLAIN = frozenset(
    kind
    for kind in vars(builtins).values()
    if isinstance(kind, type) and issubclass(kind, Exception) and not issubclass(kind, (UnicodeError, ExceptionGroup))
)


def clean(name: bytes) -> str:
    """A class's name as it may be shown."""
    text = name.decode("utf-8", "replace")
    return "".join(one if one.isascii() and one.isprintable() else "?" for one in text)[:60] or "?"


def _reason(name: bytes) -> str:
    """Why a program failed that raised an exception of this name."""
    if name == b"MemoryError":
        return "out-of-memory"
    return "ended-early" if name == b"SystemExit" else f"exception {clean(name)}"
