"""Which rank reads which examples when: a pure function of (seed, epoch, step), the lengths and the number of ranks.

An epoch is the examples in an order of their own; its step number s is the next `batch` of them (the recipe's 128) and
never depends on the ranks. A plan only says who reads them together: `Balanced`, without padding, is what training
uses; `Padded` and `Packed` have the same shape, so that the three can be run and counted beside each other.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from typing import TYPE_CHECKING, Protocol

from trainer.errors import DataError
from trainer.planning.balance import partition
from trainer.planning.packing import best_fit

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

#: Examples to an optimizer step in the paper's recipe.
BATCH = 128
_GOLDEN = 0x9E3779B97F4A7C15
_WORD = 2**64 - 1


@dataclass(frozen=True, slots=True, kw_only=True)
class Micro:
    """What one rank reads at once: a rectangle of rows, each of them whole examples one behind the other.

    Without rows there is nothing to learn here for this rank, yet it must take part in the collectives of the others.
    """

    rows: tuple[tuple[int, ...], ...]
    #: Tokens of every row, padding included.
    width: int

    @property
    def ids(self) -> list[int]:
        """The examples, row by row."""
        return [one for row in self.rows for one in row]

    @property
    def slots(self) -> int:
        """Tokens that are computed, padding included."""
        return len(self.rows) * self.width


@dataclass(frozen=True, slots=True, kw_only=True)
class Step:
    """One optimizer step: for each rank its micro-steps, which are as many for every rank."""

    ranks: tuple[tuple[Micro, ...], ...]

    @property
    def ids(self) -> list[int]:
        """All examples of the step, rank by rank."""
        return [one for micros in self.ranks for micro in micros for one in micro.ids]


class Plan(Protocol):
    """What training asks of a plan."""

    @property
    def steps(self) -> int:
        """Optimizer steps in an epoch."""
        ...

    def step(self, epoch: int, step: int) -> Step:
        """Step ``step`` of epoch ``epoch``, both from 0."""
        ...


def at(plan: Plan, number: int) -> Step:
    """The optimizer step of this number, counted from 0 over all epochs: to resume is to go on asking from there."""
    return plan.step(*divmod(number, plan.steps))


@lru_cache(maxsize=4)
def order(seed: int, epoch: int, count: int) -> NDArray[np.int64]:
    """The order of an epoch: a permutation of ``count`` numbers, the same on every machine and with every numpy.

    Example i gets the key mix(mix(mix(seed) + epoch) + i), where mix is the finalizer of SplitMix64 (Steele, Lea and
    Flood 2014) of its argument times the golden gamma; the order is that of the keys. A million take a tenth of a
    second, so the last few epochs are kept.
    """
    import numpy as np

    start = _mix(_mix(seed) + epoch)
    with np.errstate(over="ignore"):
        keys = np.arange(count, dtype=np.uint64) + np.uint64(start)
        keys = (keys + np.uint64(1)) * np.uint64(_GOLDEN)
        keys = (keys ^ (keys >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
        keys = (keys ^ (keys >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
        keys ^= keys >> np.uint64(31)
    found = np.argsort(keys, kind="stable")
    found.flags.writeable = False
    return found


def _mix(value: int) -> int:
    value = (value + 1) * _GOLDEN & _WORD
    value = (value ^ value >> 30) * 0xBF58476D1CE4E5B9 & _WORD
    value = (value ^ value >> 27) * 0x94D049BB133111EB & _WORD
    return value ^ value >> 31


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Examples:
    """The lengths of all examples, in tokens, and the recipe's way through them; the part that all plans share."""

    lengths: NDArray[np.int64]
    seed: int = 42
    #: Examples to an optimizer step; the last step of an epoch is shorter, nothing is dropped and nothing repeated.
    batch: int = BATCH

    def __post_init__(self) -> None:
        import numpy as np

        lengths = np.asarray(self.lengths)
        if lengths.ndim != 1 or not len(lengths) or not np.issubdtype(lengths.dtype, np.integer):
            raise DataError("Lengths are one list of at least one whole number.")
        if lengths.min() < 1:
            raise DataError(f"Example {int(lengths.argmin())} has {int(lengths.min())} tokens; leave empty ones out.")
        _at_least_one(self.batch, "examples to an optimizer step")
        object.__setattr__(self, "lengths", lengths.astype(np.int64))

    @property
    def steps(self) -> int:
        """Optimizer steps in an epoch."""
        return -(-len(self.lengths) // self.batch)

    def ids(self, epoch: int, step: int) -> NDArray[np.int64]:
        """The examples of a step in the recipe's order, shape (batch,), fewer in the last step of an epoch."""
        return _slice(order(self.seed, epoch, len(self.lengths)), step, self.batch)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Balanced:
    """Whole examples without padding, balanced by tokens over ranks and micro-steps.

    A micro-step is one row of at most ``tokens`` tokens for each rank, and every rank has as many of them. There are as
    few as fit; the fullest bins go together, so that ranks which wait for each other at every micro-step (ZeRO-3) wait
    little, and a rank's large bin is followed by a small one, so that those which wait at the step's end do, too. No
    micro-step is empty unless the step has fewer examples than ranks times micro-steps, as its epoch's last may.
    """

    examples: Examples
    ranks: int
    #: Tokens that a rank can take at once; an example that is longer is refused, for this is a promise about memory.
    tokens: int

    def __post_init__(self) -> None:
        _at_least_one(self.ranks, "ranks")
        longest = int(self.examples.lengths.max())
        if longest > self.tokens:
            place = int(self.examples.lengths.argmax())
            raise DataError(
                f"Example {place} has {longest:,} tokens and a micro-step holds {self.tokens:,}: "
                f"allow {longest:,} tokens or more, or prepare the data with a smaller length limit."
            )

    @property
    def steps(self) -> int:
        """Optimizer steps in an epoch."""
        return self.examples.steps

    def step(self, epoch: int, step: int) -> Step:
        """Step ``step`` of epoch ``epoch``, both from 0; raises IndexError where there is none."""
        ids = self.examples.ids(epoch, step)
        sizes = self.examples.lengths[ids]
        count = -(-int(sizes.sum()) // (self.ranks * self.tokens))
        while True:
            bins = partition(sizes, self.ranks * count)
            loads = [int(sizes[one].sum()) for one in bins]
            if max(loads) <= self.tokens:
                break
            count += 1
        micros = [
            Micro(rows=(tuple(ids[one].tolist()),) if one else (), width=load)
            for one, load in zip(bins, loads, strict=True)
        ]
        return Step(ranks=_deal(sorted(micros, key=lambda one: -one.width), self.ranks))


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Padded:
    """The recipe as the reference code runs it: ``size`` examples at a time, padded to the longest of them.

    Batch j of a step goes to rank j modulo ranks, as accelerate deals batches out.
    """

    examples: Examples
    ranks: int
    #: Examples that a rank takes at once.
    size: int

    def __post_init__(self) -> None:
        _at_least_one(self.ranks, "ranks")
        _at_least_one(self.size, "examples to a micro-step")

    @property
    def steps(self) -> int:
        """Optimizer steps in an epoch."""
        return self.examples.steps

    def step(self, epoch: int, step: int) -> Step:
        """Step ``step`` of epoch ``epoch``, both from 0; raises IndexError where there is none."""
        rows = [(one,) for one in self.examples.ids(epoch, step).tolist()]
        return Step(ranks=_in_turn(rows, self.examples.lengths, self.ranks, self.size))


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Packed:
    """Examples packed into rows by best-fit decreasing, and then batches of rows.

    A step is ``examples.batch`` *rows*: several times as many examples as in the recipe, hence fewer optimizer steps.
    """

    examples: Examples
    ranks: int
    #: Rows that a rank takes at once.
    size: int
    #: Tokens of a row; an example that is longer is refused.
    tokens: int
    rows: tuple[tuple[int, ...], ...] = field(init=False)

    def __post_init__(self) -> None:
        _at_least_one(self.ranks, "ranks")
        _at_least_one(self.size, "rows to a micro-step")
        rows = best_fit(self.examples.lengths, self.tokens)
        object.__setattr__(self, "rows", tuple(map(tuple, rows)))

    @property
    def steps(self) -> int:
        """Optimizer steps in an epoch."""
        return -(-len(self.rows) // self.examples.batch)

    def step(self, epoch: int, step: int) -> Step:
        """Step ``step`` of epoch ``epoch``, both from 0; raises IndexError where there is none."""
        places = _slice(order(self.examples.seed, epoch, len(self.rows)), step, self.examples.batch)
        rows = [self.rows[place] for place in places.tolist()]
        return Step(ranks=_in_turn(rows, self.examples.lengths, self.ranks, self.size, width=self.tokens))


def _deal(micros: Sequence[Micro], ranks: int) -> tuple[tuple[Micro, ...], ...]:
    """Micro-steps of falling size to ranks, ``ranks`` at a time: the largest of them to who has least so far."""
    dealt: list[list[Micro]] = [[] for _ in range(ranks)]
    loads = [0] * ranks
    for start in range(0, len(micros), ranks):
        poorest = sorted(range(ranks), key=lambda rank: (loads[rank], rank))
        for rank, micro in zip(poorest, micros[start : start + ranks], strict=True):
            dealt[rank].append(micro)
            loads[rank] += micro.width
    return tuple(map(tuple, dealt))


def _in_turn(
    rows: Sequence[tuple[int, ...]], lengths: NDArray[np.int64], ranks: int, size: int, width: int = 0
) -> tuple[tuple[Micro, ...], ...]:
    """Rows in the order they come, ``size`` at a time, to one rank after the other; as wide as the longest of them."""
    chunks = [tuple(rows[start : start + size]) for start in range(0, len(rows), size)]
    chunks += [()] * (-len(chunks) % ranks)
    micros = [Micro(rows=chunk, width=width or _widest(chunk, lengths)) for chunk in chunks]
    return tuple(tuple(micros[rank::ranks]) for rank in range(ranks))


def _widest(rows: Iterable[tuple[int, ...]], lengths: NDArray[np.int64]) -> int:
    return max((int(lengths[list(row)].sum()) for row in rows), default=0)


def _slice(order: NDArray[np.int64], step: int, batch: int) -> NDArray[np.int64]:
    found = order[step * batch : (step + 1) * batch]
    if step < 0 or not len(found):
        raise IndexError(f"an epoch has {-(-len(order) // batch)} steps, so there is no step {step}")
    return found


def _at_least_one(value: int, what: str) -> None:
    if value < 1:
        raise DataError(f"A plan needs at least one of: {what} (got {value}).")
