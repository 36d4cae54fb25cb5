"""How fast the backend `openai` asks, on a simulated clock and a simulated server with a rate limit."""

from __future__ import annotations

import heapq
import math
import random
from collections.abc import Mapping
from dataclasses import dataclass, field
from itertools import count

import pytest

from evalkit_openai.limits import Ticket, seconds
from evalkit_openai.pace import Pace


@dataclass(kw_only=True)
class Simulation:
    """A server of fixed latency that takes ``rate`` requests a second, and ``burst`` seconds' worth at once."""

    rate: float
    latency: float = 0.5
    burst: float = 1.0
    headers: bool = False
    retry_after: bool = True
    #: The share that is refused for no reason.
    noise: float = 0.0
    most: int = 256
    rpm: float | None = None
    tpm: float | None = None
    tokens: int = 10
    now: float = 0.0
    #: When each request was sent, and whether it was taken.
    sent: list[tuple[float, bool]] = field(default_factory=list)

    def run(self, until: float) -> Simulation:
        """Ask as fast as the pace allows."""
        pace = Pace(lambda: self.now, most=self.most, rpm=self.rpm, tpm=self.tpm)
        chance, numbers = random.Random(1), count()
        self._level, self._at = self.rate * self.burst, 0.0
        coming: list[tuple[float, int, Ticket, bool, Mapping[str, str], float | None]] = []
        while self.now < until:
            wait = pace.wait(self.tokens)
            if wait <= 0:
                ticket = pace.send(self.tokens)
                taken = self._take() and chance.random() >= self.noise
                self.sent.append((self.now, taken))
                wait_asked = float(math.ceil((1 - self._level) / self.rate) or 1) if self.retry_after else None
                arrival = self.now + (self.latency if taken else 0.005)
                heapq.heappush(coming, (arrival, next(numbers), ticket, taken, self._told(), wait_asked))
                self.now += 0.0002
                continue
            assert coming or math.isfinite(wait), "nothing is under way and nothing may be sent"
            self.now = max(self.now, min(self.now + wait, coming[0][0] if coming else math.inf))
            while coming and coming[0][0] <= self.now:
                _, _, ticket, taken, told, wait_asked = heapq.heappop(coming)
                if taken:
                    pace.answered(ticket, told, self.tokens)
                else:
                    pace.limited(ticket, told, wait_asked)
        return self

    def _take(self) -> bool:
        most = max(1.0, self.rate * self.burst)
        self._level, self._at = min(most, self._level + (self.now - self._at) * self.rate), self.now
        if self._level < 1:
            return False
        self._level -= 1
        return True

    def _told(self) -> Mapping[str, str]:
        if not self.headers:
            return {}
        most = max(1.0, self.rate * self.burst)
        return {
            "x-ratelimit-limit-requests": str(most),
            "x-ratelimit-remaining-requests": str(int(self._level)),
            "x-ratelimit-reset-requests": f"{(most - self._level) / self.rate:.3f}s",
        }

    def used(self, begin: float, end: float) -> float:
        """The share of the allowed rate that got through."""
        return sum(taken for when, taken in self.sent if begin <= when < end) / (end - begin) / self.rate

    def refused(self, begin: float, end: float) -> float:
        """The share of requests that were refused."""
        found = [taken for when, taken in self.sent if begin <= when < end]
        return found.count(False) / len(found)


@pytest.mark.parametrize("headers", [False, True], ids=["no headers", "headers"])
@pytest.mark.parametrize("latency", [0.05, 0.5])
@pytest.mark.parametrize("rate", [2.0, 20.0, 100.0])
def test_a_rate_limit_is_used_and_kept(rate: float, latency: float, headers: bool) -> None:
    """Of what the limit allows, nine tenths within a minute of the start; behind the warm-up hardly a refusal."""
    found = Simulation(rate=rate, latency=latency, headers=headers).run(180)
    assert found.used(0, 60) >= 0.9
    assert found.used(60, 180) >= 0.95
    assert found.refused(20, 60) <= 0.02
    assert found.refused(60, 180) <= 0.02


def test_headers_keep_a_steady_limit_almost_without_a_refusal() -> None:
    found = Simulation(rate=20, headers=True).run(120)
    assert found.refused(5, 120) < 0.005
    assert found.used(0, 120) >= 0.99


def test_a_limit_is_found_without_retry_after() -> None:
    found = Simulation(rate=20, retry_after=False).run(120)
    assert found.used(0, 60) >= 0.9
    assert found.refused(20, 120) <= 0.02


def test_a_minutes_burst_is_used_and_then_the_rate_is_kept() -> None:
    found = Simulation(rate=20, burst=60).run(180)
    assert found.used(0, 60) >= 1.9
    assert found.used(60, 180) >= 0.95
    assert found.refused(60, 180) <= 0.02


def test_refusals_at_random_do_not_strangle_the_run() -> None:
    """A server without a limit refuses 6 % for no reason; it bears 100 at a time, a thousand a second."""
    found = Simulation(rate=1000, latency=0.1, noise=0.06, most=100).run(60)
    assert found.used(30, 60) >= 0.8


def test_more_are_under_way_while_all_is_well_and_never_more_than_allowed() -> None:
    now = 0.0
    pace = Pace(lambda: now, most=50)
    under_way = []
    for _ in range(100):
        while pace.wait(1) <= 0:
            under_way.append(pace.send(1))
        now += 0.1
        pace.answered(under_way.pop(0), {}, 1)
    assert (pace.limit, pace.in_flight) == (50, 49)


def test_refusals_hold_everything_back_and_more_of_them_shrink_what_may_be_under_way() -> None:
    now = 0.0
    pace = Pace(lambda: now, most=100)
    under_way = [pace.send(1) for _ in range(16)]
    now = 0.1
    for ticket in under_way:
        pace.limited(ticket, {}, 2.0)
    assert pace.limit == 16, "one moment may be chance"
    assert pace.wait(1) == pytest.approx(2.0)
    now = 2.1
    pace.limited(pace.send(1), {}, 2.0)
    assert pace.limit == 0.8 * 16
    assert pace.wait(1) == pytest.approx(2.0)


def test_failures_of_the_server_do_not_shrink_it() -> None:
    now = 0.0
    pace = Pace(lambda: now, most=100)
    for _ in range(9):
        pace.failed(pace.send(1), fresh=True, wait=None)
    assert (pace.limit, pace.outage, pace.wait(1)) == (16, False, 0)


def test_an_outage_is_probed_one_by_one_and_ends_with_an_answer() -> None:
    now = 0.0
    pace = Pace(lambda: now, most=100)
    for _ in range(10):
        pace.failed(pace.send(1), fresh=True, wait=None)
    assert (pace.outage, pace.wait(1)) == (True, 1.0)
    now = 1.0
    probe = pace.send(1)
    assert pace.wait(1) == math.inf
    pace.failed(probe, fresh=True, wait=None)
    assert pace.wait(1) == 2.0
    now = 3.0
    pace.answered(pace.send(1), {}, 1)
    assert (pace.outage, pace.wait(1)) == (False, 0)


def test_requests_that_fail_again_are_no_outage() -> None:
    """What is left at the end of a run are requests that fail for good; they must come to an end."""
    now = 0.0
    pace = Pace(lambda: now, most=100)
    for _ in range(50):
        pace.failed(pace.send(1), fresh=False, wait=None)
    assert pace.outage is False


def test_the_users_requests_per_minute_are_kept() -> None:
    found = Simulation(rate=1e6, rpm=600, most=50).run(60)
    assert len(found.sent) == pytest.approx(600, abs=12)
    in_any_second = [sum(begin <= when < begin + 1 for when, _ in found.sent) for begin in range(2, 60)]
    assert max(in_any_second) <= 11


def test_the_users_tokens_per_minute_are_kept() -> None:
    found = Simulation(rate=1e6, tpm=6000, tokens=100).run(120)
    # Ten seconds' worth may be used at once.
    assert len(found.sent) == pytest.approx(120 + 10, abs=2)


def test_tokens_that_were_not_needed_are_given_back() -> None:
    now = 0.0
    pace = Pace(lambda: now, tpm=6000)
    ticket = pace.send(1000)
    assert pace.wait(1000) == 10.0
    pace.answered(ticket, {}, 100)
    assert pace.wait(900) == 0


def test_token_headers_hold_back_what_is_larger_than_what_is_left() -> None:
    now = 0.0
    pace = Pace(lambda: now)
    headers = {
        "x-ratelimit-limit-tokens": "1000",
        "x-ratelimit-remaining-tokens": "200",
        "x-ratelimit-reset-tokens": "8s",
    }
    pace.answered(pace.send(100), headers, 100)
    assert pace.wait(200) == 0
    assert pace.wait(500) == pytest.approx(3.0)


@pytest.mark.parametrize(
    ("text", "value"), [("20ms", 0.02), ("1s", 1.0), ("6m0s", 360.0), ("1h2m3.5s", 3723.5), ("12", 12.0), ("0.5", 0.5)]
)
def test_durations_in_headers_are_read(text: str, value: float) -> None:
    assert seconds(text) == pytest.approx(value)


@pytest.mark.parametrize("text", ["", "soon", "1x", "s"])
def test_what_is_no_duration_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r"could not convert"):
        seconds(text)
