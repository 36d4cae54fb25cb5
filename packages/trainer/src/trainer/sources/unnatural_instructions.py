"""Unnatural Instructions: 68,478 tasks that GPT-3 (text-davinci-002) wrote with input, constraints and output.

Raw, ``core_data.jsonl`` in ``core_data.zip``, read there: ``instruction``, and ``instances``, each with ``input``,
``constraints`` and ``output`` (and ``instruction_with_input``, which is not used). Each instance becomes one turn in a
drawn template. The constraints follow the instruction on a line of their own, unless they are empty or say, in
whatever case, *none* or *none.*; ``" none"`` with a blank before it stays a constraint, as in 2023.

The 2023 code names a row's instances alike; here the second is ``unnatural_instructions_7.1`` and so on (the published
rows have one each). The commit is one of the repository's own history; no SHA-256 of the archive is known to us, so
the first fetch records one.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from random import Random

from trainer.conversation import Conversation, Rejected
from trainer.raw.rows import Fault, Files, Row, conversations
from trainer.sources import Published, Source
from trainer.sources.templates import templated

_NAME = "unnatural_instructions"
_COMMIT = "c1359f18252a468f624e74724a605c20a9a0c795"


def convert(files: Files, random: Random) -> Iterator[Conversation | Rejected]:
    """One conversation for each instance of each row."""
    for row in files.jsonl("core_data.jsonl"):
        try:
            yield from [row] if isinstance(row, Rejected) else _turns(row, random)
        except Fault as fault:
            yield fault.rejected


def _turns(row: Row, random: Random) -> Iterator[Conversation | Rejected]:
    instruction, instances = row.text("instruction"), list(row.each("instances"))
    if not instances:
        raise row.fault("field 'instances' is an empty list")
    for place, instance in enumerate(instances):
        id = f"{_NAME}_{row.number}" + (f".{place}" if place else "")
        yield from conversations([instance], partial(_turn, random=random, id=id, instruction=instruction))


def _turn(instance: Row, random: Random, id: str, instruction: str) -> Iterator[Conversation]:
    constraints = instance.text_or_null("constraints")
    yield templated(
        instance,
        random,
        dataset=_NAME,
        id=id,
        instruction=f"{instruction}\n{constraints}" if _constrains(constraints) else instruction,
        input=instance.text_or_null("input"),
        output=instance.text("output"),
    )


def _constrains(constraints: str) -> bool:
    return constraints.lower() not in ("", "none", "none.")


SOURCE = Source(
    name=_NAME,
    title="Unnatural Instructions",
    home="https://github.com/orhonovich/unnatural-instructions",
    licence="MIT",
    published=(
        Published(
            path=f"{_NAME}/core_data.zip",
            url=f"https://raw.githubusercontent.com/orhonovich/unnatural-instructions/{_COMMIT}/data/core_data.zip",
        ),
    ),
    convert=convert,
)
