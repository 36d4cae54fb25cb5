"""Clusters to test on: started within a limit, and given up only where Ray itself does not work on this machine."""

from __future__ import annotations

import subprocess
import sys
import tempfile
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

import pytest

from evalkit.errors import ModelError

if TYPE_CHECKING:
    from evalkit_ray.cluster import Cluster

T = TypeVar("T")

#: Ray as its manual shows it, with nothing of ours.
PLAIN = """
import ray
ray.init(address="local", num_cpus=1, include_dashboard=False, object_store_memory=100 * 2**20)
assert ray.get(ray.remote(lambda: 2 + 2).remote()) == 4
ray.shutdown()
"""


def started(start: Callable[[], T]) -> T:
    """What ``start`` gives at the first or at the second attempt; else a failure, or a skip by ``require_ray``."""
    try:
        return start()
    except ModelError as error:
        sys.stderr.write(f"At the first attempt: {error}\n{logs()}\n")
    try:
        return start()
    except ModelError as error:
        sys.stderr.write(f"At the second attempt: {error}\n{logs()}\n")
        require_ray()
        raise


def working(*, cpus: int) -> Cluster:
    """A cluster of our own that has carried out a task."""
    import ray

    from evalkit_ray.cluster import Cluster

    made = Cluster(None, cpus=cpus)
    try:
        ray.get(ray.remote(lambda: None).remote(), timeout=120)
    except BaseException as error:
        made.close()
        if isinstance(error, ray.exceptions.GetTimeoutError):
            raise ModelError("The cluster was started, but carries out nothing.") from error
        raise
    return made


def require_ray() -> None:
    """Skip the test if Ray itself cannot start here and run one task in two minutes; asked when ours has not."""
    if why := _plainly():
        pytest.skip(f"Ray does not work on this machine: ray.init and one task, without any code of ours, {why}")


@cache
def _plainly() -> str:
    """How a program that needs nothing but Ray fails; empty where it works."""
    program = [sys.executable, "-c", PLAIN]
    try:
        done = subprocess.run(
            program,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            timeout=120,
            check=False,
        )
    except subprocess.TimeoutExpired as error:
        why, said = "does not end within 120 s", error.stdout or b""
    else:
        if done.returncode == 0:
            return ""
        why, said = f"ends with {done.returncode}", done.stdout
    return f"{why}: " + " / ".join(said.decode(errors="replace").strip().splitlines()[-5:])


def logs() -> str:
    """The last lines of the newest logs that Ray itself wrote."""
    places = {Path(tempfile.gettempdir(), "ray"), Path("/tmp/ray")}
    sessions = [one for place in places for one in place.glob("session_2*/logs")]
    if not sessions:
        return "Ray left no logs."
    newest = max(sessions, key=lambda one: one.stat().st_mtime)
    files = [newest / name for name in ("gcs_server.out", "raylet.out", "raylet.err", "monitor.log")]
    ends = [f"{one}:\n" + "\n".join(one.read_text(errors="replace").splitlines()[-8:]) for one in files if one.exists()]
    return "\n".join(ends)
