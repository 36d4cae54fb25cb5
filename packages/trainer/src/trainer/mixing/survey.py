"""Reads the parts of a mixture: how many conversations each has, whether each has an id of its own, what was read."""

from __future__ import annotations

import hashlib
from array import array
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import TypeAlias

import numpy as np

from trainer.conversation import Conversation, Rejected, parse
from trainer.errors import DataError
from trainer.mixing.mixture import Part
from trainer.raw.rows import Files
from trainer.sources import Source, stream

#: Told how many more bytes were read.
Tell: TypeAlias = Callable[[int], None]

#: Rows between two calls of Tell.
_TOLD_EVERY = 1000


@dataclass(frozen=True, slots=True)
class Line:
    """A conversation that was not parsed yet."""

    part: Part
    where: str
    number: int
    raw: bytes

    def conversation(self) -> Conversation:
        """The conversation; raises DataError with file and line."""
        found = parse(self.raw, where=self.where, dataset=self.part.path.stem, number=self.number)
        if b"\\u" in self.raw:  # what else the bytes hold is UTF-8 and so whole
            try:
                found.line().encode()
            except UnicodeEncodeError:
                raise DataError(
                    f"{self.where}: holds half of a surrogate pair, which is no character; delete it."
                ) from None
        return found


class Reading:
    """One reading of a part, line by line; knows at its end what was read."""

    def __init__(self, part: Part, tell: Tell) -> None:
        self.part = part
        self.sha256 = ""
        self.rejected: list[Rejected] = []
        self._tell = tell

    def __iter__(self) -> Iterator[Line]:
        return self._lines() if self.part.source is None else self._mapped(self.part.source)

    def _lines(self) -> Iterator[Line]:
        """The lines of a file of conversations that are not blank."""
        path, digest, read = self.part.path, hashlib.sha256(), 0
        try:
            with path.open("rb") as file:
                for number, raw in enumerate(file, 1):
                    digest.update(raw)
                    read += len(raw)
                    if number % _TOLD_EVERY == 0:
                        self._tell(read)
                        read = 0
                    if raw.strip():
                        yield Line(self.part, f"{path.name}:{number}", number, raw)
        except OSError as error:
            raise DataError(f"{path} cannot be read: {error.strerror}.") from None
        self._tell(read)
        self.sha256 = digest.hexdigest()

    def _mapped(self, source: Source) -> Iterator[Line]:
        """The rows of a file of another layout as lines of conversations."""
        files = Files(self.part.path)
        for number, row in enumerate(source.convert(files, stream(self.part.name, 0)), 1):
            if isinstance(row, Rejected):
                self.rejected.append(row)
            else:
                yield Line(self.part, f"{self.part.path.name}, id {row.id!r}", number, row.line().encode())
        self._tell(self.part.path.stat().st_size)
        self.sha256 = next(iter(files.digests.values()), "")


@dataclass(frozen=True, slots=True, kw_only=True)
class Surveyed:
    """What one reading of a part found."""

    part: Part
    rows: int
    sha256: str
    #: Eight bytes for each row, a hash of its dataset and id.
    marks: array[int] = field(repr=False)
    #: Rows of another layout that make no conversation, and the first of them.
    rejected: int = 0
    first_rejected: str = ""
    #: An id that looks like that of a copy.
    copy: str = ""


def survey(part: Part, tell: Tell) -> Surveyed:
    """Read a part once; raises DataError where a line is no conversation, or where there is none."""
    marks: array[int] = array("Q")
    reading, copy = Reading(part, tell), ""
    for line in reading:
        conversation = line.conversation()
        marks.append(_mark(conversation))
        if "*" in conversation.id:
            copy = conversation.id
    if not marks:
        first = f"; the first row: {reading.rejected[0]}" if reading.rejected else "; leave it out."
        raise DataError(f"{part.path} holds no conversation{first}")
    return Surveyed(
        part=part,
        rows=len(marks),
        sha256=reading.sha256,
        marks=marks,
        rejected=len(reading.rejected),
        first_rejected=str(reading.rejected[0]) if reading.rejected else "",
        copy=copy,
    )


def _mark(conversation: Conversation) -> int:
    name = f"{conversation.dataset}\0{conversation.id}".encode()
    return int.from_bytes(hashlib.blake2b(name, digest_size=8).digest())


def check_unique(surveyed: Sequence[Surveyed]) -> None:
    """Raise DataError where two conversations have one dataset and id, naming the first two."""
    marks = np.concatenate([np.frombuffer(one.marks, np.uint64) for one in surveyed])
    marks.sort()
    twice = {int(mark) for mark in marks[1:][marks[1:] == marks[:-1]]}
    if not twice:
        return
    # Marks only suggest: two names may share one.
    seen: dict[tuple[str, str], str] = {}
    found: list[str] = []
    for one in surveyed:
        for line in Reading(one.part, lambda _: None):
            conversation = line.conversation()
            if _mark(conversation) in twice:
                name = (conversation.dataset, conversation.id)
                if name in seen:
                    found.append(f"{seen[name]} and {line.where} are both {name[1]!r} of dataset {name[0]!r}")
                seen.setdefault(name, line.where)
    if found:
        more = f" ({len(found) - 1:,} more like this)" if len(found) > 1 else ""
        raise DataError(f"{found[0]}{more}. Give them other ids, or delete the field 'id': lines are then numbered.")
