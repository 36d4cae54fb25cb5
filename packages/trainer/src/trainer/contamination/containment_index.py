"""The index of evaluation items: which grams of their words are looked for, and which texts are compared whole."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence

import numpy as np
from numpy.typing import NDArray

from trainer.contamination.containment import (
    CLEAR,
    EQUAL,
    KEPT,
    MANY,
    PLAIN,
    RARE,
    SHORTEST,
    WORDS,
    Index,
    Lookup,
    Texts,
    Why,
    size_of,
)
from trainer.contamination.folding import fold, fold_apart
from trainer.contamination.items import Item
from trainer.contamination.ngrams import Grams, Table, word_numbers

#: Bits of a number, or of a single letter.
_PLAIN = 3.0


def build(items: Iterable[Item], words: int = WORDS) -> Index:
    """The index of all items, with grams of so many words, 8 or more."""
    all_of_them = tuple(items)
    texts = list(_texts(all_of_them))
    vocabulary: dict[str, int] = {}
    ids = np.array(
        [vocabulary.setdefault(word, len(vocabulary) + 1) for _, _, said in texts for word in said], np.int64
    )
    numbers = word_numbers(len(vocabulary) + 1)
    bits = _bits(ids, vocabulary)
    worth = {word: float(bits[place]) for word, place in vocabulary.items()}
    lengths = np.array([len(said) for _, _, said in texts], np.int32)
    places = _Places(
        grams=Grams(numbers[ids]),
        lengths=lengths,
        starts=np.cumsum(lengths) - lengths,
        items=np.array([item for item, _, _ in texts], np.int32),
        bits=np.concatenate([[0.0], np.cumsum(bits[ids])]),
    )
    lookups, rare = _tables(places, words)
    return Index(
        items=all_of_them,
        vocabulary=vocabulary,
        numbers=numbers,
        texts=Texts(
            items=places.items, forms=np.array([form for _, form, _ in texts], np.int32), lengths=lengths, rare=rare
        ),
        lookups=lookups,
        equal=_equal(all_of_them, texts, worth),
        marks=_marks(all_of_them, worth),
        words=words,
    )


def _texts(items: Sequence[Item]) -> Iterator[tuple[int, int, list[str]]]:
    """Item, form and folded words of every text, each word list of an item once.

    A text whose punctuation became spaces is folded to other words than one whose punctuation vanished, so an item
    has both; what is searched is folded in one way only.
    """
    for number, item in enumerate(items):
        seen = set()
        for form, text in enumerate(item.texts):
            for folded in (fold(text), fold_apart(text)):
                said = folded.split()
                if said and tuple(said) not in seen:
                    seen.add(tuple(said))
                    yield number, form, said


def _bits(ids: NDArray[np.int64], vocabulary: dict[str, int]) -> NDArray[np.float64]:
    """What each word of the vocabulary is worth: minus the logarithm of its share in all texts."""
    counts = np.bincount(ids, minlength=len(vocabulary) + 1)
    worth = np.log2(max(1, len(ids)) / np.maximum(1, counts))
    # Numbers and letters follow each other in ways that say nothing: 1 2 3 4, a b c d.
    worth[[place for word, place in vocabulary.items() if len(word) == 1 or word.isnumeric()]] = _PLAIN
    return worth


class _Places:
    """Where the grams of all texts are; arrays have the shape (texts,), bits (words + 1,)."""

    def __init__(
        self,
        *,
        grams: Grams,
        lengths: NDArray[np.int32],
        starts: NDArray[np.int64],
        items: NDArray[np.int32],
        bits: NDArray[np.float64],
    ) -> None:
        self.grams, self.lengths, self.starts, self.items, self.bits = grams, lengths, starts, items, bits

    def worth(self, starts: NDArray[np.int64], size: int | NDArray[np.int64]) -> NDArray[np.float64]:
        """The bits of so many words from each of these places on."""
        return np.asarray(self.bits[starts + size] - self.bits[starts])

    def table(self, texts: NDArray[np.int64], size: int, *, ends: bool = False) -> Table | None:
        """All grams of a size in these texts, or the rare ones that begin or end them; nothing where there are none."""
        count = np.maximum(self.lengths[texts] - size + 1, 0).astype(np.int64)
        which: NDArray[np.int64] = np.repeat(np.arange(len(texts)), count)
        within = np.arange(len(which)) - np.repeat(np.cumsum(count) - count, count)
        at = self.starts[texts][which] + within
        if ends:
            kept = ((within == 0) | (within == count[which] - 1)) & (self.worth(at, size) >= RARE)
            which, within, at = which[kept], within[kept], at[kept]
        if not len(at):
            return None
        mine = texts[which].astype(np.int32)
        table = Table.build(
            self.grams[size][at], texts=mine, places=within.astype(np.int32), items=self.items[mine], most=KEPT
        )
        plain = self.grams[size][at[self.worth(at, size) < PLAIN]]
        table.spread[np.isin(table.grams, plain)] = MANY + 1
        return table


def _tables(places: _Places, words: int) -> tuple[tuple[Lookup, ...], NDArray[np.int32]]:
    """What to look up, and how many grams of each text are no boilerplate; of a short text, if its words are rare."""
    lengths = places.lengths
    rare: NDArray[np.int32] = np.zeros(len(lengths), np.int32)
    found: list[Lookup] = []
    for size in range(SHORTEST, WORDS):
        short = np.flatnonzero(lengths == size)
        rare[short] = places.worth(places.starts[short], size) >= RARE
        half = (lengths >= WORDS) & (lengths < 2 * WORDS) & (lengths // 2 == size)
        found += _lookup("text", size, places.table(short, size))
        found += _lookup("phrase", size, places.table(np.flatnonzero(half), size, ends=True))
    sizes = np.array([size_of(int(one), words) if one >= WORDS else 0 for one in lengths])
    for size in range(WORDS, words + 1):
        table = places.table(np.flatnonzero(sizes == size), size)
        found += _lookup("run", size, table)
        if table:
            counts = np.diff(table.starts)
            np.add.at(rare, table.texts, np.repeat(table.spread <= MANY, counts).astype(np.int32))
    return tuple(found), rare


def _lookup(why: Why, size: int, table: Table | None) -> list[Lookup]:
    return [Lookup(why=why, size=size, table=table)] if table else []


def _equal(
    items: Sequence[Item], texts: Sequence[tuple[int, int, list[str]]], worth: dict[str, float]
) -> dict[str, tuple[int, bool]]:
    """Folded text to item, and whether a line may be it: items, and what a cut near half leaves of the shorter ones."""
    owners: dict[str, int] = defaultdict(int)
    first: dict[str, int] = {}
    in_line: dict[str, bool] = {}
    for item, form, said in texts:
        if len(said) > EQUAL:
            continue
        whole = " ".join(said)
        first[whole], in_line[whole] = item, len(said) > SHORTEST and _worth(said, worth) >= PLAIN / 2
        for part in _parts(said, items[item].texts[form]):
            bits = _worth(part, worth)
            if len(part) >= SHORTEST and bits >= PLAIN / 2:
                text = " ".join(part)
                owners[text] += 1
                first.setdefault(text, item)
                in_line.setdefault(text, len(part) > SHORTEST and bits >= PLAIN * 3 / 4)
    return {text: (item, in_line[text] and owners[text] <= MANY) for text, item in first.items()}


def _worth(said: Iterable[str], worth: dict[str, float]) -> float:
    return sum(worth.get(word, 0.0) for word in said)


def _parts(said: list[str], raw: str) -> Iterator[list[str]]:
    """The folded halves of a text by word and by character; of a short one, what a cut near the middle leaves."""
    if len(said) < WORDS:
        return
    for half in _halves(raw):
        yield fold(half).split()
    if len(said) < CLEAR:
        for cut in range(-(-len(said) * 2 // 5), len(said) * 3 // 5 + 1):
            yield said[:cut]
            yield said[-cut:]


def _halves(raw: str) -> Iterator[str]:
    words = raw.split()
    for text in (raw, raw.strip()):
        yield text[: len(text) // 2]
        yield text[len(text) // 2 :]
    yield " ".join(words[: len(words) // 2])
    yield " ".join(words[len(words) // 2 :])


def _marks(items: Sequence[Item], worth: dict[str, float]) -> dict[str, int]:
    """Items and halves that are numbers and marks, of which folding leaves next to nothing; without their spaces."""
    found: dict[str, int] = {}
    for number, item in enumerate(items):
        for raw in item.texts:
            for part in (raw, *_halves(raw)) if len(raw) < 8 * EQUAL else ():
                text = "".join(part.split())
                if len(text) >= WORDS and _worth(fold(part).split(), worth) < PLAIN / 2:
                    found.setdefault(text, number)
    return found
