"""Self-Instruct: 82,439 instructions that GPT-3 (davinci) wrote and answered, from 175 seeds.

Raw, ``all_instances_82K.jsonl``: ``instruction``, ``input`` (empty where there is none), ``output``. Each row becomes
one turn in a drawn template. The commit is the head of the repository's main branch as others cite it; no SHA-256 of
the file is known to us, so the first fetch records one.
"""

from __future__ import annotations

from collections.abc import Iterator
from random import Random

from trainer.conversation import Conversation, Rejected
from trainer.raw.rows import Files, conversations
from trainer.sources import Published, Source
from trainer.sources.templates import alike

_FILE = "all_instances_82K.jsonl"
_COMMIT = "0b26ccaa415992100fa32df62d41b994cf928e23"
_FOLDER = f"https://raw.githubusercontent.com/yizhongw/self-instruct/{_COMMIT}/data/gpt3_generations/batch_221203"


def convert(files: Files, random: Random) -> Iterator[Conversation | Rejected]:
    """One conversation for each row."""
    return conversations(files.jsonl(_FILE), lambda row: alike(row, random, dataset="self_instruct"))


SOURCE = Source(
    name="self_instruct",
    title="Self-instruct",
    home="https://github.com/yizhongw/self-instruct",
    licence="Apache-2.0",
    published=(Published(path=f"self_instruct/{_FILE}", url=f"{_FOLDER}/{_FILE}"),),
    convert=convert,
)
