"""Anybody's own files as a source, by saying which fields hold what: no code, four forms.

==============  ========================================================================  =======================
form            fields, each with another name if its row says so                         common elsewhere
==============  ========================================================================  =======================
``alpaca``      ``instruction``, ``input`` (may be missing), ``output``                   Alpaca and its kin
``messages``    ``messages``, a list of objects with ``role`` and ``content``             chat APIs, TRL, the hub
``sharegpt``    ``conversations``, a list of objects with ``from`` and ``value``          ShareGPT, FastChat
``completion``  ``prompt``, ``completion``                                                fine-tuning APIs
==============  ========================================================================  =======================

Files are JSON lists or JSON lines. A row's ``id`` is kept where it has one. No template is drawn: an instruction and
its input are one user turn with an empty line between them.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from random import Random

from trainer.conversation import Conversation, Message, Rejected, Role
from trainer.errors import UnknownName
from trainer.raw.rows import Files, Row, conversations
from trainer.sources import Convert, Source

#: Form -> its fields, which are also their names where nothing else is said.
FORMS: Mapping[str, tuple[str, ...]] = {
    "alpaca": ("instruction", "input", "output"),
    "messages": ("messages", "role", "content"),
    "sharegpt": ("conversations", "from", "value"),
    "completion": ("prompt", "completion"),
}
#: Finds JSON lists and JSON lines, gzipped or not.
PATTERNS = ("*.json*",)
#: What a role may be called in a file.
SPEAKERS: Mapping[str, Role] = {
    "system": "system",
    **dict.fromkeys(("user", "human", "prompter"), "user"),
    **dict.fromkeys(("assistant", "gpt", "chatgpt", "model", "bot"), "assistant"),
}


def mapped(name: str, form: str, fields: Mapping[str, str], patterns: Sequence[str] = PATTERNS) -> Source:
    """A source of this form; ``fields`` renames some of its fields: ``{"output": "answer"}``.

    Raises UnknownName for a form or a field that does not exist.
    """
    if form not in FORMS:
        raise UnknownName("mapping", form, FORMS)
    for field in fields:
        if field not in FORMS[form]:
            raise UnknownName(f"field of the mapping {form!r}", field, FORMS[form])
    called = [fields.get(field, field) for field in FORMS[form]]
    return Source(
        name=name, title=name, home="", licence="", published=(), convert=_convert(name, form, called, patterns)
    )


def _convert(name: str, form: str, called: Sequence[str], patterns: Sequence[str]) -> Convert:
    def convert(files: Files, random: Random) -> Iterator[Conversation | Rejected]:
        return conversations(files.records(*patterns), make)

    def make(row: Row) -> Iterator[Conversation]:
        if form == "alpaca":
            messages = _instruction(row, *called)
        elif form == "completion":
            messages = _turn(row.text(called[0]), row.text(called[1]), row)
        else:
            messages = _spoken(row, *called)
        yield Conversation(dataset=name, id=_id(row, name), messages=messages)

    return convert


def _instruction(row: Row, instruction: str, input: str, output: str) -> tuple[Message, ...]:
    asked = [row.text(instruction).strip(), row.text_or_null(input).strip() if input in row else ""]
    return _turn("\n\n".join(filter(None, asked)), row.text(output), row)


def _turn(prompt: str, completion: str, row: Row) -> tuple[Message, ...]:
    if not prompt.strip():
        raise row.fault("the prompt is empty")
    if not completion.strip():
        raise row.fault("the output is empty")
    return Message(role="user", content=prompt), Message(role="assistant", content=completion)


def _spoken(row: Row, turns: str, speaker: str, text: str) -> tuple[Message, ...]:
    messages = []
    for place, turn in enumerate(row.rows(turns)):
        role = SPEAKERS.get(turn.text(speaker).lower())
        if role is None:
            raise row.fault(f"turn {place + 1} is said by {turn[speaker]!r}; known are {', '.join(SPEAKERS)}")
        message = Message(role=role, content=turn.text(text))
        if role == "assistant" and not message.content.strip():
            raise row.fault(f"turn {place + 1}, the assistant's, is empty")
        messages.append(message)
    if all(message.role != "assistant" for message in messages):
        raise row.fault("the assistant says nothing")
    return tuple(messages)


def _id(row: Row, name: str) -> str:
    id = row.get("id")
    return str(id) if isinstance(id, str | int) and str(id).strip() else f"{name}_{row.number}"
