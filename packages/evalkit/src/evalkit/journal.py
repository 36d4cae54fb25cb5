"""The journals of a run: one line per finished response or verdict, only ever appended to."""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
import time
from array import array
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, Self

from evalkit import codec
from evalkit.errors import RunError
from evalkit.types import Answer, Example, Request, Response, Verdict

#: Seconds between two fsyncs: what a power cut can take; a killed process loses nothing.
SYNC_EVERY = 1.0


class Lines:
    """An append-only file with one JSON object a line, each about one example and found by the example's position.

    A line also holds the hash of what it is about, so that it is known to be out of date when that changes. For one
    position the last line counts. Only ``array``s are kept in memory: a million lines cost some twenty megabytes.
    """

    def __init__(self, path: Path, *, write: bool = False) -> None:
        self._path = path
        self._offsets, self._hashes = array("q"), array("Q")
        try:
            self._file = path.open("ab+" if write else "rb", buffering=0)
        except FileNotFoundError:
            raise RunError(f"{path.parent} has no {path.name} yet: repeat its command.") from None
        except OSError as error:
            raise RunError(f"{path} cannot be opened ({error.strerror}).") from None
        #: Where the next line will stand.
        self._end = 0
        self._synced = time.monotonic()
        try:
            if write:
                self._lock()
            self._scan(repair=write)
        except BaseException:
            self._file.close()
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        if self._file.writable():
            os.fsync(self._file.fileno())
        self._file.close()

    def __contains__(self, position: object) -> bool:
        return isinstance(position, int) and position < len(self._offsets) and self._offsets[position] >= 0

    def __len__(self) -> int:
        return sum(1 for _ in self.positions())

    def positions(self) -> Iterator[int]:
        """The positions that have a line, in example order."""
        return (position for position, offset in enumerate(self._offsets) if offset >= 0)

    def holds(self, position: int, about: int) -> bool:
        """Whether there is a line at a position that is about what has this hash."""
        return position in self and self._hashes[position] == about

    def digest(self, positions: Iterable[int]) -> str:
        """SHA-256 over the hashes at these positions."""
        whole = hashlib.sha256()
        for position in positions:
            whole.update(self._hashes[position].to_bytes(8, "big"))
        return whole.hexdigest()

    def _write(self, position: int, about: int, content: Mapping[str, Any]) -> None:
        """Add a line; raises RunError when it cannot be written, e.g. on a full disk."""
        line = codec.dumps({"position": position, "hash": f"{about:016x}", **content})
        try:
            _write_all(self._file.fileno(), line + b"\n")
            if time.monotonic() - self._synced >= SYNC_EVERY:
                os.fsync(self._file.fileno())
                self._synced = time.monotonic()
        except OSError as error:
            raise RunError(
                f"{self._path} cannot be written ({error.strerror}). What was answered before is kept: "
                "make room, then repeat the command."
            ) from None
        self._note(position, about, self._end, content)
        self._end += len(line) + 1

    def _read(self, position: int) -> dict[str, Any]:
        chunks, offset = [], self._offsets[position]
        while chunk := os.pread(self._file.fileno(), 1 << 14, offset):
            head, newline, _ = chunk.partition(b"\n")
            chunks.append(head)
            if newline:
                break
            offset += len(chunk)
        line: dict[str, Any] = json.loads(b"".join(chunks))
        return line

    def _lock(self) -> None:
        try:
            fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            raise RunError(
                f"Another process is writing to {self._path.parent}; wait for it, or choose another folder with --out."
            ) from None

    def catch_up(self) -> None:
        """Count a line that was written just when a signal came, before it could be counted."""
        self._scan(repair=False)

    def _scan(self, *, repair: bool) -> None:
        """Count the lines that stand behind those counted so far."""
        with self._path.open("rb") as file:
            file.seek(self._end)
            for number, line in enumerate(file, 1):
                if not line.endswith(b"\n"):
                    if repair:  # the process died while it wrote this line: it counts as not written
                        os.ftruncate(self._file.fileno(), self._end)
                    return
                self._scan_line(parse_line(line, self._path, number), number)
                self._end += len(line)

    def _scan_line(self, line: Mapping[str, Any], number: int) -> None:
        try:
            self._note(int(line["position"]), int(line["hash"], 16), self._end, line)
        except (AttributeError, KeyError, TypeError, ValueError, OverflowError) as error:
            raise RunError(f"{self._path}:{number} is damaged ({error!r}); restore it or remove this line.") from None

    def _note(self, position: int, about: int, offset: int, content: Mapping[str, Any]) -> None:
        if position < 0:
            raise ValueError(f"position {position}")
        missing = position + 1 - len(self._offsets)
        if missing > 0:
            self._offsets.extend([-1] * missing)
            self._hashes.extend([0] * missing)
        self._offsets[position] = offset
        self._hashes[position] = about


class Journal(Lines):
    """``responses.jsonl``: example, request and response whole, so that a run is scored again without data or model."""

    def __init__(self, folder: Path, *, write: bool = False) -> None:
        #: Positions whose last response failed.
        self.failed: set[int] = set()
        #: How often those positions were asked that were asked more than once.
        self.attempts: dict[int, int] = {}
        super().__init__(folder / "responses.jsonl", write=write)

    def append(self, position: int, request_hash: int, example: Example, request: Request, response: Response) -> None:
        """Keep a response; raises RunError when it cannot be written, e.g. on a full disk.

        ``request_hash`` is that of the request as it was first made, also where ``request`` asks once more.
        """
        content: dict[str, Any] = {
            "example": codec.flat(example),
            "request": codec.flat(request),
            "response": codec.response_out(response),
        }
        if position in self:
            content["attempt"] = self.attempts.get(position, 1) + 1
        self._write(position, request_hash, content)

    def read(self, position: int) -> tuple[Example, Request, Response]:
        """What was asked and answered at a position."""
        line = self._read(position)
        return (
            codec.example_in(line["example"]),
            codec.request_in(line["request"]),
            codec.response_in(line["response"]),
        )

    def _note(self, position: int, about: int, offset: int, content: Mapping[str, Any]) -> None:
        failed = bool(codec.response_in(content["response"]).error)
        super()._note(position, about, offset, content)
        (self.failed.add if failed else self.failed.discard)(position)
        if (attempt := int(content.get("attempt", 1))) > 1:
            self.attempts[position] = attempt


class Verdicts(Lines):
    """``verdicts.jsonl``: what became of answers that had to be run; times and memory live here and nowhere else."""

    def __init__(self, folder: Path, *, write: bool = False) -> None:
        super().__init__(folder / "verdicts.jsonl", write=write)

    def append(self, position: int, answer_hash: int, verdict: Verdict) -> None:
        """Keep a verdict; raises RunError when it cannot be written."""
        self._write(position, answer_hash, codec.flat(verdict))

    def read(self, position: int) -> Verdict:
        """The verdict at a position."""
        return codec.verdict_in(self._read(position))


def answer_hash(example: Example, answer: Answer) -> int:
    """64 bits that tell an answer to an example from any other."""
    return int(codec.digest([example.id, answer])[:16], 16)


def request_hash(request: Request) -> int:
    """64 bits that tell what is asked from anything else that could be."""
    asked = codec.flat(request)
    asked.pop("id", None)
    return int(codec.digest(asked)[:16], 16)


def parse_line(line: bytes, path: Path, number: int) -> dict[str, Any]:
    """The JSON object on a line of a run's file; raises RunError naming file and line."""
    try:
        value = json.loads(line)
    except ValueError as error:
        raise RunError(f"{path}:{number} is damaged ({error}); restore it or remove this line.") from None
    if not isinstance(value, dict):
        raise RunError(f"{path}:{number} is damaged (not a JSON object); restore it or remove this line.")
    return value


def _write_all(descriptor: int, data: bytes) -> None:
    while data:
        data = data[os.write(descriptor, data) :]
