"""What runs in each worker process: one backend with a queue before it and one behind it."""

from __future__ import annotations

import contextlib
import os
import threading
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

from evalkit import models
from evalkit.backend import Backend, Indexed
from evalkit.errors import EngineDied, EvalkitError, PluginError
from evalkit.plugins import Plugins
from evalkit.types import GenerateRequest, Request, Response


class Item(NamedTuple):
    """A request as a replica gets it."""

    serial: int
    request: Request
    #: In tokens.
    cost: int


class Fault(NamedTuple):
    """Why a replica works no more."""

    #: The class of an EvalkitError, which ends the run; empty for a broken engine, which a new replica may mend.
    kind: str
    sentence: str


class Told(NamedTuple):
    """What a replica has to tell."""

    answers: Sequence[tuple[int, Response]]
    fault: Fault | None
    remarks: Sequence[str]


class Replica:
    """Works in a thread of its own, so that its methods can be called meanwhile.

    ``chunk`` is the most tokens that a backend which does not stream is given at once. As long as there are so many it
    is given a whole piece at least: so many tokens, or so many requests.
    """

    def __init__(
        self, asked: str, texts: Mapping[str, str], folder: str, *, chunk: int, piece: tuple[int, int]
    ) -> None:
        with contextlib.suppress(OSError):  # relative paths are those of the driver, where both see the same files
            os.chdir(folder)
        self._chunk, self._piece = chunk, piece
        self._waiting: dict[int, Item] = {}
        self._unwanted: set[int] = set()
        self._done: list[tuple[int, Response]] = []
        self._fault: Fault | None = None
        self._backend: Backend | None = None
        self._changed = threading.Condition()
        threading.Thread(target=self._live, args=(asked, dict(texts)), name="evalkit-ray", daemon=True).start()

    def placed(self) -> int:
        """The process that the cluster found room for."""
        return os.getpid()

    def opened(self) -> Fault | None:
        """Wait until the model is loaded; what went wrong, if anything did."""
        with self._changed:
            self._changed.wait_for(lambda: self._backend is not None or self._fault is not None)
            return self._fault

    def put(self, items: Sequence[Item]) -> None:
        """More to do."""
        with self._changed:
            self._waiting.update({item.serial: item for item in items})
            self._changed.notify_all()

    def take(self) -> Told:
        """Wait for answers, and give all that are there."""
        with self._changed:
            self._changed.wait_for(lambda: self._done or self._fault is not None)
            answers, self._done = self._done, []
            return Told(answers, self._fault, () if self._backend is None else tuple(self._backend.remarks()))

    def give_back(self) -> list[int]:
        """Half of what has not been begun, the newest of it: somebody else does it."""
        with self._changed:
            serials = list(self._waiting)[(len(self._waiting) + 1) // 2 :]
            for serial in serials:
                del self._waiting[serial]
            return serials

    def forget(self, serials: Sequence[int]) -> None:
        """Somebody else has answered these."""
        with self._changed:
            for serial in serials:
                if self._waiting.pop(serial, None) is None:
                    self._unwanted.add(serial)

    def account(self) -> str:
        """The account of this replica's backend."""
        return "" if self._backend is None else self._backend.account()

    def _live(self, asked: str, texts: Mapping[str, str]) -> None:
        try:
            backend = models.make(Plugins(), asked, texts).backend
            backend.open()
            with self._changed:
                self._backend = backend
                self._changed.notify_all()
            while True:
                self._work(backend)
        except EngineDied as error:
            fault = Fault("", str(error).rstrip("."))
        except EvalkitError as error:
            fault = Fault(type(error).__name__, str(error))
        except BaseException as error:  # whatever an engine breaks with; a new process may do better
            text = " ".join(str(error).split())
            fault = Fault("", f"{type(error).__name__}: {text[:300]}")
        with self._changed:
            self._fault = fault
            self._changed.notify_all()

    def _work(self, backend: Backend) -> None:
        """Answer a chunk, or all there will be of one kind."""
        with self._changed:
            self._changed.wait_for(lambda: self._waiting)
            generates = isinstance(next(iter(self._waiting.values())).request, GenerateRequest)
            self._unwanted.clear()  # nothing is under way now
            chunk = [] if backend.streams else self._cut(generates=generates)
        left = {item.serial for item in chunk}
        feed: Iterator[Indexed[Any]] = ((item.serial, item.request) for item in chunk)
        if backend.streams:
            feed = self._stream(generates=generates)
        answers = backend.generate(feed) if generates else backend.likelihood(feed)
        for serial, response in answers:
            left.discard(serial)
            with self._changed:
                self._done.append((serial, response))
                self._changed.notify_all()
                if left and left <= self._unwanted:
                    break
        else:
            if left:
                raise PluginError(f"A replica's backend left {len(left)} requests without a response.")
        if (close := getattr(answers, "close", None)) is not None:  # an iterator need not be a generator
            close()

    def _cut(self, *, generates: bool) -> list[Item]:
        """The oldest half of what waits, within bounds; the less there is left, the more others may still take over."""
        items = [one for one in self._waiting.values() if isinstance(one.request, GenerateRequest) == generates]
        half = min(self._chunk, sum(item.cost for item in items) // 2)
        tokens, requests = self._piece
        chunk: list[Item] = []
        begun = 0
        for item in items:
            if begun >= half and (begun >= tokens or len(chunk) >= requests):
                break
            begun += item.cost
            chunk.append(self._waiting.pop(item.serial))
        return chunk

    def _stream(self, *, generates: bool) -> Iterator[Indexed[Any]]:
        """Requests as they come, until one of another kind does."""
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._waiting)
                item = next(iter(self._waiting.values()))
                if isinstance(item.request, GenerateRequest) != generates:
                    return
                del self._waiting[item.serial]
            yield item.serial, item.request
