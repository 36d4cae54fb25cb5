"""Limits that are known: the user's budgets per minute, and what a server's headers say is left."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass

_DURATION = re.compile(r"(\d+(?:\.\d+)?)(ms|h|m|s)")
_SECONDS = {"h": 3600.0, "m": 60.0, "s": 1.0, "ms": 0.001}


@dataclass(frozen=True, slots=True, kw_only=True)
class Ticket:
    """A request that is under way."""

    number: int
    sent: float
    #: Tokens that it was expected to need.
    tokens: int
    #: The server was left alone before it, long enough to have room for it.
    had_room: bool = False


class Budget:
    """So much per minute, spread evenly."""

    def __init__(self, per_minute: float, now: float, *, burst: float) -> None:
        self._rate = per_minute / 60
        self._room = max(1.0, self._rate * burst)
        self._level, self._at = self._room, now

    def wait(self, amount: float, now: float) -> float:
        """Seconds until so much may be used."""
        missing = min(amount, self._room) - self._filled(now)
        return missing / self._rate if missing > 1e-9 else 0.0

    def use(self, amount: float, now: float) -> None:
        """Use so much, or give it back when negative."""
        self._level, self._at = min(self._room, self._filled(now) - amount), now

    def _filled(self, now: float) -> float:
        return min(self._room, self._level + (now - self._at) * self._rate)


class Allowance:
    """What a server's rate-limit headers say is left, less what was sent since; idle until headers come."""

    def __init__(self, name: str) -> None:
        self._names = tuple(f"x-ratelimit-{what}-{name}" for what in ("limit", "remaining", "reset"))
        self._room, self._unit, self._at = math.inf, 0.0, 0.0
        self._number = -1

    def wait(self, amount: float, now: float) -> float:
        """Seconds until so much is refilled; a server that has room for all is full before it has more."""
        missing = amount - self._room
        return max(0.0, self._at + missing * self._unit - now) if missing > 0 else 0.0

    def use(self, amount: float) -> None:
        """Count what is sent after the last word of the server."""
        self._room -= amount

    def read(self, headers: Mapping[str, str], ticket: Ticket, *, sent_since: float) -> None:
        """Take in the headers of an answer; those of a request older than the last one read are out of date."""
        limit, left, reset = (headers.get(name) for name in self._names)
        if ticket.number < self._number or limit is None or left is None or reset is None:
            return
        try:
            most, room, full_in = float(limit), float(left), seconds(reset)
        except ValueError:
            return
        # Counted when the request arrived; a server that counts when it answers has seen, and refilled, as much more.
        self._number, self._at = ticket.number, ticket.sent
        self._room = room - sent_since
        # What is used up comes back bit by bit until `reset`; a whole limit never counts as nothing used.
        self._unit = full_in / max(1.0, most - room)


def seconds(text: str) -> float:
    """The seconds in ``1m30.5s``, ``20ms`` or ``12``; raises ValueError."""
    parts = _DURATION.findall(text)
    if parts and "".join(number + unit for number, unit in parts) == text.strip():
        return sum(float(number) * _SECONDS[unit] for number, unit in parts)
    return float(text)
