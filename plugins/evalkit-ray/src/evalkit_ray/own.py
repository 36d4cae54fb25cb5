"""A cluster of this machine alone: its head is a process of its own, and nothing waits for it without a limit."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from pathlib import Path
from typing import Any, TypeVar

from evalkit.errors import ModelError

T = TypeVar("T")

#: Seconds in which Ray starts or is joined, or else does not; quiet machines take three to ten.
LIMIT = 120.0
#: Seconds after which a cluster that does not end is killed.
ENDING = 12.0
#: Bytes of the shared memory that it sets aside; what passes through it is texts.
OBJECT_STORE = 128 * 2**20
#: The longest folder for temporary files below which the paths of Ray's sockets keep within what a system allows.
LONGEST = 40


class Head:
    """Ray's own processes, started by one that does nothing else.

    This one may have threads, and Ray starts its processes by running Python between fork and exec: a lock that another
    thread holds at that moment is held for ever. Raises ModelError where Ray does not start within ``limit`` seconds.
    """

    def __init__(self, *, cpus: int | None = None, limit: float = LIMIT) -> None:
        self._folder = Path(tempfile.mkdtemp(prefix="evalkit-ray-"))
        self._log = self._folder / "head.log"
        options: dict[str, Any] = {"object_store_memory": OBJECT_STORE}
        if cpus is not None:
            options["num_cpus"] = cpus
        if not _fits(Path(_temporary())):
            options["_temp_dir"] = f"/tmp/ray-{os.getuid()}"  # noqa: S108 (Ray makes a folder of its own in it)
        # -P: neither this folder nor the working one may hide a module that Ray imports.
        program = (sys.executable, "-P", str(Path(__file__).with_name("head.py")))
        with self._log.open("w") as log:
            self._process = subprocess.Popen(
                [*program, str(self._folder), str(limit), json.dumps(options)],
                stdin=subprocess.PIPE,
                stdout=log,
                stderr=log,
                env={**os.environ, "RAY_USAGE_STATS_ENABLED": "0"},
            )
        try:
            self.address, self.mode = self._told(limit)
        except BaseException as error:
            self._end(at_once=True, keep=isinstance(error, ModelError))
            raise

    def close(self) -> None:
        """End the cluster's processes."""
        self._end(at_once=False, keep=False)

    def _told(self, limit: float) -> tuple[str, str]:
        file, deadline = self._folder / "head.json", time.monotonic() + limit
        while not file.exists():
            if (code := self._process.poll()) is not None:
                lines = [line for line in self._log.read_text(errors="replace").splitlines() if line.strip()]
                last = lines[-1].strip()[:300].rstrip(".") if lines else f"its process ended with {code}"
                raise ModelError(f"Ray cannot be started on this machine: {last} (all of it is in {self._log}).")
            if time.monotonic() > deadline:
                raise ModelError(
                    f"Ray has not started on this machine within {limit:g} s: see {self._log} and {self._logs()}, "
                    "or start it by hand (`ray start --head`) and give address=auto."
                )
            time.sleep(0.05)
        told = json.loads(file.read_text())
        return told["address"], told["mode"]

    def _logs(self) -> str:
        """The folder of Ray's own logs, whose name ends with the number of the process that started it."""
        places = (Path(_temporary(), "ray"), Path(f"/tmp/ray-{os.getuid()}"))  # noqa: S108
        found = [one for place in places for one in place.glob(f"session_*_{self._process.pid}/logs")]
        return str(found[0] if found else places[0])

    def _end(self, *, at_once: bool, keep: bool) -> None:
        if self._process.stdin is not None:
            self._process.stdin.close()
        if not at_once:
            with contextlib.suppress(subprocess.TimeoutExpired):
                self._process.wait(ENDING)
        self._process.kill()  # its children end with it: Ray has the kernel see to that
        self._process.wait()
        if not keep:
            shutil.rmtree(self._folder, ignore_errors=True)


def within(limit: float, call: Callable[[], T]) -> T:
    """What a call gives; TimeoutError where it does not return in time, whatever it hangs in.

    It runs in a thread, which is left behind then: what waits inside a library cannot be stopped, only not waited for.
    """
    future: Future[T] = Future()

    def run() -> None:
        try:
            future.set_result(call())
        except BaseException as error:  # raised where the caller waits
            future.set_exception(error)

    threading.Thread(target=run, name="evalkit-ray-call", daemon=True).start()
    with _own_signals():
        return future.result(limit)


def join(address: str, mode: str) -> None:
    """Connect this process to the cluster of a ``Head``."""
    import ray

    if mode:  # of two processes that differ in it, neither understands the other
        os.environ["RAY_AUTH_MODE"] = mode
        with contextlib.suppress(ImportError, AttributeError):
            from ray._raylet import Config

            Config.initialize("")  # it has been read already
    with _loopback():
        ray.init(address=address, log_to_driver=False, logging_level="CRITICAL")


@contextlib.contextmanager
def _own_signals() -> Iterator[None]:
    """Ray puts a handler of its own, below Python's, in place of the one by which a run stops orderly."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.getsignal(signal.SIGTERM)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


@contextlib.contextmanager
def _loopback() -> Iterator[None]:
    """Have Ray take 127.0.0.1 for what it says; see ``head``, where a variable does it."""
    from ray._private import ray_constants

    before = getattr(ray_constants, "ENABLE_RAY_CLUSTER", None)
    ray_constants.ENABLE_RAY_CLUSTER = False
    try:
        yield
    finally:
        ray_constants.ENABLE_RAY_CLUSTER = before


def _fits(place: Path) -> bool:
    """Whether Ray can live there: its sockets' paths have a limit, and its workers refuse their virtual environment.

    Ray itself starts there all the same, and whoever joins it would wait for its workers for ever.
    """
    environment = os.environ.get("VIRTUAL_ENV")
    is_inside = environment and place.resolve().is_relative_to(Path(environment).resolve())
    return len(str(place)) <= LONGEST and not is_inside


def _temporary() -> str:
    """Where Ray puts its folder."""
    return os.environ.get("RAY_TMPDIR") or os.environ.get("TMPDIR") or "/tmp"  # noqa: S108
