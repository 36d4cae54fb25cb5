"""Flan V2: 100,000 prompts of FLAN v2, as the authors of the paper drew them, or drawn anew from its parts.

The rows are {"inputs": "...", "targets": "..."}, one JSON object a line.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from random import Random

from trainer.conversation import Conversation, Rejected
from trainer.errors import DataError
from trainer.raw.rows import Files, Row, conversations
from trainer.sources import Published, Source
from trainer.sources.cot import STORE, exchange

#: What the authors drew; there is no telling whether ``PORTIONS`` gives the same rows from today's parts.
DRAWN = "flan_v2_resampled_100k.jsonl"
#: Thousandths of the whole from each part: zero- or few-shot (zs, fs), with or without answer options (opt, noopt).
PORTIONS = {
    "flan_zsopt": 100,
    "flan_fsopt": 100,
    "flan_zsnoopt": 100,
    "flan_fsnoopt": 100,
    "t0_zsopt": 80,
    "t0_fsopt": 80,
    "t0_zsnoopt": 80,
    "t0_fsnoopt": 80,
    "niv2_zsopt": 100,
    "niv2_fsopt": 100,
    "cot_zsopt": 25,
    "cot_fsopt": 25,
    "dialog_zsopt": 15,
    "dialog_fsopt": 15,
}


def convert(files: Files, random: Random) -> Iterator[Conversation | Rejected]:
    """All of the authors' draw, in its order; it draws nothing."""
    return conversations(files.jsonl(DRAWN), _conversation)


def resample(files: Files, random: Random, *, total: int = 100_000) -> Iterator[Conversation | Rejected]:
    """A new draw of ``total`` from the fourteen parts of FLAN v2 (``flan_zsopt.jsonl`` and so on) by their portions.

    The parts hold 400 million rows, so each is counted and then read again for the lines drawn; no other line is
    parsed. A source of three lines uses it: ``SOURCE = replace(flan_v2.SOURCE, convert=flan_v2.resample)``.
    Raises DataError where a part has fewer lines than its portion.
    """
    return conversations(_drawn(files, random, total), _conversation)


def _drawn(files: Files, random: Random, total: int) -> Iterator[Row | Rejected]:
    number = 0
    for part, portion in PORTIONS.items():
        file, wanted = f"{part}.jsonl", total * portion // 1000
        lines = sum(1 for _ in files.lines(file))
        if lines < wanted:
            raise DataError(f"{file} has {lines:,} lines, of which {wanted:,} should be drawn; give the whole file.")
        chosen = set(random.sample(range(lines), wanted))
        for place, line in enumerate(files.lines(file)):
            if place in chosen:
                yield _parsed(line, number)
                number += 1


def _parsed(line: Row | Rejected, number: int) -> Row | Rejected:
    if isinstance(line, Rejected):
        return line
    try:
        fields = json.loads(line.text("line"))
    except ValueError as error:
        return Rejected(where=line.where, reason=f"not JSON ({error})")
    if not isinstance(fields, dict):
        return Rejected(where=line.where, reason=f"not a JSON object but {type(fields).__name__}")
    return Row(fields, where=line.where, number=number)


def _conversation(row: Row) -> Iterator[Conversation]:
    yield Conversation(dataset="flan_v2", id=f"flan_v2_{row.number}", messages=exchange(row))


SOURCE = Source(
    name="flan_v2",
    title="Flan V2",
    home="https://huggingface.co/datasets/hamishivi/tulu_mix_store",
    licence="Apache-2.0; the sources that it collects vary",
    published=(Published(path=f"flan_v2/{DRAWN}", url=f"{STORE}/{DRAWN}"),),
    convert=convert,
)
