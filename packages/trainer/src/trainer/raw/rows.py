"""Rows from the files that a dataset's publisher offers: JSON lists, JSON lines, TSV, gzipped or in a zip archive."""

from __future__ import annotations

import codecs
import json
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from trainer.conversation import Conversation, Rejected
from trainer.errors import DataError
from trainer.raw.json_list import Broken, NotUtf8, elements
from trainer.raw.raw_files import RawFiles


class Fault(DataError):
    """What is wrong with one row; ``conversations`` turns it into a Rejected."""

    def __init__(self, where: str, reason: str) -> None:
        self.rejected = Rejected(where=where, reason=reason)
        super().__init__(str(self.rejected))


class Row(Mapping[str, Any]):
    """One published record, or an object within one, that can say where it stands."""

    __slots__ = ("_fields", "_path", "number", "where")

    def __init__(self, fields: Mapping[str, Any], *, where: str, number: int, path: str = "") -> None:
        self._fields = fields
        #: ``dolly.jsonl:17``, ``alpaca_data.json[17]``.
        self.where = where
        #: Position among all rows that were asked for, broken ones included, from 0.
        self.number = number
        #: Of an object within the record: ``instances[2].``
        self._path = path

    def __getitem__(self, name: str) -> Any:
        try:
            return self._fields[name]
        except KeyError:
            has = ", ".join(map(str, self._fields)) or "nothing"
            raise self._field(name, f"is missing (there are: {has[:200]})") from None

    def __contains__(self, name: object) -> bool:
        return name in self._fields

    def get(self, name: str, default: Any = None) -> Any:
        """The field, or the default where there is none."""
        return self._fields.get(name, default)

    def __iter__(self) -> Iterator[str]:
        return iter(self._fields)

    def __len__(self) -> int:
        return len(self._fields)

    def text(self, name: str) -> str:
        """The field as a string; raises Fault where it is missing, anything else, or half a surrogate pair."""
        value = self[name]
        if not isinstance(value, str):
            raise self._wrong(name, "text", value)
        return _whole(value, lambda reason: self._field(name, reason))

    def text_or_null(self, name: str) -> str:
        """As ``text``, but a JSON null is the empty string."""
        return "" if self[name] is None else self.text(name)

    def list(self, name: str) -> list[Any]:
        """The field as a list."""
        value = self[name]
        if not isinstance(value, list):
            raise self._wrong(name, "a list", value)
        return value

    def texts(self, name: str) -> tuple[str, ...]:
        """The field as a list of strings."""
        named = Row(
            {f"{name}[{place}]": value for place, value in enumerate(self.list(name))},
            where=self.where,
            number=self.number,
            path=self._path,
        )
        return tuple(named.text(key) for key in named)

    def row(self, name: str) -> Row:
        """The field, an object, as a row of its own."""
        return self._inner(self[name], name)

    def rows(self, name: str) -> tuple[Row, ...]:
        """The field, a list of objects, as rows of their own."""
        return tuple(self._inner(value, f"{name}[{place}]") for place, value in enumerate(self.list(name)))

    def each(self, name: str) -> Iterator[Row | Rejected]:
        """The field, a list of objects, as rows of their own; what is no object is rejected alone."""
        for place, value in enumerate(self.list(name)):
            try:
                yield self._inner(value, f"{name}[{place}]")
            except Fault as fault:
                yield fault.rejected

    def numbered(self, number: int) -> Row:
        """The same row at another position."""
        return Row(self._fields, where=self.where, number=number, path=self._path)

    def fault(self, reason: str) -> Fault:
        """An error to raise about this row; the reason is the end of a sentence, without its full stop."""
        return Fault(self.where, f"in '{self._path[:-1]}' {reason}" if self._path else reason)

    def _field(self, name: str, what: str) -> Fault:
        return Fault(self.where, f"field '{self._path}{name}' {what}")

    def _inner(self, value: Any, name: str) -> Row:
        if not isinstance(value, Mapping):
            raise self._wrong(name, "an object", value)
        return Row(value, where=self.where, number=self.number, path=f"{self._path}{name}.")

    def _wrong(self, name: str, wanted: str, value: Any) -> Fault:
        shown = json.dumps(value, ensure_ascii=True, default=repr)
        shown = shown if len(shown) <= 60 else f"{shown[:57]}..."
        return self._field(name, f"should be {wanted}, but is {shown}")


def _whole(text: str, fault: Callable[[str], Fault]) -> str:
    """The text, if it can be written as UTF-8: by its escapes JSON can spell half a character."""
    if not text.isascii():
        try:
            text.encode()
        except UnicodeEncodeError as error:
            half = f"U+{ord(text[error.start]):04X}"
            raise fault(f"holds half of a surrogate pair ({half} at character {error.start + 1})") from None
    return text


def conversations(
    rows: Iterable[Row | Rejected], make: Callable[[Row], Iterable[Conversation]]
) -> Iterator[Conversation | Rejected]:
    """What a function makes of each row; where it raises a Fault, that row is rejected and the next one follows."""
    for row in rows:
        if isinstance(row, Rejected):
            yield row
            continue
        try:
            yield from make(row)
        except Fault as fault:
            yield fault.rejected


class Files(RawFiles):
    """The rows of raw files; how they are named and found stands at RawFiles."""

    def __init__(self, path: Path, *, remedy: str = "") -> None:
        super().__init__(path, remedy=remedy)
        self._counts: dict[str, int] = {}

    @property
    def records_read(self) -> int:
        """How many records were read so far, broken ones included; a file that is read twice counts once."""
        return sum(self._counts.values())

    def json_list(self, *patterns: str) -> Iterator[Row | Rejected]:
        """The objects of files that are one JSON list each; read in pieces, so memory holds one object at a time.

        Where a list is broken, all behind that place is lost: one Rejected says so with line and column.
        """
        number = -1
        for name in self.find(*patterns):
            file = Path(name).name
            for place, found in enumerate(self._elements(name), 1):
                number += 1
                self._count(name, place)
                where = f"{file}[{place}]"
                if isinstance(found, Broken):
                    yield Rejected(where=f"{file}:{found.line}", reason=f"{found.reason}; row {place} on is lost")
                elif isinstance(found, dict):
                    yield Row(found, where=where, number=number)
                elif isinstance(found, NotUtf8):
                    yield Rejected(where=where, reason="not UTF-8")
                else:
                    yield Rejected(where=where, reason=f"not a JSON object but {type(found).__name__}")

    def jsonl(self, *patterns: str) -> Iterator[Row | Rejected]:
        """The objects of JSON Lines files; a broken line is rejected and the next one read, a blank one no row."""
        number = -1
        places: Counter[str] = Counter()
        for name, where, raw in self._lines(*patterns):
            if not raw.strip():
                continue
            number, places[name] = number + 1, places[name] + 1
            self._count(name, places[name])
            try:
                fields = json.loads(raw.rstrip().decode())
            except UnicodeDecodeError as error:
                yield Rejected(where=where, reason=f"not UTF-8 (byte {error.start + 1} of the line)")
            except (ValueError, RecursionError) as error:
                why = f"{error.msg}, column {error.colno}" if isinstance(error, json.JSONDecodeError) else error
                yield Rejected(where=where, reason=f"not JSON ({why})")
            else:
                if isinstance(fields, dict):
                    yield Row(fields, where=where, number=number)
                else:
                    yield Rejected(where=where, reason=f"not a JSON object but {type(fields).__name__}")

    def records(self, *patterns: str) -> Iterator[Row | Rejected]:
        """The objects of files that are JSON lists or JSON lines; which of the two, their first character tells."""
        number = -1
        for name in self.find(*patterns):
            with self.open(name) as file:
                first = file.read(4096).removeprefix(codecs.BOM_UTF8).lstrip()[:1]
            for row in self.json_list(name) if first == b"[" else self.jsonl(name):
                number += 1
                yield row if isinstance(row, Rejected) else row.numbered(number)

    def json(self, pattern: str) -> Row | Rejected:
        """The one object that a file is; its faults name the file."""
        (name,) = self.find(pattern)
        where = Path(name).name
        self._count(name, 1)
        with self.open(name) as file:
            raw = file.read()
        try:
            fields = json.loads(raw.removeprefix(codecs.BOM_UTF8).decode())
        except UnicodeDecodeError as error:
            line = raw.count(b"\n", 0, error.start) + 1
            return Rejected(where=f"{where}:{line}", reason="not UTF-8")
        except json.JSONDecodeError as error:
            return Rejected(where=f"{where}:{error.lineno}", reason=f"not JSON ({error.msg}, column {error.colno})")
        except (ValueError, RecursionError) as error:
            return Rejected(where=where, reason=f"not JSON ({error})")
        if not isinstance(fields, dict):
            return Rejected(where=where, reason=f"not a JSON object but {type(fields).__name__}")
        return Row(fields, where=where, number=0)

    def tsv(self, pattern: str, columns: Sequence[str]) -> Iterator[Row | Rejected]:
        """The lines of a tab-separated file without header or quotes; every line must have just these columns."""
        (name,) = self.find(pattern)
        for place, row in enumerate(self.lines(name), 1):
            self._count(name, place)
            if isinstance(row, Rejected):
                yield row
                continue
            cells = str(row["line"]).split("\t")
            if len(cells) == len(columns):
                yield Row(dict(zip(columns, cells, strict=True)), where=row.where, number=row.number)
            else:
                wanted = f"{len(columns)} ({', '.join(columns)})"
                yield Rejected(where=row.where, reason=f"{len(cells)} columns where {wanted} are expected")

    def lines(self, *patterns: str) -> Iterator[Row | Rejected]:
        """The lines of text files, blank ones too, as rows with one field, ``line``, without the line's end."""
        for number, (_, where, raw) in enumerate(self._lines(*patterns)):
            try:
                line = raw.decode().removesuffix("\n").removesuffix("\r")
            except UnicodeDecodeError as error:
                yield Rejected(where=where, reason=f"not UTF-8 (byte {error.start + 1} of the line)")
            else:
                yield Row({"line": line}, where=where, number=number)

    def _lines(self, *patterns: str) -> Iterator[tuple[str, str, bytes]]:
        """Name, ``file:line`` and bytes of each line."""
        for name in self.find(*patterns):
            with self.open(name) as file:
                for number, raw in enumerate(file, 1):
                    line = raw.removeprefix(codecs.BOM_UTF8) if number == 1 else raw
                    yield name, f"{Path(name).name}:{number}", line

    def _count(self, name: str, place: int) -> None:
        self._counts[name] = max(place, self._counts.get(name, 0))

    def _elements(self, name: str) -> Iterator[Any]:
        with self.open(name) as file:
            yield from elements(file, name)
