"""How fast a server may be asked: no clock, no thread, no network in here, so that a simulation can drive it.

Four things hold requests back, and the strictest counts: how many may be under way at once, the rate at which the
server was found to say no, what its headers say is left, and the user's own budgets per minute.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Callable, Mapping
from contextlib import suppress

from evalkit_openai.limits import Allowance, Budget, Ticket

#: Under way at once, at first and at most where the user does not say.
FIRST, MOST = 16, 256
#: Seconds over which the rate of what gets through is measured.
WINDOW = 10.0
#: Seconds over which the rate of answers is compared with what it was at best.
LATELY = 2.0
#: Requests in a row that fail at their first try: then it is the server, not they.
OUTAGE = 10


class Rate:
    """The rate at which a server was found to say no: cut by refusals, raised slowly while there are none.

    A server may also refuse at random, whatever the rate. Two things show that: it refuses what is sent first behind
    a pause, when a limit would have room, and it refuses at a fraction of the rate that it bore before. Then refusals
    are ignored for a while.
    """

    def __init__(self) -> None:
        #: Requests per second right after the last cut; None while no limit is known.
        self._base: float | None = None
        self._since = self._next = 0.0
        #: Since the last cut.
        self._sent = self._refused = 0
        #: When what was not refused was sent, as far back as it is of use, and since when that is counted.
        self._accepted: deque[float] = deque()
        self._counted_since = 0.0
        #: Whether the last cut rests on a long count; the first one is a guess.
        self._sure = False
        #: Sent since the last pause, and how many of them had room for sure.
        self._place = self._room = 0
        #: When answers came, in the last seconds, and the most that came in so many.
        self._answers: deque[float] = deque()
        self._peak = 0
        #: Refusals that no limit explains, until when to ignore refusals, and how long the next time.
        self._odd, self._deaf_until, self._deaf_for = 0, 0.0, 60.0

    @property
    def known(self) -> bool:
        """Whether the server was found to have a limit."""
        return self._base is not None

    def value(self, now: float) -> float:
        """Requests per second; first creeping up, then faster: what was true a minute ago may be too little."""
        quiet = max(0.0, now - self._since)
        gain = 0.001 * quiet + 0.0005 * max(0.0, quiet - 20) ** 2 if self._sure else 0.1 * quiet
        return (self._base or math.inf) * (1 + gain)

    def wait(self, now: float) -> float:
        """Seconds until the next request is due."""
        return max(0.0, self._next - now) if self.known else 0.0

    def sent(self, now: float) -> bool:
        """Count a request; gives whether the server has room for it for sure."""
        self._sent += 1
        self._place += 1
        self._accepted.append(now)
        while self._accepted[0] < now - WINDOW:
            self._accepted.popleft()
        if self.known:
            # What is late by a little may be made up for, so that a rough timer costs no throughput.
            self._next = max(self._next, now - 0.02) + 1 / self.value(now)
        return self._place <= self._room

    def answered(self, now: float) -> None:
        """Count an answer."""
        self._answers.append(now)
        self._peak = max(self._peak, self._lately(now))

    def refused_too(self, ticket: Ticket) -> None:
        """Count a refusal of what was under way when another one came."""
        self._refused += 1
        with suppress(ValueError):
            self._accepted.remove(ticket.sent)

    def refused(self, now: float, ticket: Ticket, wait: float, under_way: int) -> bool:
        """A refusal; gives whether it says that the server is asked too much."""
        if not self.known and now >= self._deaf_until and (not self._refused or self._refused < 0.02 * self._sent):
            self._sent, self._refused = under_way + 1, 0
            self._counted_since = now
        self.refused_too(ticket)
        if now < self._deaf_until:
            if self._refused < max(10, 0.25 * self._sent):
                return False
            self._deaf_until, self._peak = 0.0, self._lately(now)  # it is a limit after all
        self._odd += ticket.had_room or self._lately(now) < 0.4 * self._peak
        if self._odd >= 2:
            self._base, self._deaf_until = None, now + self._deaf_for
            self._odd, self._deaf_for = 0, 2 * self._deaf_for
            self._place = self._room = self._sent = self._refused = 0
            return False
        begin = max(now - WINDOW, min(now - 1, self._counted_since))
        through = self._through(now, begin)
        if not self.known:
            # A limit that is met refuses most of what comes then; a few may have been refused for other reasons.
            if self._refused >= max(3, 0.15 * self._sent) or self._refused >= 10:
                self._counted_since = now
                self._cut(max(1.0, self._through(now, now - 1)), now + wait, sure=False)
        elif self._refused >= 3 or self._sent >= 30:
            # What got through is what the server allows, if it was asked too much.
            self._cut(0.97 * min(self.value(now), through), now + wait, sure=now - begin >= WINDOW / 2)
        self._next = max(self._next, now + wait)
        self._place, self._room = 0, max(1, int(0.5 * wait * through))
        return True

    def _lately(self, now: float) -> int:
        while self._answers and self._answers[0] < now - LATELY:
            self._answers.popleft()
        return len(self._answers)

    def _through(self, now: float, begin: float) -> float:
        """What got through a second since then, pauses included."""
        return sum(sent >= begin for sent in self._accepted) / max(1.0, now - begin)

    def _cut(self, base: float, at: float, *, sure: bool) -> None:
        self._base, self._since, self._sure = max(base, 0.01), at, sure
        self._sent = self._refused = 0


class Pace:
    """Says when the next request may be sent, and learns from what becomes of each."""

    def __init__(
        self, clock: Callable[[], float], *, most: int = MOST, rpm: float | None = None, tpm: float | None = None
    ) -> None:
        self._clock = clock
        now = clock()
        #: How many may be under way at once.
        self.limit = float(min(FIRST, most))
        self.in_flight = 0
        #: Whether the server seems to be down.
        self.outage = False
        self._most = most
        self._growing = True
        self._not_before = self._cut_at = now
        self._rate = Rate()
        self._budgets = [
            Budget(per_minute, now, burst=burst) if per_minute else None for per_minute, burst in ((rpm, 1), (tpm, 10))
        ]
        self._allowances = [Allowance("requests"), Allowance("tokens")]
        self._number = 0
        #: Seconds that an answer takes, smoothed.
        self._latency = 0.0
        #: Number -> tokens of what is under way.
        self._tokens_by_number: dict[int, int] = {}
        self._fresh_failures = 0
        self._probe_after = 1.0

    def wait(self, tokens: int) -> float:
        """Seconds until a request of so many tokens may be sent; infinite: not before another one is done."""
        if self.in_flight >= (1 if self.outage else int(self.limit)):
            return math.inf
        now = self._clock()
        waits = [self._not_before - now, self._rate.wait(now)]
        for budget, allowance, amount in zip(self._budgets, self._allowances, (1, tokens), strict=True):
            waits.append(allowance.wait(amount, now))
            if budget:
                waits.append(budget.wait(amount, now))
        return max(0.0, *waits)

    def send(self, tokens: int) -> Ticket:
        """Note that a request is sent now."""
        now = self._clock()
        self.in_flight += 1
        self._number += 1
        had_room = self._rate.sent(now)
        self._tokens_by_number[self._number] = tokens
        for budget, allowance, amount in zip(self._budgets, self._allowances, (1, tokens), strict=True):
            allowance.use(amount)
            if budget:
                budget.use(amount, now)
        return Ticket(number=self._number, sent=now, tokens=tokens, had_room=had_room)

    def answered(self, ticket: Ticket, headers: Mapping[str, str], tokens: int) -> None:
        """A request got an answer, which took so many tokens."""
        now = self._done(ticket)
        self._read(headers, ticket)
        if budget := self._budgets[1]:
            budget.use(tokens - ticket.tokens, now)
        self._rate.answered(now)
        seconds_taken = now - ticket.sent
        self._latency = 0.8 * self._latency + 0.2 * seconds_taken if self._latency else seconds_taken
        # A limit that is not used up says nothing about what the server could bear.
        if self.in_flight + 1 >= 0.8 * self.limit:
            fast = self._growing or self.limit < self._needed(now)
            self.limit = min(float(self._most), self.limit + (1.0 if fast else 1 / self.limit))
        self.outage, self._fresh_failures, self._probe_after = False, 0, 1.0

    def limited(self, ticket: Ticket, headers: Mapping[str, str], wait: float | None) -> None:
        """A request was refused for now; ``wait`` is what the server asks for."""
        now = self._done(ticket)
        self._read(headers, ticket)
        asked = 0.5 if wait is None else wait
        if ticket.sent < self._cut_at:  # it was under way when the last one was refused
            self._rate.refused_too(ticket)
            self._not_before = max(self._not_before, min(now + asked, self._cut_at))
        elif self._rate.refused(now, ticket, asked, self.in_flight):
            if self._rate.known:
                self.limit = max(1.0, min(self.limit, max(0.8 * self.limit, self._needed(now))))
                self._growing = False
            self._not_before = self._cut_at = max(self._not_before, now + asked)
        else:
            self._growing = True

    def failed(self, ticket: Ticket, *, fresh: bool, wait: float | None) -> None:
        """A request got no answer; ``fresh`` means that it was its first try."""
        now = self._done(ticket)
        self._fresh_failures += fresh
        if self._fresh_failures >= OUTAGE:
            self.outage = True
        if self.outage:
            self._not_before = max(self._not_before, now + self._probe_after)
            self._probe_after = min(30.0, 2 * self._probe_after)
        if wait is not None:
            self._not_before = max(self._not_before, now + wait)

    def dropped(self, ticket: Ticket) -> None:
        """A request is over in a way that says nothing about the pace."""
        self._done(ticket)

    def _needed(self, now: float) -> float:
        """How many are under way at the rate that is known; fewer would only waste it."""
        return 1.25 * self._rate.value(now) * self._latency if self._rate.known else 0.0

    def _done(self, ticket: Ticket) -> float:
        self.in_flight -= 1
        self._tokens_by_number.pop(ticket.number, None)
        return self._clock()

    def _read(self, headers: Mapping[str, str], ticket: Ticket) -> None:
        newer = [tokens for number, tokens in self._tokens_by_number.items() if number > ticket.number]
        self._allowances[0].read(headers, ticket, sent_since=self._number - ticket.number)
        self._allowances[1].read(headers, ticket, sent_since=sum(newer))
