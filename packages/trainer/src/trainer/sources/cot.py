"""CoT: the chain-of-thought part of FLAN v2, 50,000 zero-shot and 50,000 few-shot prompts drawn from it.

The rows are {"inputs": "...", "targets": "..."}, one JSON object a line, in a zero-shot and a few-shot file.
"""

from __future__ import annotations

from collections.abc import Generator, Iterator, Sequence
from random import Random

from trainer.conversation import Conversation, Message, Rejected
from trainer.raw.rows import Fault, Files, Row
from trainer.sources import Published, Source

#: Drawn from each of the two files, or all where a file has no more.
DRAWN = 50_000
#: In the order in which they are drawn from and written.
FILES = ("cot_zsopt.jsonl", "cot_fsopt.jsonl")
#: The store of the paper's authors, since the addresses that they gave first are dead.
STORE = "https://huggingface.co/datasets/hamishivi/tulu_mix_store/resolve/7508c5e92f6ebee594f3d60854970a0d0a9587a3"


def exchange(row: Row) -> tuple[Message, Message]:
    """What a FLAN row asks and answers.

    A prompt that ends in neither a newline nor a colon gets a newline, as in 2023. It changes no training text, since
    the Tülu template strips contents, but the counts of Table 1, which strip nothing. Raises Fault where prompt or
    answer are blank, which the 2023 code kept.
    """
    prompt, answer = row.text("inputs"), row.text("targets")
    for name, text in (("inputs", prompt), ("targets", answer)):
        if not text.strip():
            raise row.fault(f"field {name!r} is empty")
    if not prompt.endswith("\n") and not prompt.rstrip().endswith(":"):
        prompt += "\n"
    return Message(role="user", content=prompt), Message(role="assistant", content=answer)


def convert(files: Files, random: Random, *, drawn: int = DRAWN) -> Iterator[Conversation | Rejected]:
    """``drawn`` conversations from each file, in the order of the draw; rejected rows cannot be drawn."""
    number = 0
    for file in FILES:
        chosen = yield from _draw(files, file, random, drawn)
        slots = {place: slot for slot, place in enumerate(chosen)}
        found: dict[int, tuple[Message, Message]] = {}
        for place, messages in enumerate(_exchanges(files, file)):
            if place in slots:
                found[slots[place]] = messages
        for slot in range(len(chosen)):
            yield Conversation(dataset="cot", id=f"cot_{number}", messages=found.pop(slot))
            number += 1


def _draw(files: Files, file: str, random: Random, drawn: int) -> Generator[Rejected, None, Sequence[int]]:
    """Count a file's good rows, yield the others, and return the places of those drawn."""
    good = 0
    for row in files.jsonl(file):
        try:
            if isinstance(row, Rejected):
                yield row
            else:
                exchange(row)
                good += 1
        except Fault as fault:
            yield fault.rejected
    # The places drawn from a range are those drawn from a list of its length, and hold no texts.
    return random.sample(range(good), drawn) if good > drawn else range(good)


def _exchanges(files: Files, file: str) -> Iterator[tuple[Message, Message]]:
    for row in files.jsonl(file):
        try:
            if not isinstance(row, Rejected):
                yield exchange(row)
        except Fault:
            continue  # told when the rows were counted


SOURCE = Source(
    name="cot",
    title="CoT",
    home="https://huggingface.co/datasets/hamishivi/tulu_mix_store",
    licence="Apache-2.0",
    published=tuple(Published(path=f"cot/{file}", url=f"{STORE}/{file}") for file in FILES),
    convert=convert,
)
