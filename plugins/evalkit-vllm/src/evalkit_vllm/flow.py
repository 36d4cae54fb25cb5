"""A stream of requests on its way through the engines: read ahead, ordered, shared out, given back when answered."""

from __future__ import annotations

import heapq
import struct
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import count
from queue import SimpleQueue
from typing import Any, Generic, Protocol, TypeAlias, TypeVar

from evalkit.backend import Indexed
from evalkit.errors import EngineDied
from evalkit_vllm.child import Child

T = TypeVar("T")
R = TypeVar("R")
R_co = TypeVar("R_co", covariant=True)

#: Requests that wait here, in order of their ids, for those that the engines hold; it bounds what is in memory.
WINDOW = 1024
#: Texts that an engine is given for each that it can write at once, so that it never waits for a request.
AHEAD = 2

Reply: TypeAlias = Mapping[str, Any]
#: No two calls share one, so that a late answer to one that was given up is told from all others.
_IDS = count()


@dataclass(frozen=True, slots=True, kw_only=True)
class Call:
    """What an engine is asked at once."""

    ids: Sequence[int]
    #: What vLLM's SamplingParams takes.
    settings: Mapping[str, Any]

    @property
    def texts(self) -> int:
        """How many sequences it occupies."""
        return int(self.settings.get("n", 1))


class Job(Protocol[R_co]):
    """A request as the calls that answer it."""

    @property
    def calls(self) -> Sequence[Call]:
        """What is asked, one at least."""

    def response(self, replies: Sequence[Reply]) -> R_co:
        """The response, from the replies in the order of the calls."""


@dataclass(slots=True)
class Begun(Generic[R]):
    """A job under way."""

    position: int
    job: Job[R]
    replies: list[Reply | None]
    missing: int


@dataclass(slots=True, kw_only=True)
class Tally:
    """What was asked and answered since the model was loaded."""

    prompts: int = 0
    tokens: int = 0
    cached: int = 0
    written: int = 0

    def line(self) -> str:
        """It in one line."""
        if not self.prompts:
            return ""
        share = f"{self.cached / self.tokens:.0%}" if self.tokens else "none"
        return (
            f"vLLM: {self.prompts:,} prompts of {self.tokens:,} tokens, {share} of them found in the prefix cache;"
            f" {self.written:,} tokens written."
        )


@dataclass(order=True, slots=True)
class Waiting(Generic[R]):
    """A call that no engine has yet; in the order in which they are sent."""

    #: Whole windows come one after the other, so that none waits for ever.
    wave: int
    #: Ids as bytes that sort as the ids do: prompts that begin alike follow one another.
    key: bytes
    number: int
    begun: Begun[R] = field(compare=False)
    #: Which of the job's calls.
    place: int = field(compare=False)


@dataclass(frozen=True, slots=True)
class Ended:
    """The requests have come to their end, or to an error."""

    error: BaseException | None


class Flow(Generic[T, R]):
    """Answers requests with engines; used once.

    A thread of its own reads the requests, so that an iterator that blocks keeps no finished answer back. ``plan``
    makes a job of a request, or its response where no engine need be asked. Responses are made in the caller's thread.
    """

    def __init__(self, children: Mapping[Child, int], plan: Callable[[T], Job[R] | R], tally: Tally) -> None:
        #: Engine -> the texts that it is writing or has before it.
        self._load = dict.fromkeys(children, 0)
        self._most = {child: AHEAD * at_once for child, at_once in children.items()}
        self._plan = plan
        self._tally = tally
        self._lock = threading.Lock()
        self._waiting: list[Waiting[R]] = []
        self._open: dict[int, tuple[Child, Waiting[R]]] = {}
        self._done: SimpleQueue[Begun[R] | Indexed[R] | Ended | Child] = SimpleQueue()
        self._slots = threading.Semaphore(WINDOW + sum(self._most.values()))
        #: Requests of which a job or a response was made.
        self._begun = 0
        self._stopped = False

    def answers(self, requests: Iterable[Indexed[T]]) -> Iterator[Indexed[R]]:
        """Yield each response with its request's position.

        Raises EngineDied when an engine dies, and what the requests raise once all before is answered.
        """
        for child in self._load:
            child.taker = self._take
            if child.dead:  # it may have died when nobody listened
                self._done.put(child)
        reader = threading.Thread(target=self._read, args=(requests,), name="evalkit-vllm", daemon=True)
        reader.start()
        try:
            yield from self._finished()
        finally:
            self._stop()
            # It is asked to end, but may be held up by an iterator that gives nothing.
            reader.join(5)

    def _finished(self) -> Iterator[Indexed[R]]:
        left: int | None = None
        given, error = 0, None
        while left is None or given < left:
            found = self._done.get()
            if isinstance(found, Child):
                raise EngineDied(f"vLLM's engine died: {found.cause()}. Repeat the command to go on.")
            if isinstance(found, Ended):
                left, error = self._begun, found.error
                continue
            given += 1
            self._slots.release()
            if isinstance(found, Begun):
                replies = [reply for reply in found.replies if reply is not None]
                yield found.position, found.job.response(replies)
            else:
                yield found
        if error is not None:
            raise error

    def _read(self, requests: Iterable[Indexed[T]]) -> None:
        """Make calls of requests; runs in a thread."""
        error = None
        try:
            for position, request in requests:
                self._slots.acquire()
                if self._stopped:
                    return
                self._begin(position, self._plan(request))
                self._begun += 1
        except BaseException as raised:  # it is raised again in the caller's thread
            error = raised
        self._done.put(Ended(error))

    def _begin(self, position: int, made: Job[R] | R) -> None:
        if not hasattr(made, "calls"):
            self._done.put((position, made))
            return
        job: Job[R] = made  # type: ignore[assignment]  # what has calls is a job
        begun = Begun(position, job, [None] * len(job.calls), len(job.calls))
        with self._lock:
            for place, call in enumerate(job.calls):
                number = next(_IDS)
                key = struct.pack(f">{len(call.ids)}I", *call.ids)
                heapq.heappush(self._waiting, Waiting(self._begun // WINDOW, key, number, begun, place))
            self._share_out()

    def _share_out(self) -> None:
        """Give engines that have room what waits; the lock is held."""
        while self._waiting and not self._stopped:
            child = min(self._load, key=lambda one: self._load[one] / self._most[one])
            if self._load[child] >= self._most[child]:
                return
            waiting = heapq.heappop(self._waiting)
            call = waiting.begun.job.calls[waiting.place]
            self._load[child] += call.texts
            self._open[waiting.number] = child, waiting
            child.send({"id": waiting.number, "ids": list(call.ids), "settings": dict(call.settings)})

    def _take(self, child: Child, reply: Reply | None) -> None:
        """Take what an engine says; runs in a thread of that engine's."""
        if reply is None:
            self._done.put(child)
            return
        with self._lock:
            if (found := self._open.pop(reply["id"], None)) is None:
                return
            _, waiting = found
            begun = waiting.begun
            call = begun.job.calls[waiting.place]
            self._load[child] -= call.texts
            self._count(call, reply)
            begun.replies[waiting.place] = reply
            begun.missing -= 1
            self._share_out()
        if not begun.missing:
            self._done.put(begun)

    def _count(self, call: Call, reply: Reply) -> None:
        self._tally.prompts += 1
        self._tally.tokens += len(call.ids)
        self._tally.cached += reply.get("cached", 0)
        self._tally.written += sum(len(ids) for ids, _ in reply.get("texts", ()))

    def _stop(self) -> None:
        with self._lock:
            self._stopped = True
            self._waiting.clear()
            given_up: dict[Child, list[int]] = {}
            for number, (child, _) in self._open.items():
                given_up.setdefault(child, []).append(number)
            self._open.clear()
        for child, numbers in given_up.items():
            child.send({"drop": numbers})
        self._slots.release()
