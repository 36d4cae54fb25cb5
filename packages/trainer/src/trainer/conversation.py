"""The one schema of all instruction data: conversations of messages, one JSON object a line."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, TypeAlias, get_args

from trainer.errors import DataError

Role: TypeAlias = Literal["system", "user", "assistant"]
ROLES: tuple[Role, ...] = get_args(Role)


@dataclass(frozen=True, slots=True, kw_only=True)
class Message:
    """What one side said."""

    role: Role
    content: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Conversation:
    """One training example; what the assistant says in it is what a model learns."""

    #: The name of the source that it comes from.
    dataset: str
    #: Unique within its dataset.
    id: str
    messages: tuple[Message, ...]

    def line(self) -> str:
        """The conversation as one line of JSON, without the newline."""
        messages = [{"role": one.role, "content": one.content} for one in self.messages]
        return json.dumps({"dataset": self.dataset, "id": self.id, "messages": messages}, ensure_ascii=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class Rejected:
    """A row that makes no conversation: counted and told, never dropped in silence."""

    #: ``dolly.jsonl:17``; files of one JSON list count their rows from 1 as ``alpaca_data.json[17]``.
    where: str
    #: Why, as the end of a sentence: ``field 'output' is missing``.
    reason: str

    def __str__(self) -> str:
        return f"{self.where}: {self.reason}."


def read(path: Path) -> Iterator[Conversation]:
    """The conversations of a file, in order; raises DataError with file and line at the first bad one."""
    try:
        with path.open("rb") as file:
            for number, line in enumerate(file, start=1):
                if line.strip():
                    yield parse(line, where=f"{path.name}:{number}", dataset=path.stem, number=number)
    except OSError as error:
        raise DataError(f"{path} cannot be read: {error.strerror}.") from None


def parse(line: bytes | str, *, where: str, dataset: str, number: int) -> Conversation:
    """The conversation that a line of JSON holds; ``dataset`` and ``number`` stand in for fields it may lack."""
    try:
        row = json.loads(line.strip())
    except UnicodeDecodeError as error:
        raise DataError(f"{where}: this line is not UTF-8 (byte {error.start}); convert the file first.") from None
    except ValueError as error:
        why = f"{error.msg}, column {error.colno}" if isinstance(error, json.JSONDecodeError) else error
        raise DataError(f"{where}: this line is not JSON ({why}).") from None
    if not isinstance(row, dict) or not isinstance(row.get("messages"), list):
        raise DataError(
            f"{where}: a conversation is an object with a list 'messages'. "
            "`trainer data convert --mapping` reads other forms."
        )
    return Conversation(
        dataset=str(row.get("dataset") or dataset),
        id=str(row.get("id") or f"{dataset}_{number}"),
        messages=tuple(_message(one, f"{where}: message {place}") for place, one in enumerate(row["messages"], 1)),
    )


def _message(value: Any, where: str) -> Message:
    if not isinstance(value, Mapping):
        raise DataError(f"{where} is not an object with 'role' and 'content'.")
    role, content = value.get("role"), value.get("content")
    if role not in ROLES:
        raise DataError(f"{where} has the role {role!r}; there are {', '.join(ROLES)}.")
    if not isinstance(content, str):
        raise DataError(f"{where} has no text in 'content'.")
    return Message(role=role, content=content)
