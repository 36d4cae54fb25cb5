"""A worker: one judge and one cage, and the main process's way to them."""

from __future__ import annotations

import json
import os
import socket
import struct
import subprocess
import sys
import tempfile
from collections.abc import Collection
from pathlib import Path
from typing import Any

from evalkit.errors import EvalkitError
from evalkit_sandbox.inside import channel
from evalkit_sandbox.inside.layers import COMMON, MORE, Limits

#: The users that workers are where evalkit runs as root.
UIDS = range(60_600, 61_100)
#: Seconds for a worker to be ready.
_START = 60.0
#: Seconds for a worker to end by itself.
_END = 0.5
#: Adds its first argument to the path, for as long as it takes to import the second.
_BOOT = "import sys; sys.path.insert(0, sys.argv.pop(1)); from inside import {0}; del sys.path[0]; {0}.main()"
_HEAD = struct.Struct("<I")


class Worker:
    """A judge and its cage, both processes of their own that know nothing of this one; close it after use."""

    def __init__(self, number: int, wanted: Collection[str], limits: Limits, *, bound: bool) -> None:
        """Start both.

        ``number`` tells the workers of a process apart, ``wanted`` names the layers of the cage, ``limits`` are the
        widest that a program of this worker can have; ``bound`` keeps it on one core.
        """
        self.layers, self._limits = frozenset(wanted), limits
        self.uid = UIDS[(os.getpid() * 8 + number) % len(UIDS)] if "uid" in self.layers and is_root() else None
        self._place = tempfile.TemporaryDirectory(prefix="evalkit-", ignore_cleanup_errors=True)
        self._processes: list[subprocess.Popen[bytes]] = []
        self.closed = False
        orders, cage = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self.socket, judge = socket.socketpair()
        try:
            with orders, cage, judge:
                if self.uid is not None:
                    _give(self._place.name, self.uid)
                cores = sorted(os.sched_getaffinity(0))
                core = cores[number % len(cores)]
                self._processes.append(_start("cage", self._plan(core if bound else None), cage))
                self._processes.append(_start("judge", self._about(core, orders.fileno(), bound=bound), judge, orders))
        except BaseException:
            self.close()
            raise

    def _plan(self, core: int | None) -> str:
        # Where the library is out of reach later, all of it that may be wanted comes along at once: without a mount
        # namespace root's is to other users, and with nothing else to guard files no file can be opened.
        distant = self.uid is not None or "landlock" not in self.layers
        modules = (*COMMON, *MORE) if "namespaces" not in self.layers and distant else COMMON
        plan = sorted(self.layers), self.uid, modules, self._place.name, core, self._limits
        return channel.encode(plan).hex()

    def _about(self, core: int, orders: int, *, bound: bool) -> str:
        about = {"uid": self.uid, "cage": orders, "core": core, "bound": bound, "seccomp": "seccomp" in self.layers}
        return json.dumps(about)

    def ready(self) -> None:
        """Wait until programs can be run; raises EvalkitError with what a layer failed of."""
        self.socket.settimeout(_START)
        try:
            said = self.receive()
        except (ConnectionError, TimeoutError):
            said = "its processes ended or did not begin in time"
        finally:
            self.socket.settimeout(None)
        if said != "ready":
            raise EvalkitError(f"A sandbox cannot be set up here: {said}.")

    @property
    def pids(self) -> tuple[int, int]:
        """The processes of the judge and of the cage."""
        cage, judge = self._processes
        return judge.pid, cage.pid

    def fileno(self) -> int:
        """Of the socket on which the judge answers."""
        return self.socket.fileno()

    def send(self, message: Any) -> None:
        """Give the judge a job; raises ConnectionError where it has gone."""
        content = json.dumps(message).encode()
        self.socket.sendall(_HEAD.pack(len(content)) + content)

    def receive(self) -> Any:
        """The judge's next answer; raises ConnectionError where it has gone."""
        (size,) = _HEAD.unpack(self._read(_HEAD.size))
        return json.loads(self._read(size))

    def _read(self, size: int) -> bytes:
        found = self.socket.recv(size, socket.MSG_WAITALL)
        if len(found) != size:
            raise ConnectionError("A judge has ended.")
        return found

    def close(self) -> None:
        """End both processes, and with them every candidate."""
        self.closed = True
        self.socket.close()
        for process in reversed(self._processes):
            # An idle judge ends when nobody is left to give it work, and then its cage does; a busy one is not asked.
            try:
                process.wait(_END)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
        self._place.cleanup()


def _give(folder: str, uid: int) -> None:
    try:
        os.chown(folder, uid, uid)
    except OSError as error:
        raise EvalkitError(
            f"A sandbox cannot be set up here: root can give nothing to user {uid}: {error.strerror}."
        ) from error


def is_root() -> bool:
    """Whether this process is root, not only in a user namespace of its own."""
    if os.geteuid() != 0:
        return False
    try:
        return int(Path("/proc/self/uid_map").read_text().split()[1]) == 0
    except (OSError, ValueError, IndexError):
        return True


def _start(program: str, argument: str, stdin: socket.socket, *more: socket.socket) -> subprocess.Popen[bytes]:
    """Start a program of `inside` with no environment, no site-packages, and no descriptor but those given."""
    # The interpreter behind a virtual environment: what is installed there is none of a candidate's business.
    python = os.path.realpath(sys.executable)
    here = str(Path(__file__).parent)
    return subprocess.Popen(
        [python, "-S", "-s", "-P", "-B", "-c", _BOOT.format(program), here, argument],
        stdin=stdin.fileno(),
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        pass_fds=[one.fileno() for one in more],
        cwd="/",
        env={"PYTHONHASHSEED": "0"},
        start_new_session=True,  # Ctrl-C is for evalkit
    )
