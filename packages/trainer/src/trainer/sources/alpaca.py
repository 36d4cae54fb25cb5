"""Alpaca: 52,002 instructions written and answered by text-davinci-003 after the manner of Self-Instruct.

Raw, ``alpaca_data.json``, one JSON list: ``instruction``, ``input`` (empty where there is none), ``output``. Each row
becomes one turn in a drawn template. The 2023 code calls the dataset ``stanford_alpaca`` and its rows
``stanford_alpaca_0``; here it is ``alpaca`` and ``alpaca_0``, as in the paper's tables. The file is pinned by commit
and by the SHA-256 that others record for it there; the whole file has not been converted by us yet.
"""

from __future__ import annotations

from collections.abc import Iterator
from random import Random

from trainer.conversation import Conversation, Rejected
from trainer.raw.rows import Files, conversations
from trainer.sources import Published, Source
from trainer.sources.templates import alike

_FILE = "alpaca_data.json"
_COMMIT = "761dc5bfbdeeffa89b8bff5d038781a4055f796a"


def convert(files: Files, random: Random) -> Iterator[Conversation | Rejected]:
    """One conversation for each row."""
    return conversations(files.json_list(_FILE), lambda row: alike(row, random, dataset="alpaca"))


SOURCE = Source(
    name="alpaca",
    title="Alpaca",
    home="https://github.com/tatsu-lab/stanford_alpaca",
    licence="CC-BY-NC-4.0",
    published=(
        Published(
            path=f"alpaca/{_FILE}",
            url=f"https://raw.githubusercontent.com/tatsu-lab/stanford_alpaca/{_COMMIT}/{_FILE}",
            sha256="2eddafc6b977608d778aaab8dfc7e50e547b3af9826dfb9e909d9fc362e4a419",
        ),
    ),
    convert=convert,
)
