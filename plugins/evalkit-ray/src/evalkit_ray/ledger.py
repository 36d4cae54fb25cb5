"""Who has which requests: handed out by tokens, taken from the lost, copied for the idle, answered once."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import count
from typing import Any

from evalkit.backend import Indexed
from evalkit.types import GenerateRequest, Generation, Likelihood, Request, Response, Text

#: A request that has taken this many replicas down with it is answered with an error.
DEATHS = 3
#: Handed out at a time: this part of a budget, and no more requests than this.
PIECE, REQUESTS = 64, 32
#: The part of a budget that may be under way together after having been under way when a replica died.
SUSPECTS = 8

_serials = count()


@dataclass(slots=True, kw_only=True, eq=False)
class Job:
    """A request on its way: who has it changes until it is answered."""

    #: Different for every request that this process ever hands out, so that a late answer is not taken for another's.
    serial: int = field(default_factory=lambda: next(_serials))
    position: int
    request: Request
    #: Tokens of the prompt and the longest answer.
    cost: int
    #: The numbers of the replicas that have it.
    holders: set[int] = field(default_factory=set)
    #: How many replicas died while they had it.
    deaths: int = 0

    def failed(self) -> Response:
        """The response to a request that takes every replica down."""
        error = f"{self.deaths} replicas died, one after the other, while they worked on this request."
        if isinstance(self.request, GenerateRequest):
            return Generation(texts=(Text(error=error),) * self.request.n)
        return Likelihood(error=error)


class Ledger:
    """The requests of one iterator, which is read no further than replicas have room."""

    def __init__(self, requests: Iterable[Indexed[Any]], *, cost: Callable[[Request], int], budget: int) -> None:
        self._source: Iterator[Indexed[Any]] | None = iter(requests)
        self._cost = cost
        self._budget = budget
        #: Not with anybody: by how many replicas died while they had them.
        self._waiting: tuple[deque[Job], ...] = tuple(deque() for _ in range(DEATHS))
        #: Handed out and not answered, oldest first.
        self._owed: dict[int, Job] = {}
        self._held: dict[int, dict[int, Job]] = {}
        self._load: dict[int, int] = {}
        self.copies = self.again = 0

    @property
    def done(self) -> bool:
        """Whether every request is answered."""
        return self._source is None and not self._owed and not any(self._waiting)

    def load(self, worker: int) -> int:
        """The tokens that a replica has to work on."""
        return self._load.get(worker, 0)

    def give(self, worker: int) -> list[Job]:
        """The next piece of work for a replica; nothing where it has enough to do, or there is none.

        What was under way when a replica died comes last, and in ever smaller company, so that it is found out which
        request it was: after two deaths a request is asked alone.
        """
        held, room = self._held.setdefault(worker, {}), self._budget - self.load(worker)
        piece = max(1, self._budget // PIECE)
        if any(job.deaths > 1 for job in held.values()) or (held and room < piece):
            return []
        if jobs := self._up_to(piece, self._fresh):
            return self._handed(worker, jobs)
        narrow = max(1, self._budget // SUSPECTS) - self.load(worker)
        if jobs := self._up_to(min(piece, narrow), lambda: self._suspect(1)):
            return self._handed(worker, jobs)
        if not held and (job := self._suspect(2)):
            return self._handed(worker, [job])
        return []

    def copy(self, worker: int) -> list[Job]:
        """Copies, for a replica that has nothing to do, of what others were given last, and so come to last.

        Begun at the other end, what is left of a chunk is done when the two meet.
        """
        waiting = (job for job in reversed(list(self._owed.values())) if not job.deaths and len(job.holders) == 1)
        jobs = self._up_to(max(1, self._budget // PIECE), lambda: next(waiting, None))
        self.copies += len(jobs)
        return self._handed(worker, jobs)

    def owed(self, worker: int) -> list[int]:
        """The serials of what a replica has to work on."""
        return list(self._held.get(worker, ()))

    def richest(self) -> int | None:
        """The replica that has most to work on, if any has more than one request."""
        rich = [worker for worker, held in self._held.items() if len(held) > 1]
        return max(rich, key=self.load, default=None)

    def answered(self, worker: int, serial: int) -> Job | None:
        """The job that an answer is the first to; ``holders`` are then those who need not go on with it."""
        job = self._owed.pop(serial, None)
        if job is None:
            return None
        for holder in job.holders:
            self._drop(holder, job)
        job.holders.discard(worker)
        return job

    def given_back(self, worker: int, serials: Sequence[int]) -> None:
        """A replica has not begun these and will not."""
        for serial in reversed(serials):
            job = self._held.get(worker, {}).get(serial)
            if job is None:
                continue
            self._drop(worker, job)
            job.holders.discard(worker)
            if not job.holders:
                self._owed.pop(serial, None)
                self._waiting[job.deaths].appendleft(job)

    def lost(self, worker: int) -> list[Job]:
        """Take what a dead replica had, for others; gives those that have been the death of too many."""
        guilty = []
        for job in self._held.pop(worker, {}).values():
            job.holders.discard(worker)
            job.deaths += 1
            if job.deaths >= DEATHS:
                self._owed.pop(job.serial, None)
                for holder in job.holders:
                    self._drop(holder, job)
                guilty.append(job)
            elif not job.holders:
                self._owed.pop(job.serial, None)
                self._waiting[job.deaths].append(job)
                self.again += 1
        self._load.pop(worker, None)
        return guilty

    def _handed(self, worker: int, jobs: list[Job]) -> list[Job]:
        held = self._held.setdefault(worker, {})
        for job in jobs:
            job.holders.add(worker)
            held[job.serial] = self._owed[job.serial] = job
            self._load[worker] = self.load(worker) + job.cost
        return jobs

    def _drop(self, worker: int, job: Job) -> None:
        if self._held.get(worker, {}).pop(job.serial, None) is not None:
            self._load[worker] -= job.cost

    def _fresh(self) -> Job | None:
        if self._waiting[0]:
            return self._waiting[0].popleft()
        if self._source is None:
            return None
        found = next(self._source, None)
        if found is None:
            self._source = None
            return None
        return Job(position=found[0], request=found[1], cost=max(1, self._cost(found[1])))

    def _suspect(self, deaths: int) -> Job | None:
        return self._waiting[deaths].popleft() if self._waiting[deaths] else None

    @staticmethod
    def _up_to(tokens: int, take: Callable[[], Job | None]) -> list[Job]:
        """Jobs until they have so many tokens; one at least, where there is one, and a piece at most."""
        jobs: list[Job] = []
        while tokens > 0 and len(jobs) < REQUESTS and (job := take()) is not None:
            jobs.append(job)
            tokens -= job.cost
        return jobs
