"""The elements of a JSON list, one at a time: a file of many hundred megabytes is never held as a whole."""

from __future__ import annotations

import codecs
import json
from collections.abc import Iterator
from dataclasses import dataclass
from typing import IO, Any

from trainer.errors import DataError

_DECODER = json.JSONDecoder()
_CHUNK = 1 << 20
#: A token that the end of a piece may have cut through is no longer than this: ``-Infinity``, ``\\uD83D\\uDE00``.
_TOKEN = 16
_SPACE = " \t\n\r"


@dataclass(frozen=True, slots=True, kw_only=True)
class Broken:
    """Where a list can be read no further; lines and columns count from 1."""

    line: int
    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class NotUtf8:
    """Stands for an element with bytes that are not UTF-8."""


def elements(file: IO[bytes], name: str) -> Iterator[Any]:
    """The list's elements in order; where it is broken it ends with one Broken.

    Bytes that are not UTF-8 cost only the element that they stand in, which becomes a NotUtf8. Raises DataError
    where the file is no list at all.
    """
    text = _Text(file)
    if text.next() != "[":
        start = text.rest(20)
        raise DataError(f"{name} is {f'no JSON list, but begins {start!r}' if start else 'empty'}; fetch it again.")
    text.skip(1)
    if text.next() == "]":
        return
    while True:
        try:
            yield text.element()
            follows = text.next()
        except json.JSONDecodeError as error:
            yield text.broken(error.msg, error.pos)
            return
        if follows not in (",", "]"):
            yield text.broken("Expecting ',' or ']'")
            return
        text.skip(1)
        if follows == "]":
            break
    if text.next():
        yield text.broken("text behind the end of the list")


class _Text:
    """A window on the file's text that moves forward, and knows its lines."""

    def __init__(self, file: IO[bytes]) -> None:
        self._file = file
        # Bytes that are no UTF-8 become lone surrogates here, so that only their own element is lost.
        self._decoder = codecs.getincrementaldecoder("utf-8-sig")("surrogateescape")
        self._window, self._at, self._ended = "", 0, False
        #: Of the window's first character.
        self._line, self._column = 1, 1

    def next(self) -> str:
        """The next character that is no white space, without taking it; empty at the end."""
        while True:
            while self._at < len(self._window) and self._window[self._at] in _SPACE:
                self._at += 1
            if self._at < len(self._window):
                return self._window[self._at]
            if not self._more(_CHUNK):
                return ""

    def skip(self, characters: int) -> None:
        """Take characters that ``next`` has shown."""
        self._at += characters

    def rest(self, characters: int) -> str:
        """What stands in the window from here."""
        return self._window[self._at : self._at + characters]

    def element(self) -> Any:
        """Take the next value; raises JSONDecodeError with a position in the window."""
        self.next()
        if self._at > _CHUNK:
            self._drop()
        size = _CHUNK
        while True:
            try:
                value, end = _DECODER.raw_decode(self._window, self._at)
            except json.JSONDecodeError as error:
                cut = error.msg.startswith("Unterminated") or error.pos >= len(self._window) - _TOKEN
                if not cut or not self._more(size):
                    raise
                size *= 2  # or a value of many pieces would be read as often as it has pieces
                continue
            except (ValueError, RecursionError) as error:  # a number of thousands of digits; lists in lists in lists
                raise json.JSONDecodeError(str(error), self._window, self._at) from None
            if end >= len(self._window) - 2 and self._more(size):
                continue  # a number may go on: 1 as 1.5, as 1e+5
            start, self._at = self._at, end
            return value if self._is_utf8(start, end) else NotUtf8()

    def broken(self, reason: str, position: int | None = None) -> Broken:
        """The fault at a position in the window, or here."""
        position = self._at if position is None else position
        line, column = self._place(position)
        return Broken(line=line, reason=f"not JSON from column {column} on ({reason})")

    def _is_utf8(self, start: int, end: int) -> bool:
        element = self._window[start:end]
        if element.isascii():
            return True
        try:
            element.encode()
        except UnicodeEncodeError:
            return False
        return True

    def _more(self, size: int) -> bool:
        while not self._ended:
            raw = self._file.read(size)
            self._ended = not raw
            if text := self._decoder.decode(raw, final=self._ended):
                self._window += text
                return True
        return False

    def _drop(self) -> None:
        self._line, self._column = self._place(self._at)
        self._window, self._at = self._window[self._at :], 0

    def _place(self, position: int) -> tuple[int, int]:
        lines = self._window.count("\n", 0, position)
        if not lines:
            return self._line, self._column + position
        return self._line + lines, position - self._window.rindex("\n", 0, position)
