"""The one place through which every call goes out: it waits for pace and budget, in the order of arrival."""

from __future__ import annotations

import asyncio
import math
from collections.abc import Callable
from contextlib import suppress

from evalkit.errors import EvalkitError, Interrupted
from evalkit_openai.account import Account
from evalkit_openai.limits import Ticket
from evalkit_openai.pace import Pace


class Gate:
    """Lets calls out one after the other; belongs to the loop in which it is made."""

    def __init__(self, pace: Pace, account: Account) -> None:
        self._pace = pace
        self._account = account
        self._turn = asyncio.Lock()
        self._changed = asyncio.Event()
        self._over = asyncio.Event()
        #: Why nothing more is let out.
        self.ended: EvalkitError | None = None

    async def enter(self, tokens: int, cost: float) -> Ticket:
        """Wait until a call of so many tokens may go out that costs so much at most; raises what ended the run."""
        async with self._turn:  # first come, first served; only the first in line watches the clock
            while (wait := self._wait(tokens, cost)) > 0:
                self._changed.clear()
                with suppress(TimeoutError):
                    await asyncio.wait_for(self._changed.wait(), None if math.isinf(wait) else wait)
            self._account.reserved += cost
            self._account.sent += 1
            self._account.under_way += 1
            return self._pace.send(tokens)

    def leave(self, cost: float, note: Callable[[Pace], None], *, given_up: bool = False) -> None:
        """A call is over; ``note`` tells the pace what became of it."""
        self._account.reserved -= cost
        self._account.under_way -= not given_up
        note(self._pace)
        self._changed.set()

    def end(self, error: EvalkitError) -> None:
        """Let nothing more out, for this reason."""
        self.ended = self.ended or error
        self._changed.set()
        self._over.set()

    @property
    def outage(self) -> bool:
        """Whether the server seems to be down."""
        return self._pace.outage

    async def rest(self, seconds: float) -> None:
        """Wait before a call is tried again; not any longer once nothing is let out."""
        with suppress(TimeoutError):
            await asyncio.wait_for(self._over.wait(), seconds)

    def _wait(self, tokens: int, cost: float) -> float:
        if self.ended:
            raise self.ended
        if self._account.affords(cost):
            return self._pace.wait(tokens)
        if self._pace.in_flight:  # they may cost less than was set aside for them
            return math.inf
        self.end(Interrupted(self._account.stop()))
        return self._wait(tokens, cost)
