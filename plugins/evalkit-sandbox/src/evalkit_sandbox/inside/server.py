"""The fork server of a cage: makes a candidate of itself whenever the judge asks for one."""

from __future__ import annotations

import gc
import os
import random
import select
import signal
import struct

# Without the module around it, which would burden every fork with all that it imports.
from _socket import CMSG_SPACE
from _socket import socket as Socket  # noqa: N812
from collections.abc import Iterable

from . import candidate, kernel, landlock, seccomp
from .layers import Limits

#: The judge's: make a candidate (its number, and a descriptor), end it. The server's: so it ended.
RUN, END = b"R", b"E"
NUMBER = struct.Struct("<cI")
ENDED = struct.Struct("<Iidq")
_DESCRIPTOR = struct.Struct("i")
_ROOM = CMSG_SPACE(_DESCRIPTOR.size)


class Server:
    """Forks candidates, kills them when told to, and says how each ended."""

    def __init__(self, judge: Socket, layers: frozenset[str], place: str) -> None:
        self._judge, self._layers, self._place = judge, layers, place
        less = set() if "namespaces" in layers else set(seccomp.MARKING)
        if not layers & {"namespaces", "landlock"}:
            less |= seccomp.NAMING
        self._filter = seccomp.program(os.uname().machine, less=less) if "seccomp" in layers else b""
        #: Candidate's pidfd -> its number, its process.
        self._alive: dict[int, tuple[int, int]] = {}
        self._poll = select.poll()
        self._self = os.pidfd_open(os.getpid())
        self._mode = os.stat(place).st_mode & 0o7777

    def wear(self, limits: Limits, readable: Iterable[str]) -> None:
        """Put on what candidates inherit: by their birth they cost nothing more for it."""
        if "hidden" in self._layers:
            kernel.hide_memory()
        if "rlimits" in self._layers:
            candidate.confine_use(limits, own=False, threads="namespaces" in self._layers)
        kernel.gain_nothing()
        if "landlock" in self._layers:
            kernel.landlock_restrict(self._rules(readable))

    def _rules(self, readable: Iterable[str]) -> int:
        own = "namespaces" in self._layers
        files = [("/", landlock.READ)] if own else [(path, landlock.READ) for path in readable]
        place = self._place, landlock.WRITE if own else landlock.WRITE_FILES
        devices = [(f"/dev/{name}", landlock.USE) for name in ("null", "zero", "urandom")]
        return landlock.ruleset(kernel.landlock_abi(), [*files, place, *devices])

    def serve(self) -> None:
        """Do what the judge says until it has gone."""
        gc.collect()
        gc.freeze()
        self._poll.register(self._judge, select.POLLIN)
        while True:
            for descriptor, _ in self._poll.poll(self._patience()):
                if descriptor in self._alive:
                    self._bury(descriptor)
                elif descriptor == self._judge.fileno():
                    self._obey()

    def _patience(self) -> int | None:
        """Milliseconds until the folder has to be looked at, where no file system of its own bounds what is in it."""
        if not self._alive or "namespaces" in self._layers:
            return None
        used = 0
        for entry in os.scandir(self._place):
            try:
                used += entry.stat(follow_symlinks=False).st_size + 4096
            except FileNotFoundError:  # it has just been removed
                continue
        if used > Limits().disk:
            # The oldest of them; the next has been born, but not yet run.
            signal.pidfd_send_signal(next(iter(self._alive)), signal.SIGKILL)
        return 5

    def _obey(self) -> None:
        message, extra, _, _ = self._judge.recvmsg(1024, _ROOM)
        if not message:
            raise SystemExit
        kind, number = NUMBER.unpack_from(message)
        if kind == RUN:
            ((_, _, descriptor),) = extra
            self._fork(number, _DESCRIPTOR.unpack(descriptor)[0], Limits.unpacked(message[NUMBER.size :]))
            return
        for pidfd, (alive, _) in self._alive.items():
            if alive == number:
                signal.pidfd_send_signal(pidfd, signal.SIGKILL)

    def _fork(self, number: int, descriptor: int, limits: Limits) -> None:
        namespaces = "namespaces" in self._layers
        if namespaces:
            kernel.unshare(kernel.CLONE_NEWPID)
        pid = os.fork()
        if not pid:
            candidate.live(descriptor, limits, self._layers, self._filter)
        if namespaces:
            kernel.bear_into(self._self)
        os.close(descriptor)
        pidfd = os.pidfd_open(pid)
        self._alive[pidfd] = number, pid
        self._poll.register(pidfd, select.POLLIN)

    def _bury(self, pidfd: int) -> None:
        """Say how a candidate ended, once nothing of it is left."""
        number, pid = self._alive.pop(pidfd)
        self._poll.unregister(pidfd)
        os.close(pidfd)
        _, status, used = os.wait4(pid, 0)
        _wipe(self._place, self._mode)
        code = os.waitstatus_to_exitcode(status)
        self._judge.send(ENDED.pack(number, code, used.ru_utime + used.ru_stime, used.ru_maxrss << 10))


def _wipe(place: str, mode: int) -> None:
    """Leave nothing in a folder, and no mark on it; a server that cannot ends, and another takes its place."""
    try:
        os.chmod(place, mode)
        os.utime(place, (0, 0))
    except PermissionError:  # it is somebody else's: no candidate could mark it either
        pass
    try:
        while names := os.listdir(place):
            for name in names:
                _take_away(place, f"{place}/{name}")
    except OSError:
        raise SystemExit(70) from None


def _take_away(place: str, path: str) -> None:
    """Remove a file; or a folder, after what is in it has come up: so no depth can exhaust anything."""
    if os.path.islink(path) or not os.path.isdir(path):
        os.unlink(path)
        return
    os.chmod(path, 0o700)
    free = (f"{place}/{number}" for number in range(1 << 20))
    for name in os.listdir(path):
        inner = f"{path}/{name}"
        if os.path.isdir(inner) and not os.path.islink(inner):
            os.chmod(inner, 0o700)
        os.rename(inner, next(one for one in free if not os.path.lexists(one)))
    os.rmdir(path)


def reach(descriptor: int) -> Socket:
    """The socket that a descriptor stands for."""
    return Socket(fileno=descriptor)


def warm(modules: Iterable[str]) -> None:
    """Import what candidates shall be born with."""
    for module in modules:
        __import__(module)
    random.seed(0)  # chance is the same for all candidates: a verdict that is made again is the same again


def forget_environment() -> None:
    """Leave candidates no variable, not even the one that fixed the seed of hashes."""
    for name in list(os.environ):
        del os.environ[name]
