"""Processes that work on one task after another; the death of one is told, whatever it was at.

Not those of `concurrent.futures`: they share two queues and the locks on them, and one that is killed while it reads or
writes, for want of memory perhaps, leaves all the others and their parent waiting for ever. Here each has a pipe of its
own, whose other end nobody else holds, so that its death is the end of what can be read there.
"""

from __future__ import annotations

import multiprocessing
import signal
import sys
import traceback
from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from multiprocessing import resource_tracker
from multiprocessing.connection import Connection
from multiprocessing.process import BaseProcess
from queue import SimpleQueue
from typing import Any, TypeVar

S = TypeVar("S")
T = TypeVar("T")
R = TypeVar("R")


class WorkerKilled(Exception):
    """A worker process is dead that was not asked to end."""


@dataclass(frozen=True, slots=True)
class _Worker:
    process: BaseProcess
    pipe: Connection

    def ask(self, task: object) -> Any:
        """What it makes of a task; raises what the function raises, and WorkerKilled."""
        try:
            self.pipe.send(task)
            error, answer = self.pipe.recv()
        except (EOFError, OSError):
            raise WorkerKilled from None
        if error is not None:
            raise error
        return answer


def results(
    function: Callable[[S, T], R], shared: S, tasks: Iterable[T], *, workers: int, fork: bool = False
) -> Generator[R, None, None]:
    """What a function makes of each task, in order, by so many processes; one is this process itself.

    ``function`` is called with ``shared`` and a task. Each worker is sent ``shared`` once; with ``fork`` it has it from
    this process, which saves time and memory where it is large, and with it all that this process has open, locks on
    files, too. Tasks are read as workers get to them. Raises what the function raises, and WorkerKilled. No worker
    outlives the generator or this process.
    """
    if workers <= 1:
        yield from (function(shared, task) for task in tasks)
        return
    started: list[_Worker] = []
    idle: SimpleQueue[_Worker] = SimpleQueue()
    # A thread for each worker waits for its answers, so that it has its next task at once, whatever our caller is at.
    threads = ThreadPoolExecutor(workers)
    try:
        with _deaf():
            for _ in range(workers):
                started.append(_start(function, shared, started if fork and sys.platform == "linux" else None))
                idle.put(started[-1])
        waiting: deque[Future[R]] = deque()
        for task in tasks:
            waiting.append(threads.submit(_ask, started, idle, task))
            if len(waiting) > 2 * workers:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()
    finally:
        for worker in started:  # whether it waits for a task, works on one, or was stopped by somebody
            worker.process.kill()
        threads.shutdown(cancel_futures=True)
        for worker in started:
            worker.process.join()
            worker.pipe.close()


def _ask(started: Sequence[_Worker], idle: SimpleQueue[_Worker], task: object) -> Any:
    worker = idle.get()
    try:
        return worker.ask(task)
    except WorkerKilled:
        for one in started:  # nobody is to wait for an earlier task, which may be with one that somebody stopped
            one.process.kill()
        raise
    finally:
        idle.put(worker)


def _start(function: Callable[[S, T], R], shared: S, before: Sequence[_Worker] | None) -> _Worker:
    """A worker that is spawned, or forked where it is told of those that were before it."""
    context: Any = multiprocessing.get_context("spawn" if before is None else "fork")
    ours, theirs = context.Pipe()
    inherited = [] if before is None else [*(one.pipe for one in before), ours]
    process = context.Process(target=_serve, args=(theirs, function, shared, inherited), daemon=True)
    process.start()
    theirs.close()
    return _Worker(process, ours)


def _serve(pipe: Connection, function: Callable[[S, T], R], shared: S, inherited: Sequence[Connection]) -> None:
    """Work until the pipe ends, which is when the parent does: nobody else may hold its ends of pipes."""
    for one in inherited:
        one.close()
    with suppress(EOFError, OSError):
        while True:
            task = pipe.recv()
            try:
                answer = None, function(shared, task)
            except Exception as error:  # for the parent to raise
                error.add_note(traceback.format_exc())
                pipe.send((error, None))
            else:
                pipe.send(answer)


@contextmanager
def _deaf() -> Iterator[None]:
    """Have the processes that start meanwhile never hear Ctrl-C, which a terminal sends to all: their parent does."""
    resource_tracker.ensure_running()  # it would be started with the first of them, and take the mask away
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT, signal.SIGTERM})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
