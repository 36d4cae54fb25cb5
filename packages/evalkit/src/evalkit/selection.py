"""Which examples of a benchmark a run asks."""

from __future__ import annotations

import random
import re
from array import array
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import islice, pairwise

from evalkit.errors import DataError, EvalkitError, UnknownName
from evalkit.types import Example


@dataclass(frozen=True, slots=True, kw_only=True)
class Shard:
    """One of ``count`` equal shares, numbered from 0."""

    index: int
    count: int

    @classmethod
    def read(cls, text: str) -> Shard:
        """The shard that ``0/4`` names; raises EvalkitError for what is none."""
        found = re.fullmatch(r"(\d{1,5})/(\d{1,5})", text)
        if not found or not int(found[1]) < int(found[2]):
            raise EvalkitError(f"--shard {text} names no share: of 4, they are 0/4, 1/4, 2/4 and 3/4.")
        return cls(index=int(found[1]), count=int(found[2]))

    def __str__(self) -> str:
        return f"{self.index}/{self.count}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Selection:
    """The chosen positions among all examples, one byte each so that a million cost a megabyte."""

    chosen: bytearray
    #: How many are chosen.
    n: int
    #: How many were drawn at random from each subset; None when none were.
    draw: int | None = None
    #: The names of the subsets from which something is chosen.
    subsets: frozenset[str] = frozenset()

    @property
    def total(self) -> int:
        """How many examples there are."""
        return len(self.chosen)

    def __contains__(self, position: object) -> bool:
        return isinstance(position, int) and position < len(self.chosen) and bool(self.chosen[position])

    def share(self, shard: Shard) -> Selection:
        """Every ``count``-th of the chosen, so that each share has its part of long and short, hard and easy."""
        chosen = bytearray(len(self.chosen))
        mine = islice(
            (position for position in range(self.total) if self.chosen[position]), shard.index, None, shard.count
        )
        for position in mine:
            chosen[position] = 1
        return replace(self, chosen=chosen, n=sum(chosen))


def select(
    examples: Iterable[Example],
    *,
    limit: int | None = None,
    subsets: Sequence[str] = (),
    draw: int | None = None,
    seed: int = 42,
) -> Selection:
    """Choose all, or those of the named subsets, or the first ``limit`` taken from the subsets in turn.

    ``draw`` first takes that many at random from each subset, in the order of their names and from one stream of
    ``random.Random(seed)``, as the Tülu 1 evaluation drew its subsets (where it followed the order of a directory or
    of a set, ours is sorted). A larger limit chooses what a smaller one did and more. Raises DataError when there are
    no examples or two share an id, UnknownName for a subset that does not exist.
    """
    codes: dict[str, int] = {}
    subset_of, ids = array("I"), array("q")
    for example in examples:
        subset_of.append(codes.setdefault(example.subset, len(codes)))
        ids.append(hash(example.id))
    if not subset_of:
        raise DataError("The data holds no examples.")
    _require_distinct(ids)
    for name in subsets:
        if name not in codes:
            if list(codes) == [""]:
                raise EvalkitError(f"There is no subset {name!r}: this benchmark has none. Leave --subset out.")
            raise UnknownName("subset", name, codes, listed="There are")
    allowed = {codes[name] for name in subsets} or set(codes.values())
    sizes = [min(subset_of.count(code), draw or len(subset_of)) for code in range(len(codes))]
    quota = _quotas([size if code in allowed else 0 for code, size in enumerate(sizes)], limit)
    drawn = _drawn(subset_of, codes, draw, seed) if draw else None
    chosen = bytearray(len(subset_of))
    taken = [0] * len(codes)
    for position, code in enumerate(subset_of):
        if taken[code] < quota[code] and (drawn is None or position in drawn):
            taken[code] += 1
            chosen[position] = 1
    asked = frozenset(name for name, code in codes.items() if taken[code])
    return Selection(chosen=chosen, n=sum(taken), draw=draw, subsets=asked)


def _drawn(subset_of: array[int], codes: Mapping[str, int], draw: int, seed: int) -> set[int]:
    """The positions that are drawn, ``draw`` a subset; a subset that has no more is taken whole and draws nothing."""
    positions: dict[int, list[int]] = {code: [] for code in codes.values()}
    for position, code in enumerate(subset_of):
        positions[code].append(position)
    stream = random.Random(seed)
    drawn: set[int] = set()
    for _, code in sorted(codes.items()):
        members = positions[code]
        drawn.update(stream.sample(members, draw) if len(members) > draw else members)
    return drawn


def _quotas(sizes: list[int], limit: int | None) -> list[int]:
    """How many to take of each subset when they are served in turn, one at a time."""
    if limit is None:
        return sizes
    if limit < 1:
        raise EvalkitError(f"--limit {limit} would ask nothing; give 1 or more, or leave it out for all examples.")
    quota = [0] * len(sizes)
    left = min(limit, sum(sizes))
    while left:
        for code, size in enumerate(sizes):
            if left and quota[code] < size:
                quota[code] += 1
                left -= 1
    return quota


def _require_distinct(ids: array[int]) -> None:
    ordered = sorted(ids)
    twice = sum(one == other for one, other in pairwise(ordered))
    if twice:
        raise DataError(f"{twice} examples bear an id that another one has; ids must be unique within a benchmark.")
