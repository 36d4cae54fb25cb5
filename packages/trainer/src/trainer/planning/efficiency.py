"""What a plan costs: the tokens of its examples against the token slots that its ranks compute, or wait for."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from trainer.planning.balance import least

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from trainer.planning.plan import Step


@dataclass(frozen=True, slots=True, kw_only=True)
class Cost:
    """Counts of one optimizer step."""

    examples: int
    #: Tokens of the examples, without padding.
    tokens: int
    #: Token slots of the slowest rank, summed over micro-steps and times the ranks: with ZeRO-3 every micro-step waits
    #: for the slowest rank, since parameters are gathered from all.
    slots: int
    #: The mean of the ranks' slots, and the most that any has: below ZeRO-3 ranks wait once, at the step's end.
    mean: float
    most: int
    #: What the rank with the most has at least, when whole examples go to ranks without padding.
    bound: int
    micros: int

    @property
    def efficiency(self) -> float:
        """Tokens learnt from to slots paid, padding and waiting included."""
        return self.tokens / self.slots

    @property
    def balance(self) -> float:
        """The ranks' mean to their most."""
        return self.mean / self.most


def cost(step: Step, lengths: NDArray[np.int64]) -> Cost:
    """The counts of a step; ``lengths`` are those of all examples, shape (examples,)."""
    sizes = lengths[step.ids]
    slots = [[micro.slots for micro in micros] for micros in step.ranks]
    totals = [sum(one) for one in slots]
    return Cost(
        examples=len(sizes),
        tokens=int(sizes.sum()),
        slots=len(slots) * sum(map(max, zip(*slots, strict=True))),
        mean=sum(totals) / len(totals),
        most=max(totals),
        bound=least(sizes, len(slots)),
        micros=len(step.ranks[0]),
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class Summary:
    """What the steps of a plan come to; means are over steps."""

    steps: int
    examples: int
    tokens: int
    slots: int
    #: The mean and the least over all steps.
    balance: tuple[float, float]
    #: The same of what whole examples allow at best, to what the rank with the most has.
    of_bound: tuple[float, float]
    #: Micro-steps of a step: the fewest, the mean, the most.
    micros: tuple[int, float, int]

    @property
    def efficiency(self) -> float:
        """Tokens learnt from to slots paid, padding and waiting included."""
        return self.tokens / self.slots


def summarize(costs: Iterable[Cost]) -> Summary:
    """The counts of all steps together; there is at least one."""
    all_of_them = list(costs)
    balances = [one.balance for one in all_of_them]
    of_bound = [one.bound / one.most for one in all_of_them]
    micros = [one.micros for one in all_of_them]
    steps = len(all_of_them)
    return Summary(
        steps=steps,
        examples=sum(one.examples for one in all_of_them),
        tokens=sum(one.tokens for one in all_of_them),
        slots=sum(one.slots for one in all_of_them),
        balance=(sum(balances) / steps, min(balances)),
        of_bound=(sum(of_bound) / steps, min(of_bound)),
        micros=(min(micros), sum(micros) / steps, max(micros)),
    )
