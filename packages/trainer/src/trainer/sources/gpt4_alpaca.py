"""GPT4-Alpaca: the 52,002 instructions of Alpaca, answered by GPT-4; the English ones only.

Raw, ``alpaca_gpt4_data.json``, one JSON list: ``instruction``, ``input`` (empty where there is none), ``output``. Each
row becomes one turn in a drawn template. The 2023 scripts fetch the Chinese file too and never use it; it is not
fetched here. The commit is one of the repository's own history; no SHA-256 of the file is known to us, so the first
fetch records one.
"""

from __future__ import annotations

from collections.abc import Iterator
from random import Random

from trainer.conversation import Conversation, Rejected
from trainer.raw.rows import Files, conversations
from trainer.sources import Published, Source
from trainer.sources.templates import alike

_FILE = "alpaca_gpt4_data.json"
_COMMIT = "6f44dda22e162133968f6e956b7f287b87b5fdd9"
_FOLDER = f"https://raw.githubusercontent.com/Instruction-Tuning-with-GPT-4/GPT-4-LLM/{_COMMIT}/data"


def convert(files: Files, random: Random) -> Iterator[Conversation | Rejected]:
    """One conversation for each row."""
    return conversations(files.json_list(_FILE), lambda row: alike(row, random, dataset="gpt4_alpaca"))


SOURCE = Source(
    name="gpt4_alpaca",
    title="GPT4-Alpaca",
    home="https://github.com/Instruction-Tuning-with-GPT-4/GPT-4-LLM",
    licence="CC-BY-NC-4.0",
    published=(Published(path=f"gpt4_alpaca/{_FILE}", url=f"{_FOLDER}/{_FILE}"),),
    convert=convert,
)
