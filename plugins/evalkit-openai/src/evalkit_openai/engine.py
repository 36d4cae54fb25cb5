"""Runs coroutines in a thread of its own, for callers that know nothing of asyncio."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Coroutine, Iterable, Iterator
from concurrent.futures import Future
from queue import SimpleQueue
from typing import Any, TypeVar

from evalkit.backend import Indexed
from evalkit.errors import EvalkitError

T = TypeVar("T")
R = TypeVar("R")


class Engine:
    """An event loop in a thread; coroutines go in from outside, results come out as they are there."""

    def __init__(self) -> None:
        self._loop = asyncio.new_event_loop()
        # A daemon: what is under way never keeps the program from ending.
        self._thread = threading.Thread(target=self._loop.run_forever, name="evalkit-openai", daemon=True)
        self._thread.start()

    def result(self, work: Coroutine[Any, Any, R]) -> R:
        """Run one coroutine and wait for its result."""
        future = asyncio.run_coroutine_threadsafe(work, self._loop)
        try:
            return future.result()
        finally:
            future.cancel()

    def results(
        self, asked: Iterable[Indexed[T]], answer: Callable[[T], Coroutine[Any, Any, R]], *, ahead: int
    ) -> Iterator[Indexed[R]]:
        """Yield the answer to each item as it comes, with at most ``ahead`` items begun and not yet given back.

        An EvalkitError ends it: nothing new is begun, what is under way is still given, then the error is raised.
        """
        source = iter(asked)
        done: SimpleQueue[tuple[int, Future[R]]] = SimpleQueue()
        begun: dict[int, Future[R]] = {}
        more, ended = True, None
        try:
            while more or begun:
                if more and ended is None and len(begun) < ahead and done.empty():
                    found = next(source, None)
                    if found is None:
                        more = False
                        continue
                    position, item = found
                    future = begun[position] = asyncio.run_coroutine_threadsafe(answer(item), self._loop)
                    future.add_done_callback(lambda future, position=position: done.put((position, future)))  # type: ignore[misc]
                    continue
                more = more and ended is None
                if not begun:
                    continue
                position, future = done.get()
                del begun[position]
                try:
                    result = future.result()
                except EvalkitError as error:
                    ended = ended or error
                    continue
                yield position, result
        finally:
            for future in begun.values():
                future.cancel()
        if ended is not None:
            raise ended

    def stop(self, last: Coroutine[Any, Any, None]) -> None:
        """Cancel what is under way, run a last coroutine, and end the thread."""
        asyncio.run_coroutine_threadsafe(_cancel_all_but(last), self._loop).result(timeout=10)
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(timeout=10)
        self._loop.close()


async def _cancel_all_but(last: Coroutine[Any, Any, None]) -> None:
    tasks = asyncio.all_tasks() - {asyncio.current_task()}
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
    await last
