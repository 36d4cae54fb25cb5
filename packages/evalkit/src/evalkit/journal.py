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
from evalkit.errors import Busy, RunError
from evalkit.selection import Shard
from evalkit.types import Answer, Example, Request, Response, Verdict

#: Seconds between two fsyncs: what a power cut can take; a killed process loses nothing.
SYNC_EVERY = 1.0
#: The journal of a run that one process asks whole.
WHOLE = "responses.jsonl"


class _File:
    """An open file with as much of it as was read so far."""

    def __init__(self, path: Path, *, write: bool = False) -> None:
        self.path = path
        try:
            self.stream = path.open("ab+" if write else "rb", buffering=0)
        except FileNotFoundError:
            raise RunError(f"{path.parent} has no {path.name} yet: repeat its command.") from None
        except OSError as error:
            raise RunError(f"{path} cannot be opened ({error.strerror}).") from None
        #: Where the next line will stand.
        self.end = 0

    def lock(self, kind: int) -> None:
        try:
            fcntl.flock(self.stream, kind | fcntl.LOCK_NB)
        except OSError:
            raise Busy(
                f"Another process is writing to {self.path.parent}; wait for it, or choose another folder with --out."
            ) from None


class Lines:
    """An append-only file with one JSON object a line, each about one example and found by the example's position.

    A line also holds the hash of what it is about, so that it is known to be out of date when that changes. For one
    position the last line counts. ``beside`` are files that other processes append to: they are read, too. Only
    ``array``s are kept in memory: a million lines cost some twenty megabytes.
    """

    def __init__(self, path: Path, *, write: bool = False, beside: Iterable[Path] = ()) -> None:
        self._offsets, self._hashes, self._sources = array("q"), array("Q"), array("H")
        self._files: list[_File] = []
        self._synced = time.monotonic()
        try:
            self._files.append(_File(path, write=write))
            if write:
                self._files[0].lock(fcntl.LOCK_EX)
            self._scan(0, repair=write)
            for other in beside:
                self._read_beside(other)
        except BaseException:
            self._close()
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        if (own := self._files[0].stream).writable():
            os.fsync(own.fileno())
        self._close()

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
        own = self._files[0]
        try:
            _write_all(own.stream.fileno(), line + b"\n")
            if time.monotonic() - self._synced >= SYNC_EVERY:
                os.fsync(own.stream.fileno())
                self._synced = time.monotonic()
        except OSError as error:
            raise RunError(
                f"{own.path} cannot be written ({error.strerror}). What was answered before is kept: "
                "make room, then repeat the command."
            ) from None
        self._note(position, about, 0, content)
        own.end += len(line) + 1

    def _read(self, position: int) -> dict[str, Any]:
        chunks, offset, file = [], self._offsets[position], self._files[self._sources[position]]
        while chunk := os.pread(file.stream.fileno(), 1 << 14, offset):
            head, newline, _ = chunk.partition(b"\n")
            chunks.append(head)
            if newline:
                break
            offset += len(chunk)
        line: dict[str, Any] = json.loads(b"".join(chunks))
        return line

    def catch_up(self) -> None:
        """Count what others have added, and a line that was written just when a signal came, before it could count."""
        for source in range(len(self._files)):
            self._scan(source, repair=False)

    def _read_beside(self, path: Path) -> None:
        self._files.append(_File(path))
        self._scan(len(self._files) - 1, repair=False)

    def _close(self) -> None:
        for file in self._files:
            file.stream.close()

    def _scan(self, source: int, *, repair: bool) -> None:
        """Count the lines of a file that stand behind those counted so far."""
        own = self._files[source]
        with own.path.open("rb") as file:
            file.seek(own.end)
            for number, line in enumerate(file, 1):
                if not line.endswith(b"\n"):
                    if repair:  # the process died while it wrote this line: it counts as not written
                        os.ftruncate(own.stream.fileno(), own.end)
                    return
                self._scan_line(parse_line(line, own.path, number), source, number)
                own.end += len(line)

    def _scan_line(self, line: Mapping[str, Any], source: int, number: int) -> None:
        try:
            self._note(int(line["position"]), int(line["hash"], 16), source, line)
        except (AttributeError, KeyError, TypeError, ValueError, OverflowError) as error:
            path = self._files[source].path
            raise RunError(f"{path}:{number} is damaged ({error!r}); restore it or remove this line.") from None

    def _note(self, position: int, about: int, source: int, content: Mapping[str, Any]) -> None:
        """Count the line that stands at the end of what is read of a file."""
        if position < 0:
            raise ValueError(f"position {position}")
        missing = position + 1 - len(self._offsets)
        if missing > 0:
            self._offsets.extend([-1] * missing)
            self._hashes.extend([0] * missing)
            self._sources.extend([0] * missing)
        self._offsets[position] = self._files[source].end
        self._hashes[position] = about
        self._sources[position] = source


class Journal(Lines):
    """``responses*.jsonl``: example, request and response whole, so that a run is scored again without data or model.

    Each shard writes a file of its own and reads those of the others. Where two files hold a response to one request,
    the later attempt counts; of equal ones, one that did not fail, and then the one whose file comes first by name.
    """

    def __init__(self, folder: Path, *, write: bool = False, shard: Shard | None = None) -> None:
        #: Positions whose last response failed.
        self.failed: set[int] = set()
        #: How often those positions were asked that were asked more than once.
        self.attempts: dict[int, int] = {}
        self._folder = folder
        there = journals(folder)
        if write:
            own = folder / (f"responses-{shard.index}-of-{shard.count}.jsonl" if shard else WHOLE)
            _require_idle(own, there)
        else:
            own = there[0] if there else folder / WHOLE
        super().__init__(own, write=write, beside=[path for path in there if path != own])

    def catch_up(self) -> None:
        """Count what others have added, and a line that was written just when a signal came, before it could count."""
        super().catch_up()
        known = {file.path for file in self._files}
        for path in journals(self._folder):
            if path not in known:
                self._read_beside(path)

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

    def _note(self, position: int, about: int, source: int, content: Mapping[str, Any]) -> None:
        failed, attempt = bool(codec.response_in(content["response"]).error), int(content.get("attempt", 1))
        if position in self and self._sources[position] != source:
            kept, other = self._files[self._sources[position]].path.name, self._files[source].path.name
            before = self.attempts.get(position, 1), position not in self.failed
            if before > (attempt, not failed) or (before == (attempt, not failed) and kept < other):
                return
        super()._note(position, about, source, content)
        (self.failed.add if failed else self.failed.discard)(position)
        if attempt > 1:
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


def journals(folder: Path) -> list[Path]:
    """The files that hold a run's responses: one, or one for each shard."""
    return sorted(folder.glob("responses*.jsonl"))


def _require_idle(own: Path, there: Iterable[Path]) -> None:
    """Raise Busy where a process asks what this one would ask, too: the whole run beside a shard of it.

    It can only see processes of machines that share the file system's locks.
    """
    for path in there:
        if path != own and WHOLE in (path.name, own.name):
            file = _File(path)
            try:
                file.lock(fcntl.LOCK_SH)
            finally:
                file.stream.close()


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
