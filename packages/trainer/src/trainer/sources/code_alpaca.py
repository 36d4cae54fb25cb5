"""Code-Alpaca: 20,022 programming tasks written and answered after the manner of Alpaca.

Raw, ``code_alpaca_20k.json``, one JSON list: ``instruction``, ``input`` (empty where there is none), ``output``. Each
row becomes one turn in a drawn template. The commit is the one that others cite; no SHA-256 of the file is known to
us, so the first fetch records one.
"""

from __future__ import annotations

from collections.abc import Iterator
from random import Random

from trainer.conversation import Conversation, Rejected
from trainer.raw.rows import Files, conversations
from trainer.sources import Published, Source
from trainer.sources.templates import alike

_FILE = "code_alpaca_20k.json"
_COMMIT = "2f78ddc5c682ed6738ad092bbbfa59ba915afcb0"


def convert(files: Files, random: Random) -> Iterator[Conversation | Rejected]:
    """One conversation for each row."""
    return conversations(files.json_list(_FILE), lambda row: alike(row, random, dataset="code_alpaca"))


SOURCE = Source(
    name="code_alpaca",
    title="Code-Alpaca",
    home="https://github.com/sahil280114/codealpaca",
    licence="CC-BY-NC-4.0",
    published=(
        Published(
            path=f"code_alpaca/{_FILE}",
            url=f"https://raw.githubusercontent.com/sahil280114/codealpaca/{_COMMIT}/data/{_FILE}",
        ),
    ),
    convert=convert,
)
