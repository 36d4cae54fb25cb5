"""Open Assistant 1: conversation trees written by volunteers, each path from the root a conversation.

A row is a tree: {"message_tree_id": ..., "prompt": {"message_id": ..., "role": "prompter", "text": "...", "replies":
[{"role": "assistant", "text": "...", "replies": [...]}, ...]}}, one JSON object a line.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import count
from random import Random
from typing import Literal, TypeAlias

from trainer.conversation import Conversation, Message, Rejected
from trainer.raw.rows import Files, Row, conversations
from trainer.sources import Published, Source

FILE = "2023-04-12_oasst_ready.trees.jsonl.gz"
_REVISION = "fdf72ae0827c1cda404aff25b6603abec9e3399b"

#: Where a conversation may end: at every assistant message, or at those without a reply.
Ends: TypeAlias = Literal["leaves", "every"]


def convert(files: Files, random: Random, *, ends: Ends = "leaves") -> Iterator[Conversation | Rejected]:
    """A conversation for each path from a root to an assistant message without a reply, in the order of the file.

    The code of June 2023 ended a conversation at *every* assistant message (``ends="every"``), so that an early one
    was learnt once for each message below it. Table 1's 34,795 conversations can hardly come from that: the file has
    88,838 messages, and more than half of them are the assistant's (687 of 1,167 in 100 English trees). Their leaves
    would be 30,500 at the rate of those trees (400), with 1.8 rounds; the table's 1.6 rounds tell of shallower trees
    in the other languages, which have more leaves a message. Only a count of the whole file can settle it.

    Nothing is drawn and no language left out. A prompt that nobody answered ends no conversation; a message that its
    author deleted is kept as in 2023 (the trees read so far hold none).
    """
    number = count()
    return conversations(files.jsonl(FILE), lambda tree: _paths(tree, ends, number))


def _paths(tree: Row, ends: Ends, number: Iterator[int]) -> list[Conversation]:
    """All conversations of a tree, or, by a Fault, none."""
    made: list[tuple[Message, ...]] = []
    # Depth first without recursion, so that no tree is too deep; the last one pushed is the next one read.
    waiting: list[tuple[Row, tuple[Message, ...]]] = [(tree.row("prompt"), ())]
    while waiting:
        node, before = waiting.pop()
        path = (*before, _message(node, depth=len(before)))
        replies = node.rows("replies") if "replies" in node else ()
        if path[-1].role == "assistant" and (ends == "every" or not replies):
            made.append(path)
        waiting.extend((reply, path) for reply in reversed(replies))
    if not made:
        raise tree.fault("no path through the tree ends in an assistant's message")
    return [Conversation(dataset="oasst1", id=f"oasst1_{next(number)}", messages=path) for path in made]


def _message(node: Row, *, depth: int) -> Message:
    expected = "assistant" if depth % 2 else "prompter"
    if node["role"] != expected:
        raise node.fault(f"the role is {node['role']!r}, where {expected!r} is expected")
    text = node.text("text")
    if not text.strip():
        raise node.fault("the text is empty")
    return Message(role="assistant" if depth % 2 else "user", content=text)


SOURCE = Source(
    name="oasst1",
    title="Open Assistant 1",
    home="https://huggingface.co/datasets/OpenAssistant/oasst1",
    licence="Apache-2.0",
    published=(
        Published(
            path=f"oasst1/{FILE}",
            url=f"https://huggingface.co/datasets/OpenAssistant/oasst1/resolve/{_REVISION}/{FILE}",
            sha256="2a9a8fd343e9b28e04a895a669d3253f82d93e9c174d440199ae19d5fafbdff7",
        ),
    ),
    convert=convert,
)
