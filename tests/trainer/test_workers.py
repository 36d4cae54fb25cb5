"""Worker processes: their results in order, their errors, and their death at any moment."""

from __future__ import annotations

import multiprocessing
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing, suppress
from pathlib import Path
from typing import Any

import pytest

from trainer.workers import WorkerKilled, results

ROOT = Path(__file__).parent.parent.parent
#: More than a pipe takes at once, so that who writes it waits for who reads it.
LONG = 1 << 22


@pytest.fixture(autouse=True)
def importable(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let spawned workers, which have this process's path, find the functions of this file."""
    monkeypatch.syspath_prepend(ROOT)


def squared(shared: int, task: int) -> int:
    return shared + task * task


def faulty(shared: object, task: int) -> int:
    if task == 3:
        raise ValueError("three")
    return task


def dying(shared: object, task: int) -> bytes:
    if task == 3:
        os.kill(os.getpid(), signal.SIGKILL)
    return b"x" * LONG


class Half:
    """Writes what multiprocessing writes of an answer, its length and then itself, in part; then its writer dies."""

    def __reduce__(self) -> Any:
        for open_ in Path("/proc/self/fd").iterdir():
            with suppress(FileNotFoundError):  # what the folder itself was read by
                if open_.readlink().name.startswith("socket:"):
                    os.write(int(open_.name), (100).to_bytes(4, "big") + b"half")
        os.kill(os.getpid(), signal.SIGKILL)


def half_written(shared: object, task: int) -> object:
    return Half() if task == 3 else b"x" * LONG


def stopped(shared: object, task: int) -> int:
    if task < 2:
        os.kill(os.getpid(), signal.SIGKILL if task else signal.SIGSTOP)
    return task


@pytest.mark.parametrize("fork", [False, True], ids=["spawned", "forked"])
@pytest.mark.parametrize("workers", [1, 2, 3])
def test_results_come_in_the_order_of_tasks(workers: int, fork: bool) -> None:
    found = results(squared, 5, range(20), workers=workers, fork=fork)
    assert list(found) == [5 + one * one for one in range(20)]
    assert not multiprocessing.active_children()


@pytest.mark.parametrize("workers", [1, 2])
def test_what_the_function_raises_is_raised_behind_the_results_before(workers: int) -> None:
    found: list[int] = []
    with pytest.raises(ValueError, match="three") as error:
        found.extend(results(faulty, None, range(9), workers=workers))
    assert (str(error.value), found) == ("three", [0, 1, 2])
    assert not multiprocessing.active_children()


def test_tasks_are_read_as_workers_get_to_them() -> None:
    read = []

    def tasks() -> Iterator[int]:
        for task in range(1000):
            read.append(task)
            yield task

    with closing(results(squared, 0, tasks(), workers=2)) as found:
        assert next(found) == 0
        assert len(read) < 10
    assert not multiprocessing.active_children()


@pytest.mark.parametrize("fork", [False, True], ids=["spawned", "forked"])
@pytest.mark.parametrize("function", [dying, half_written, stopped])
def test_the_death_of_a_worker_is_told(function: Any, fork: bool) -> None:
    with pytest.raises(WorkerKilled):
        list(results(function, None, range(9), workers=2, fork=fork))
    assert not multiprocessing.active_children()


@pytest.mark.parametrize("fork", [False, True], ids=["spawned", "forked"])
def test_workers_end_with_the_process_that_started_them(tmp_path: Path, fork: bool) -> None:
    program = tmp_path / "program.py"
    program.write_text(
        "from tests.trainer.test_workers import squared\n"
        "from trainer.workers import results\n"
        "import os\n"
        "if __name__ == '__main__':\n"
        f"    found = results(squared, 0, range(99), workers=3, fork={fork})\n"
        "    next(found)\n"
        "    os.kill(os.getpid(), 9)\n"
    )
    # Its workers write to the pipe, too: it ends when the last of them has ended.
    path = os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")])
    ran = subprocess.run(
        [sys.executable, program], env={**os.environ, "PYTHONPATH": path}, capture_output=True, timeout=300, check=False
    )
    assert (ran.returncode, ran.stderr) == (-signal.SIGKILL, b"")
