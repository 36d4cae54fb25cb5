"""Runs of n words as 64-bit numbers, computed for a whole batch of texts at once and looked up in a table."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Self

import numpy as np
from numpy.typing import NDArray

_BASE = 0x9E3779B97F4A7C15  # odd, so that multiplying loses nothing
_WORD = 2**64
#: Bits of the filter to a gram: with 64, one lookup in 64 that should find nothing passes on to the search.
_SPARSE = 64


def word_numbers(count: int) -> NDArray[np.uint64]:
    """A number for each word of a vocabulary, spread over 64 bits (SplitMix64); word 0, the unknown one, has 0."""
    with np.errstate(over="ignore"):
        found = np.arange(count, dtype=np.uint64) * np.uint64(_BASE)
        found = (found ^ (found >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
        found = (found ^ (found >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return found ^ (found >> np.uint64(31))


class Grams:
    """The grams of one text, or of many with unknown words between them, by size; each is made from smaller ones."""

    def __init__(self, numbers: NDArray[np.uint64]) -> None:
        self._made = {1: numbers}

    def __getitem__(self, size: int) -> NDArray[np.uint64]:
        """The number of the gram that begins at each word, shape (words - size + 1,), or (0,)."""
        if size not in self._made:
            half = size // 2
            left, right = self[size - half], self[half]
            count = max(0, len(self[1]) - size + 1)
            with np.errstate(over="ignore"):
                power = np.uint64(pow(_BASE, size - half, _WORD))
                self._made[size] = left[:count] + right[size - half :][:count] * power
        return self._made[size]


@dataclass(frozen=True, slots=True, kw_only=True)
class Table:
    """Grams of one size, and where in which text each of them is."""

    #: Sorted, each once, shape (grams,).
    grams: NDArray[np.uint64]
    #: In how many items a gram is, shape (grams,).
    spread: NDArray[np.int32]
    #: Where in the next two the places of a gram begin, shape (grams + 1,); a gram of many items has but the first.
    starts: NDArray[np.int64]
    texts: NDArray[np.int32]
    places: NDArray[np.int32]
    _filter: NDArray[np.uint8]

    @classmethod
    def build(
        cls,
        grams: NDArray[np.uint64],
        texts: NDArray[np.int32],
        places: NDArray[np.int32],
        items: NDArray[np.int32],
        most: int,
    ) -> Self:
        """The table of gram i, at word ``places[i]`` of text ``texts[i]`` of item ``items[i]``; all of shape (n,).

        Of a gram that is in more than ``most`` items the places in the first ``most`` of them are kept.
        """
        rank = np.lexsort((places, texts, items, grams))
        grams, texts, places, items = grams[rank], texts[rank], places[rank], items[rank]
        new: NDArray[np.bool_] = np.ones(len(grams), bool)
        new[1:] = grams[1:] != grams[:-1]
        new_item = new.copy()
        new_item[1:] |= items[1:] != items[:-1]
        which = np.cumsum(new) - 1
        nth = np.cumsum(new_item)
        nth -= nth[np.flatnonzero(new)][which] - 1  # the how-manieth item of its gram, from 1
        spread: NDArray[np.int32] = np.zeros(int(new.sum()), np.int32)
        np.maximum.at(spread, which, nth.astype(np.int32))
        kept = nth <= most
        starts: NDArray[np.int64] = np.zeros(len(spread) + 1, np.int64)
        np.cumsum(np.bincount(which[kept], minlength=len(spread)), out=starts[1:])
        unique = grams[new]
        return cls(
            grams=unique, spread=spread, starts=starts, texts=texts[kept], places=places[kept], _filter=_filter(unique)
        )

    def find(self, grams: NDArray[np.uint64]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Which of the given grams are here, and which of these they are; both of shape (found,)."""
        bits = _slot(grams, self._filter)
        passed = np.flatnonzero((self._filter[bits >> np.uint64(3)] >> (bits & np.uint64(7)).astype(np.uint8)) & 1)
        if not len(passed):
            return passed, passed
        where: NDArray[np.int64] = np.searchsorted(self.grams, grams[passed])
        where[where == len(self.grams)] = 0
        same = self.grams[where] == grams[passed]
        return passed[same], where[same]


def _slot(grams: NDArray[np.uint64], filter: NDArray[np.uint8]) -> NDArray[np.uint64]:
    with np.errstate(over="ignore"):
        return (grams * np.uint64(0xD6E8FEB86659FD93)) >> np.uint64(64 - (8 * len(filter)).bit_length() + 1)


def _filter(grams: NDArray[np.uint64]) -> NDArray[np.uint8]:
    found: NDArray[np.uint8] = np.zeros(max(1, 1 << (max(1, len(grams)) * _SPARSE).bit_length() >> 3), np.uint8)
    bits = _slot(grams, found)
    np.bitwise_or.at(found, bits >> np.uint64(3), np.uint8(1) << (bits & np.uint64(7)).astype(np.uint8))
    return found
