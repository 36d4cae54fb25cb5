"""What was sent, what came back, and what it cost: counted since the backend was made."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

from evalkit_openai.prices import Price, Tokens, dollars


@dataclass(slots=True, kw_only=True)
class Account:
    """Counts of requests (what a benchmark asks) and of calls (what is sent, retries included), tokens and money."""

    model: str
    price: Price | None = None
    #: USD that may be spent; None without a limit.
    budget: float | None = None
    answered: int = 0
    failed: int = 0
    sent: int = 0
    #: Calls that are neither answered nor over in another way; those given up stay among them.
    under_way: int = 0
    #: Calls that were made again, and those of them that a rate limit had refused.
    retried: int = 0
    limited: int = 0
    #: Calls whose answer was lost on its way, so that it may be paid twice.
    lost: int = 0
    tokens: Tokens = field(default_factory=Tokens)
    #: USD for the answers that came, for those that were lost at the most they can have cost, and set aside for those
    #: under way.
    spent: float = 0.0
    lost_cost: float = 0.0
    reserved: float = 0.0
    #: What was done otherwise than asked, because the server wanted it so.
    remarks: dict[str, None] = field(default_factory=dict)

    def most(self, tokens: Tokens) -> float:
        """The most that a call can cost which needs at most so many tokens."""
        return self.price.cost(tokens) if self.price else 0.0

    def affords(self, cost: float) -> bool:
        """Whether a call that may cost so much stays within the budget."""
        return self.budget is None or self.spent + self.lost_cost + self.reserved + cost <= self.budget

    def pay(self, tokens: Tokens) -> None:
        """Count the tokens of an answer."""
        self.tokens += tokens
        self.spent += self.most(tokens)

    def line(self) -> str:
        """One line for the user; empty when nothing was sent."""
        return ", ".join(self._parts()) + "." if self.sent else ""

    def stop(self) -> str:
        """The sentence with which a run stops at its budget."""
        lost = f" and perhaps {dollars(self.lost_cost)} for answers that were lost" if self.lost_cost else ""
        return (
            f"Stopped at the budget: {dollars(self.spent)} of {dollars(self.budget or 0.0)} are spent{lost}, and the"
            " next request might cost more than is left. Repeat the command to go on with a new budget."
        )

    def _parts(self) -> Iterator[str]:
        asked = self.answered + self.failed
        yield f"{self.model}: {asked:,} requests in {self.sent:,} calls: {self.answered:,} answered"
        yield f"{self.failed:,} failed"
        if self.under_way:
            yield f"{self.under_way:,} calls given up under way and possibly paid for nothing"
        yield f"{self.retried:,} retried ({self.limited:,} for the rate limit)"
        yield f"{self.lost:,} possibly paid twice (answer lost on its way)"
        yield f"{self.tokens.prompt:,} + {self.tokens.completion:,} tokens"
        if self.price:
            yield f"{dollars(self.spent)} at prices of {self.price.date}"
            if self.lost_cost:
                yield f"lost answers at most {dollars(self.lost_cost)} more"
        yield from self.remarks
