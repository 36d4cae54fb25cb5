"""Runs many programs over the cores of the machine, and outlives the end of any process that it has started."""

from __future__ import annotations

import os
import selectors
import time
from collections import deque
from collections.abc import Collection, Hashable, Iterable, Iterator
from typing import Generic, NamedTuple, Self, TypeVar

from evalkit.errors import EvalkitError
from evalkit_sandbox.inside.layers import LAYERS, Limits
from evalkit_sandbox.program import Outcome, Program
from evalkit_sandbox.worker import Worker

K = TypeVar("K", bound=Hashable)

#: Programs that a worker has at a time, so that it never waits for the next.
_AHEAD = 2
#: How often the processes of one program may end before it is given up.
_STRIKES = 3
#: Seconds of processor time that a judge may take over one answer before it is ended.
_STUCK = 15.0


_LIMITS = Limits()


class _Job(NamedTuple, Generic[K]):
    key: K
    program: Program
    limits: Limits
    strikes: int


class Sandbox:
    """A pool of workers; use it in a ``with`` statement."""

    def __init__(
        self, *, layers: Collection[str] = LAYERS, limits: Limits = _LIMITS, workers: int | None = None
    ) -> None:
        self.layers, self.limits = frozenset(layers), limits
        self._count = workers or len(os.sched_getaffinity(0))
        self._workers: list[Worker] = []

    def __enter__(self) -> Self:
        """Start the workers; raises EvalkitError where a layer cannot be put on."""
        try:
            for number in range(self._count):
                self._workers.append(self._worker(number))
            for worker in self._workers:
                worker.ready()
        except BaseException:
            self.close()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """End all processes."""
        while self._workers:
            self._workers.pop().close()

    def _worker(self, number: int) -> Worker:
        # Where there are fewer workers than cores, the system finds each the core that is least busy.
        bound = self._count >= len(os.sched_getaffinity(0))
        return Worker(number, self.layers, self.limits, bound=bound)

    def started(self, number: int) -> Worker:
        """A new worker for the place of one that has ended; raises EvalkitError where none can be had any more."""
        worker = self._worker(number)
        try:
            worker.ready()
        except BaseException:
            worker.close()
            raise
        return worker

    @property
    def workers(self) -> tuple[Worker, ...]:
        """The workers of now."""
        return tuple(self._workers)

    def run(self, program: Program, *, limits: Limits | None = None) -> Outcome:
        """Run one program."""
        (found,) = self.run_all([(0, program)], limits=limits)
        return found[1]

    def run_all(
        self, programs: Iterable[tuple[K, Program]], *, limits: Limits | None = None
    ) -> Iterator[tuple[K, Outcome]]:
        """Run programs side by side and yield each one's outcome with its key, as they come.

        ``limits`` are for these programs; they cannot be wider than the sandbox's own.
        Raises EvalkitError where a check cannot be used, or where a program's processes end again and again.
        """
        for number, worker in enumerate(self._workers):
            if worker.closed:
                self._workers[number] = self.started(number)
        with _Round(self._workers, programs, limits or self.limits, self) as round_:
            yield from round_.outcomes()


class _Round(Generic[K]):
    """One pass over programs: who has which, and what is left."""

    def __init__(
        self, workers: list[Worker], programs: Iterable[tuple[K, Program]], limits: Limits, box: Sandbox
    ) -> None:
        self._workers, self._box = workers, box
        self._left = (_Job(key, program, limits, 0) for key, program in programs)
        self._again: deque[_Job[K]] = deque()
        self._busy: list[deque[_Job[K]]] = [deque() for _ in workers]
        #: The processor time of each judge when its program began.
        self._began = [0.0 for _ in workers]
        self._selector = selectors.DefaultSelector()

    def __enter__(self) -> Self:
        for number, worker in enumerate(self._workers):
            self._selector.register(worker, selectors.EVENT_READ, number)
            self._began[number] = self._spent(number)
        return self

    def __exit__(self, *_: object) -> None:
        self._selector.close()
        for worker, jobs in zip(self._workers, self._busy, strict=False):  # none where it was closed
            if jobs:  # left in the middle: its answers must not reach the next round
                worker.close()

    def outcomes(self) -> Iterator[tuple[K, Outcome]]:
        for number in range(len(self._workers)):
            self._feed(number)
        while any(self._busy):
            for chosen, _ in self._selector.select(1.0):
                yield from self._collect(chosen.data)
            for number, jobs in enumerate(self._busy):
                if jobs and self._spent(number) - self._began[number] > _STUCK:
                    job = jobs.popleft()
                    self._replace(number)
                    yield job.key, Outcome(reason="timed-out cpu", wall=_STUCK, cpu=0.0, work=0.0, memory=0)

    def _collect(self, number: int) -> Iterator[tuple[K, Outcome]]:
        jobs = self._busy[number]
        try:
            answer = self._workers[number].receive()
        except OSError:
            self._strike(number)
            return
        job = jobs.popleft()
        self._began[number] = self._spent(number)
        self._feed(number)
        if "error" in answer:
            raise EvalkitError(f"{job.key!r} cannot be judged: {answer['error']}.")
        reason, wall, cpu, work, memory = answer["outcome"]
        yield job.key, Outcome(reason=reason, wall=wall, cpu=cpu, work=work, memory=memory)

    def _feed(self, number: int) -> None:
        jobs, worker = self._busy[number], self._workers[number]
        while len(jobs) < _AHEAD:
            job = self._again.popleft() if self._again else next(self._left, None)
            if job is None:
                return
            jobs.append(job)
            check = job.program.check
            sent = [job.program.source, check.setup, check.test, check.entry_point, check.function, check.reference]
            try:
                worker.send({"job": [*sent, job.limits]})
            except OSError:
                self._strike(number)
                return

    def _strike(self, number: int) -> None:
        """A worker has ended: replace it and try again what it had."""
        jobs = self._busy[number]
        if jobs:
            job = jobs.popleft()
            if job.strikes + 1 >= _STRIKES:
                self._workers[number].close()
                raise EvalkitError(
                    f"The sandbox ended {_STRIKES} times while it ran a program for {job.key!r}; repeat the command."
                )
            jobs.appendleft(job._replace(strikes=job.strikes + 1))
        self._replace(number)

    def _replace(self, number: int) -> None:
        jobs = self._busy[number]
        self._again.extend(jobs)
        jobs.clear()
        self._selector.unregister(self._workers[number])
        self._workers[number].close()
        self._workers[number] = self._box.started(number)
        self._selector.register(self._workers[number], selectors.EVENT_READ, number)
        self._began[number] = self._spent(number)  # what it took to start is none of its program's
        self._feed(number)

    def _spent(self, number: int) -> float:
        """Seconds of processor time that a judge has taken."""
        try:
            return time.clock_gettime(~self._workers[number].pids[0] << 3 | 2)
        except OSError:
            return 0.0
