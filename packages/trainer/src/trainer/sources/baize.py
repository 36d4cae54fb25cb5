r"""Baize: four sets of dialogues that ChatGPT held with itself, published as transcripts.

A row is {"topic": "...", "input": "The conversation between human and AI assistant.\n[|Human|] ...\n[|AI|] ..."}, in
four files of one JSON list each; a transcript usually ends with a human turn left empty.
"""

from __future__ import annotations

from collections.abc import Iterator
from random import Random

from trainer.conversation import Conversation, Message, Rejected
from trainer.raw.rows import Files, Row, conversations
from trainer.sources import Published, Source

HUMAN, AI = "[|Human|]", "[|AI|]"
#: In the order in which their rows are numbered.
FILES = tuple(f"{name}_chat_data.json" for name in ("alpaca", "medical", "quora", "stackoverflow"))
_COMMIT = "b021e16212c422694b20c2c9214e8e919e73721f"


def convert(files: Files, random: Random) -> Iterator[Conversation | Rejected]:
    """A conversation for each transcript that holds one; it draws nothing.

    What stands before the first human turn is a preamble and left out, and so is a human turn without a reply.
    Three faults of the 2023 code are mended. It made conversations without any message where no turn had a reply:
    those rows are rejected. It kept empty replies, which teach a model to say nothing: their rounds are left out. It
    stopped at a turn with two replies, since nothing tells which of them to learn: that row is rejected. Ids are
    the rows' numbers over all four files, as in 2023, so the rejected ones leave gaps.
    """
    return conversations(files.json_list(*FILES), _conversation)


def _conversation(row: Row) -> Iterator[Conversation]:
    messages: list[Message] = []
    for turn in row.text("input").split(HUMAN)[1:]:
        said, *replies = turn.split(AI)
        if len(replies) > 1:
            raise row.fault(f"{len(replies)} replies {AI} to one turn {HUMAN}")
        if replies and replies[0].strip():
            messages.append(Message(role="user", content=said.strip()))
            messages.append(Message(role="assistant", content=replies[0].strip()))
    if not messages:
        raise row.fault(f"no turn {HUMAN} has a reply {AI}")
    yield Conversation(dataset="baize", id=f"baize_{row.number}", messages=tuple(messages))


SOURCE = Source(
    name="baize",
    title="Baize",
    home="https://github.com/project-baize/baize-chatbot",
    licence="CC-BY-NC-4.0 (the code GPL-3.0)",
    published=tuple(
        Published(
            path=f"baize/{file}",
            url=f"https://raw.githubusercontent.com/project-baize/baize-chatbot/{_COMMIT}/data/{file}",
        )
        for file in FILES
    ),
    convert=convert,
)
