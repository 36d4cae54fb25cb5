"""Dolly: 15,011 instructions that Databricks' employees wrote and answered.

Raw, ``databricks-dolly-15k.jsonl``: ``instruction``, ``context`` (empty where there is none), ``response`` and
``category``, which is not used. Each row becomes one turn in a drawn template, the context as its input. The file is
pinned by revision and by the SHA-256 that others record for it there; the whole file has not been converted by us yet.
"""

from __future__ import annotations

from collections.abc import Iterator
from random import Random

from trainer.conversation import Conversation, Rejected
from trainer.raw.rows import Files, conversations
from trainer.sources import Published, Source
from trainer.sources.templates import alike

_FILE = "databricks-dolly-15k.jsonl"
_REVISION = "bdd27f4d94b9c1f951818a7da7fd7aeea5dbff1a"


def convert(files: Files, random: Random) -> Iterator[Conversation | Rejected]:
    """One conversation for each row."""
    names = {"input": "context", "output": "response"}
    return conversations(files.jsonl(_FILE), lambda row: alike(row, random, dataset="dolly", **names))


SOURCE = Source(
    name="dolly",
    title="Dolly",
    home="https://huggingface.co/datasets/databricks/databricks-dolly-15k",
    licence="CC-BY-SA-3.0",
    published=(
        Published(
            path=f"dolly/{_FILE}",
            url=f"https://huggingface.co/datasets/databricks/databricks-dolly-15k/resolve/{_REVISION}/{_FILE}",
            sha256="2df9083338b4abd6bceb5635764dab5d833b393b55759dffb0959b6fcbf794ec",
        ),
    ),
    convert=convert,
)
