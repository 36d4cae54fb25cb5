"""The judge's way to the fork server: candidates are ordered there, ended there, and how they ended is said there."""

from __future__ import annotations

import select
import socket
import struct
import time

from . import clocks, server
from .layers import Limits

#: Seconds for the server to say how a candidate ended that was killed.
PATIENCE = 30.0
#: How long a transfer waits for a candidate before limits are looked at: the kernel's ``struct timeval``.
_PATIENCE = struct.pack("ll", 0, int(clocks.NEXT * 1e6))


class Gone(Exception):
    """The cage has ended, or the main process has."""


class Candidate:
    """One candidate, as its judge sees it."""

    def __init__(self, number: int, end: socket.socket) -> None:
        self.number, self.socket = number, end
        #: How its process ended: exit code, processor time, peak memory.
        self.ended: tuple[int, float, int] | None = None


class Cage:
    """The judge's way to the fork server."""

    def __init__(self, control: socket.socket) -> None:
        self.control = control
        self._number = 0
        self._spare: tuple[Limits, Candidate] | None = None
        self._ordered: dict[int, Candidate] = {}

    def candidate(self, limits: Limits) -> Candidate:
        """One that has just been born; the next is ordered, too, so that it is born while this one works."""
        spare, self._spare = self._spare, None
        if spare and spare[0] == limits:
            found = spare[1]
        else:
            if spare:
                self.end(spare[1])
            found = self._order(limits)
        self._spare = limits, self._order(limits)
        return found

    def _order(self, limits: Limits) -> Candidate:
        self._number += 1
        mine, its = socket.socketpair()
        mine.setsockopt(socket.SOL_SOCKET, socket.SO_PASSCRED, 1)
        for patience in (socket.SO_RCVTIMEO, socket.SO_SNDTIMEO):
            mine.setsockopt(socket.SOL_SOCKET, patience, _PATIENCE)
        message = server.NUMBER.pack(server.RUN, self._number) + limits.packed()
        with its:
            socket.send_fds(self.control, [message], [its.fileno()])
        self._ordered[self._number] = found = Candidate(self._number, mine)
        return found

    def end(self, candidate: Candidate, *, grace: float = 0.0) -> tuple[int, float, int]:
        """Have it killed, after ``grace`` seconds to end by itself; exit code, processor time, peak memory."""
        if grace:
            self._hear(candidate, time.monotonic() + grace)
        if candidate.ended is None:
            self.control.send(server.NUMBER.pack(server.END, candidate.number))
            self._hear(candidate, time.monotonic() + PATIENCE)
        candidate.socket.close()
        if candidate.ended is None:
            raise Gone("The fork server does not answer.")
        return candidate.ended

    def _hear(self, candidate: Candidate, until: float) -> None:
        while candidate.ended is None:
            left = until - time.monotonic()
            if left <= 0 or not select.select([self.control], [], [], left)[0]:
                return
            message = self.control.recv(64)
            if not message:
                raise Gone("The fork server has ended.")
            number, code, cpu, memory = server.ENDED.unpack(message)
            self._ordered.pop(number).ended = code, cpu, memory
