"""The driver's side of the replicas: starts them, keeps them at work, and starts the lost ones anew."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from evalkit import errors
from evalkit.backend import Indexed
from evalkit.errors import EvalkitError, Interrupted, ModelError
from evalkit.types import Request, Response
from evalkit_ray.ledger import PIECE, REQUESTS, Job, Ledger
from evalkit_ray.replica import Fault, Item, Replica, Told

if TYPE_CHECKING:
    from evalkit_ray.cluster import Cluster, Needs

#: How often a replica is started anew without having answered anything since the last time.
RESTARTS = 5
#: Seconds: between two looks at replicas that load; an answer may be on its way once it is given; accounts may take.
LOOK, FETCH, ACCOUNTS = 0.5, 300.0, 5.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """What replicas run, and how many."""

    #: The wrapped model as it is typed, and its backend's options as texts.
    asked: str
    texts: Mapping[str, str]
    workers: int
    needs: Needs
    #: The tokens that a replica may have to work on at a time.
    budget: int
    #: Seconds that the cluster may take to find room.
    patience: float


@dataclass(slots=True, kw_only=True, eq=False)
class Worker:
    """A replica as the driver sees it."""

    number: int
    actor: Any = None
    placed: bool = False
    ready: bool = False
    #: Starts since the last answer.
    starts: int = 0
    #: It has been asked to give work back and has not replied, or replied that it had none.
    is_asked: bool = False


@dataclass(slots=True, kw_only=True)
class Tally:
    """What the account tells."""

    answered: int = 0
    restarts: int = 0
    again: int = 0
    copies: int = 0
    late: int = 0
    remarks: dict[str, None] = field(default_factory=dict)


class Event(NamedTuple):
    """What has come from a worker: the value of a call, or the error it ended with."""

    worker: Worker
    call: str
    value: Any
    error: Exception | None


class Crew:
    """The replicas of one model."""

    def __init__(self, cluster: Cluster, plan: Plan) -> None:
        import ray

        self.tally = Tally()
        self._cluster, self._plan = cluster, plan
        self._class = ray.remote(Replica)
        self._workers = [Worker(number=number) for number in range(plan.workers)]
        #: Each call that has not returned.
        self._calls: dict[Any, tuple[Worker, str]] = {}
        self._last_fault = ""
        self._is_open = False

    @property
    def size(self) -> int:
        """How many replicas there should be."""
        return len(self._workers)

    def open(self) -> None:
        """Start the replicas and wait until those with room have loaded; raises ModelError where none has in time."""
        for worker in self._workers:
            self._start(worker)
        deadline = time.monotonic() + self._plan.patience
        while not all(one.ready for one in self._workers if one.placed or (one.actor and time.monotonic() < deadline)):
            for event in self._events(max(LOOK, deadline - time.monotonic())):
                self._settle(event)
            self._require_some()
        if not any(worker.ready for worker in self._workers):
            raise ModelError(
                f"The cluster found no room for a replica of {self._plan.needs} within {self._plan.patience:g} s: "
                f"others use what it has ({self._cluster.describe()}). Wait for them, or raise placement_timeout."
            )
        self._is_open = True

    def answers(self, requests: Iterable[Indexed[Any]], cost: Callable[[Request], int]) -> Iterator[Indexed[Response]]:
        """Yield each response with its request's position, once."""
        ledger = Ledger(requests, cost=cost, budget=self._plan.budget)
        before = self.tally.again, self.tally.copies
        lonely_since = time.monotonic()
        try:
            while True:
                is_busy = self._hand_out(ledger)
                if ledger.done:  # only handing out meets the end of the requests
                    return
                for event in self._events(0 if is_busy else self._plan.patience):
                    yield from self._handle(event, ledger)
                if any(worker.ready for worker in self._workers):
                    lonely_since = time.monotonic()
                elif time.monotonic() - lonely_since > self._plan.patience:
                    self._stop(f"no new one was ready within {self._plan.patience:g} s")
                self.tally.again, self.tally.copies = before[0] + ledger.again, before[1] + ledger.copies
        finally:
            self._call_off(ledger)

    def accounts(self) -> list[str]:
        """What the replicas' own backends have to say."""
        import ray

        calls = [worker.actor.account.remote() for worker in self._workers if worker.ready]
        done, _ = ray.wait(calls, num_returns=len(calls), timeout=ACCOUNTS) if calls else ([], [])
        said = []
        for call in done:
            try:
                said.append(str(ray.get(call)))
            except ray.exceptions.RayError:  # it has just died
                continue
        return [line for line in said if line]

    def close(self) -> None:
        """End all replicas."""
        import ray

        self._calls.clear()
        for worker in self._workers:
            if worker.actor is not None:
                ray.kill(worker.actor)
                worker.actor = None
            worker.placed = worker.ready = False

    def _start(self, worker: Worker) -> None:
        budget = self._plan.budget
        options = {**self._plan.needs.options(), "max_concurrency": 8, "max_restarts": 0}
        worker.actor = self._class.options(**options).remote(
            self._plan.asked, self._plan.texts, str(Path.cwd()), chunk=budget // 4, piece=(budget // PIECE, REQUESTS)
        )
        worker.placed = worker.ready = worker.is_asked = False
        worker.starts += 1
        self._call(worker, "placed")
        self._call(worker, "opened")

    def _call(self, worker: Worker, name: str) -> None:
        self._calls[getattr(worker.actor, name).remote()] = worker, name

    def _events(self, timeout: float) -> Iterator[Event]:
        """What has come in, waiting for something at most so many seconds."""
        import ray

        if not self._calls:
            return
        ray.wait(list(self._calls), num_returns=1, timeout=timeout)
        done, _ = ray.wait(list(self._calls), num_returns=len(self._calls), timeout=0)
        for ref in done:
            if (held := self._calls.pop(ref, None)) is None:  # its worker was lost by an event before this one
                continue
            try:
                yield Event(*held, ray.get(ref, timeout=FETCH), None)
            except ray.exceptions.RayError as error:
                yield Event(*held, None, error)

    def _settle(self, event: Event) -> bool:
        """Take note of what became of a worker; whether it is lost."""
        worker = event.worker
        fault = event.value.fault if isinstance(event.value, Told) else event.value
        if event.error is not None:
            self._last_fault = _sentence(event.error)
        elif isinstance(fault, Fault):
            # A replica that is started anew may meet a node that lacks something; the others go on.
            if fault.kind and (event.call == "take" or not self._is_open):
                raise _as_raised(fault)
            if not self._is_open:
                raise ModelError(f"A replica could not load {self._plan.asked}: {fault.sentence}")
            self._last_fault = fault.sentence
        else:
            worker.placed = True
            if event.call == "opened":
                worker.ready = True
                self._call(worker, "take")
            return False
        self._lose(worker)
        return True

    def _lose(self, worker: Worker) -> None:
        import ray

        ray.kill(worker.actor)
        self._calls = {ref: held for ref, held in self._calls.items() if held[0] is not worker}
        worker.placed = worker.ready = False
        worker.actor = None
        if worker.starts <= RESTARTS:
            self.tally.restarts += 1
            self._start(worker)

    def _require_some(self) -> None:
        if all(worker.actor is None for worker in self._workers):
            self._stop(f"each was started anew {RESTARTS} times without answering anything")

    def _stop(self, why: str) -> None:
        cause = f" (the last one: {self._last_fault})" if self._last_fault else ""
        raise Interrupted(f"All replicas are lost{cause}, and {why}. What was answered is kept: repeat the command.")

    def _hand_out(self, ledger: Ledger) -> bool:
        """Give each replica a piece of work, the idlest first; whether there was any for one."""
        gave = False
        for worker in sorted((one for one in self._workers if one.ready), key=lambda one: ledger.load(one.number)):
            jobs = ledger.give(worker.number)
            if not jobs and not ledger.load(worker.number):
                jobs = self._from_others(worker, ledger)
            if jobs:
                items = [Item(job.serial, job.request, job.cost) for job in jobs]
                worker.actor.put.remote(items)
                worker.is_asked = False
                gave = True
        return gave

    def _from_others(self, idle: Worker, ledger: Ledger) -> list[Job]:
        """For a replica without work: what another has not begun, or else copies of what it has."""
        number = ledger.richest()
        if number is not None and number != idle.number and (rich := self._workers[number]).ready:
            if not rich.is_asked:
                rich.is_asked = True
                self._call(rich, "give_back")
            if any(held == (rich, "give_back") for held in self._calls.values()):
                return []
        return ledger.copy(idle.number)

    def _handle(self, event: Event, ledger: Ledger) -> Iterator[Indexed[Response]]:
        worker = event.worker
        if event.call == "take" and event.value is not None:
            yield from self._received(worker, event.value, ledger)
        if self._settle(event):
            for job in ledger.lost(worker.number):
                yield job.position, job.failed()
            self._require_some()
        elif event.call == "take":
            self._call(worker, "take")
        elif event.call == "give_back":
            ledger.given_back(worker.number, event.value)
            worker.is_asked = not event.value

    def _received(self, worker: Worker, told: Told, ledger: Ledger) -> Iterator[Indexed[Response]]:
        self.tally.remarks.update(dict.fromkeys(told.remarks))
        unwanted: dict[int, list[int]] = {}
        for serial, response in told.answers:
            worker.starts = 1
            job = ledger.answered(worker.number, serial)
            if job is None:
                self.tally.late += 1
                continue
            for holder in job.holders:
                unwanted.setdefault(holder, []).append(serial)
            self.tally.answered += 1
            yield job.position, response
        for holder, serials in unwanted.items():
            if self._workers[holder].ready:
                self._workers[holder].actor.forget.remote(serials)

    def _call_off(self, ledger: Ledger) -> None:
        """What is still asked of replicas, as copies or because the run ends early, nobody waits for."""
        for worker in self._workers:
            if worker.ready and (serials := ledger.owed(worker.number)):
                worker.actor.forget.remote(serials)


def _as_raised(fault: Fault) -> EvalkitError:
    """The error that the backend raised, in its words."""
    kind = getattr(errors, fault.kind, EvalkitError)
    is_plain = isinstance(kind, type) and issubclass(kind, EvalkitError) and kind.__init__ is EvalkitError.__init__
    return kind(fault.sentence) if is_plain else EvalkitError(fault.sentence)


def _sentence(error: Exception) -> str:
    """The first line of an error of Ray's."""
    return str(error).strip().partition("\n")[0].rstrip(".")
