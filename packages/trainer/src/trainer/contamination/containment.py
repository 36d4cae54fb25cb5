"""Which evaluation items a conversation holds: by runs of words that they share, and by texts that are equal.

The rule, on folded words (`trainer.contamination.folding`), for an item of L words and grams of n = 8 words:

1. *Runs*, L >= 8. Held when the conversation has as many of the item's grams as two fifths of it, in one piece, have:
   so half of an item is found wherever it was cut. Grams in more than 10 items, or of numbers and the commonest words,
   are boilerplate: one that is none must be among them, unless a run of 13 words or more is two fifths of the item.
2. *Phrases*, 8 <= L < 16, whose halves have fewer than 8 words. The first or last half of the item's words, when
   they are rare: in at most 10 items, and worth `RARE` bits by how often each of them is in all items.
3. *Short items*, 3 <= L < 8. Held when their text, case and punctuation included, is there between word borders, or
   when their words are there and worth `RARE` bits; never where more than 2 items share the words.
4. *Equal texts*. A message that is an item; or half of one of 8 to 80 words; or what a cut near the middle leaves of
   one of 8 to 19. A line that is an item or such a part counts, too, when it has 4 words or more, says enough by
   bits, and few items have it.
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Literal, TypeAlias

import numpy as np
from numpy.typing import NDArray

from trainer.contamination.folding import fold
from trainer.contamination.items import Item
from trainer.contamination.ngrams import Grams, Table
from trainer.conversation import Conversation

#: Words of a gram.
WORDS = 8
#: The share of an item's words, in one piece, that is found; below a half, for a text may be cut at its characters.
SHARE = 0.4
#: A gram in more items than these is how a benchmark talks, not what it asks.
MANY = 10
#: In how many items the places of a gram are kept: as many as a benchmark repeats its boilerplate in.
KEPT = 1000
#: A short item whose words more items share asks nothing of its own.
SHARED = 2
#: Shorter items say too little to be looked for inside a text.
SHORTEST = 3
#: The least words of a run that boilerplate counts in.
LONG = 13
#: How many bits make a phrase rare: words that chance alone would put in this order once in 2^RARE places.
RARE = 60.0
#: Words worth less are numbers, single letters and the commonest words: boilerplate, too.
PLAIN = 40.0
#: From this length on a half has so many words more than a gram that phrases are not needed.
CLEAR = 20
#: More words than these are never compared as a whole: grams find them.
EQUAL = 80

Why: TypeAlias = Literal["run", "phrase", "text", "equal"]
#: Where a gram begins in the item's text and in the words that are searched, and whether it is boilerplate.
_Hit: TypeAlias = tuple[int, int, bool]


@dataclass(frozen=True, slots=True)
class Found:
    """An item that a conversation holds."""

    #: Which of the index's items.
    item: int
    why: Why
    #: How much of the item's grams are there; 1 is all of it.
    share: float
    #: The conversation's folded words around the place.
    words: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Texts:
    """The folded forms of all items; arrays have the shape (texts,)."""

    #: Which item each is a form of, and which of the item's texts.
    items: NDArray[np.int32]
    forms: NDArray[np.int32]
    #: Its words.
    lengths: NDArray[np.int32]
    #: Its grams that are no boilerplate; of a short item, whether its words are rare.
    rare: NDArray[np.int32]


@dataclass(frozen=True, slots=True, kw_only=True)
class Lookup:
    """Grams of one size, and what it means to find one."""

    why: Why
    size: int
    table: Table


@dataclass(frozen=True, slots=True, kw_only=True)
class Index:
    """All that a search needs of the items: it grows with them alone, never with what is searched."""

    items: tuple[Item, ...]
    vocabulary: dict[str, int] = field(repr=False)
    #: A number for each word, shape (vocabulary + 1,).
    numbers: NDArray[np.uint64] = field(repr=False)
    texts: Texts = field(repr=False)
    lookups: tuple[Lookup, ...] = field(repr=False)
    #: Folded text to item, and whether a line may be it or only a message.
    equal: dict[str, tuple[int, bool]] = field(repr=False)
    #: The same for what is no words but numbers and marks, case and all but without spaces.
    marks: dict[str, int] = field(repr=False)
    #: Words of a gram.
    words: int = WORDS

    def search(self, conversations: Sequence[Conversation]) -> list[list[Found]]:
        """What each conversation holds, most of an item first; fastest with some hundred conversations at a time."""
        found: list[dict[int, Found]] = [{} for _ in conversations]
        words: list[str] = []
        bounds = []
        for conversation, mine in zip(conversations, found, strict=True):
            bounds.append(len(words))
            for message in conversation.messages:
                folded = fold(message.content)
                self._compare(message.content, folded, mine)
                words += folded.split()
                words.append("")  # no run goes on from one message to the next
        known = self.vocabulary.get
        grams = Grams(self.numbers[np.array([known(word, 0) for word in words], np.int64)])
        starts = np.array(bounds, np.int64)
        for lookup in self.lookups:
            for (place, text), hits in _hits(lookup, grams[lookup.size], starts).items():
                share = self._share(lookup, text, hits, conversations[place])
                item = int(self.texts.items[text])
                if share and (item not in found[place] or found[place][item].share < share):
                    around = words[max(int(starts[place]), hits[0][1] - 5) : hits[0][1] + 25]
                    found[place][item] = Found(item, lookup.why, share, " ".join(around))
        return [sorted(mine.values(), key=lambda one: (-one.share, one.item)) for mine in found]

    def _compare(self, content: str, folded: str, found: dict[int, Found]) -> None:
        """Look a message and its lines up among the equal texts."""
        lines = folded.split("\n")
        for text, whole in [*((line, len(lines) == 1) for line in lines), (folded, True)]:
            if len(text) <= 15 * EQUAL:
                plain = " ".join(text.split())
                item, in_line = self.equal.get(plain, (-1, False))
                if item >= 0 and (in_line or whole):
                    found[item] = Found(item, "equal", 1.0, plain)
        for line in content.split("\n"):
            if len(line) <= 15 * EQUAL:
                item = self.marks.get("".join(line.split()), -1)
                if item >= 0:
                    found[item] = Found(item, "equal", 1.0, line)

    def _share(self, lookup: Lookup, text: int, hits: Sequence[_Hit], conversation: Conversation) -> float:
        """How much of a text's grams a conversation has, or 0 where that is not enough."""
        length, rare = int(self.texts.lengths[text]), int(self.texts.rare[text])
        if lookup.why == "text":
            raw = self.items[int(self.texts.items[text])].texts[int(self.texts.forms[text])]
            return float(bool(rare) or any(_states(message.content, raw) for message in conversation.messages))
        here = sorted({at for at, _, _ in hits})
        share = len(here) / (length - lookup.size + 1)
        if lookup.why == "phrase" or share == 1:
            return share
        piece = int(SHARE * length)
        asked = len({at for at, _, often in hits if not often})
        if asked and (len(here) > piece - lookup.size or asked >= SHARE * rare):
            return share
        return share if _longest(here) + lookup.size - 1 >= max(LONG, piece) else 0.0


def size_of(length: int, words: int) -> int:
    """The words of a gram for a text of so many words, at least 8: as many as asked for, fewer in shorter texts."""
    return min(max(WORDS, int(SHARE * length)), words)


def _hits(lookup: Lookup, grams: NDArray[np.uint64], bounds: NDArray[np.int64]) -> dict[tuple[int, int], list[_Hit]]:
    """The grams that a (conversation, text) have in common; boilerplate of a few texts, or of those that share more."""
    found: dict[tuple[int, int], list[_Hit]] = defaultdict(list)
    table = lookup.table
    places, which = table.find(grams)
    mine: NDArray[np.int64] = np.searchsorted(bounds, places, side="right") - 1
    often: NDArray[np.bool_] = table.spread[which] > (SHARED if lookup.why == "text" else MANY)
    texts: dict[int, set[int]] = defaultdict(set)
    for one in np.flatnonzero(~often).tolist():
        place, conversation = int(places[one]), int(mine[one])
        for at in range(int(table.starts[which[one]]), int(table.starts[which[one] + 1])):
            text = int(table.texts[at])
            texts[conversation].add(text)
            found[conversation, text].append((int(table.places[at]), place, False))
    # A gram of a thousand items would cost a thousand steps at each of its places, so only what may count is taken.
    wanted = {conversation: np.array(sorted(those), np.int32) for conversation, those in texts.items()}
    for one in np.flatnonzero(often).tolist() if lookup.why == "run" else ():
        start, end = int(table.starts[which[one]]), int(table.starts[which[one] + 1])
        conversation = int(mine[one])
        first = range(start, min(end, start + MANY))
        more: NDArray[np.int64] = np.flatnonzero(np.isin(table.texts[start:end], wanted.get(conversation, ()))) + start
        for at in {*first, *more.tolist()}:
            found[conversation, int(table.texts[at])].append((int(table.places[at]), int(places[one]), True))
    return found


def _longest(places: Sequence[int]) -> int:
    """How many of the ascending numbers follow each other without a gap, at most."""
    best = run = 0
    for place, before in zip(places, [-2, *places], strict=False):
        run = run + 1 if place == before + 1 else 1
        best = max(best, run)
    return best


def _states(content: str, raw: str) -> bool:
    """Whether a text stands in another as it is, but for spaces, and not inside a word."""
    parts = re.escape(" ".join(raw.split())).replace(r"\ ", r"\s+")
    return re.search(rf"(?<!\w){parts}(?!\w)", content) is not None
