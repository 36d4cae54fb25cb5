"""Pairs of outputs to the same instruction, from the records of a run or from a file of pairs."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from itertools import islice
from typing import Any

from evalkit import DataError, Row, Source

#: The file that ``evalkit judge`` writes; and beside it what the manifest of the judge's run says of it.
PAIRS, ABOUT = "pairs.jsonl", "pairs.json"


@dataclass(frozen=True, slots=True, kw_only=True)
class Pair:
    """What a model said and what it is compared with."""

    id: str
    #: The bare instruction; ``input`` belongs behind it.
    instruction: str
    input: str = ""
    #: The output that wins or loses.
    said: str
    #: The output that it is compared with.
    reference: str
    subset: str = ""
    #: What others thought: 1 where they preferred ``said``, 0 where the reference, one half for a tie.
    labels: tuple[float, ...] = ()

    @property
    def question(self) -> str:
        """The instruction with its input."""
        return self.instruction + (f"\n\n{self.input}" if self.input else "")

    @property
    def is_tie(self) -> bool:
        """Whether the outputs are equal, so that nobody need be asked."""
        return self.said == self.reference

    def out(self) -> dict[str, Any]:
        """The pair as JSON; what is empty is left out."""
        fields = {name: getattr(self, name) for name in self.__slots__}
        return {name: held for name, held in fields.items() if held or name in ("id", "said", "reference")}

    @classmethod
    def of(cls, row: Row) -> Pair:
        """The pair of a row of ``pairs.jsonl``."""
        texts = {name: row.text(name) for name in ("id", "instruction", "said", "reference")}
        more = {name: row.text(name) for name in ("input", "subset") if name in row}
        return cls(**texts, **more, labels=tuple(map(float, row.get("labels", ()))))


@dataclass(frozen=True, slots=True, kw_only=True)
class Shown:
    """A pair in the order in which a judge sees it."""

    pair: Pair
    #: The reference stands first.
    flipped: bool

    @property
    def outputs(self) -> tuple[str, str]:
        """Output (a) and output (b)."""
        said, reference = self.pair.said, self.pair.reference
        return (reference, said) if self.flipped else (said, reference)

    @property
    def target(self) -> str:
        """The letter of the run's answer."""
        return "b" if self.flipped else "a"


def read(source: Source) -> Iterator[Pair]:
    """The pairs of a source: a run's answers with their references, or a file of pairs.

    Records whose response failed are left out: nothing can be said about them.
    """
    found = source.find("records.jsonl")
    if len(found) > 1:
        raise DataError(f"{source.path} holds {len(found)} runs; pass the folder of one of them to --data.")
    for about in source.find(ABOUT):
        source.text(about)  # what is read binds the run: the same outputs by other models are another one
    for row in source.jsonl(source.one(PAIRS, "records.jsonl")):
        if "said" in row:
            yield Pair.of(row)
        elif row["answers"]:
            yield of_record(row)


def of_record(row: Row) -> Pair:
    """A record's answer and its reference. Blanks around outputs would give the reference away, so they go."""
    meta = row.get("meta", {})
    more = str(meta.get("input", "")) if isinstance(meta, Mapping) else ""
    instruction = row.text("question")
    if more and instruction.endswith(f"\n\n{more}"):
        instruction = instruction.removesuffix(f"\n\n{more}")
    else:
        more = ""
    return Pair(
        id=row.text("id"),
        instruction=instruction,
        input=more,
        said=said(row),
        reference=row.text("target").strip(),
        subset=row.get("subset", ""),
    )


def said(row: Row) -> str:
    """The one text that a record holds."""
    try:
        (text,) = row["response"]["texts"]
        return str(text.get("text", "")).strip()
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        raise row.fault("a record of one generated text is expected") from error


def arranged(pairs: Iterable[Pair], *, size: int, both: bool, seed: int) -> Iterator[tuple[str, str, list[Shown]]]:
    """The prompts that a judge gets: id, group and the pairs of each, ``size`` of them or fewer.

    Which output stands first is a coin that the texts themselves throw, the same in every run and on every machine;
    ``both`` adds the other order, in a prompt of the same group. Several pairs a prompt are shuffled by such a hash,
    too, those with an input apart. Equal outputs are a prompt of their own, which is never asked.
    """
    for chunk in _chunks(pairs, size, seed):
        name = "+".join(pair.id for pair in chunk)
        shown = [Shown(pair=pair, flipped=bool(_thrown(pair, seed)[0] & 1)) for pair in chunk]
        if not both:
            yield name, "", shown
            continue
        yield f"{name}/1", name, shown
        yield f"{name}/2", name, [Shown(pair=one.pair, flipped=not one.flipped) for one in shown]


def _chunks(pairs: Iterable[Pair], size: int, seed: int) -> Iterator[tuple[Pair, ...]]:
    if size == 1:
        yield from ((pair,) for pair in pairs)
        return
    left = []
    for pair in pairs:
        if pair.is_tie:
            yield (pair,)
        else:
            left.append(pair)
    left.sort(key=lambda pair: (bool(pair.input), _thrown(pair, seed)))
    for with_input in (False, True):
        some = (pair for pair in left if bool(pair.input) is with_input)
        while chunk := tuple(islice(some, size)):
            yield chunk


def _thrown(pair: Pair, seed: int) -> bytes:
    thrown = json.dumps([seed, pair.question, pair.said, pair.reference])
    return hashlib.sha256(thrown.encode()).digest()
