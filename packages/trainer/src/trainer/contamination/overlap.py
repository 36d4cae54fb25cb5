"""A whole mix searched for evaluation items, and written again without the conversations that hold any."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from contextlib import closing
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import TypeAlias

from trainer.contamination.containment import Found, Index
from trainer.conversation import parse
from trainer.errors import DataError, TrainerError
from trainer.workers import WorkerKilled, results

#: Conversations that are searched at once.
_CHUNK = 500
#: Number and bytes of each line.
_Lines: TypeAlias = list[tuple[int, bytes]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Held:
    """A conversation that holds evaluation items."""

    line: int
    dataset: str
    id: str
    #: What it holds, most of an item first; at least one.
    found: tuple[Found, ...]


@dataclass(slots=True, kw_only=True)
class Overlap:
    """What a mix has in common with the benchmarks."""

    #: Conversations of each dataset.
    conversations: Counter[str] = field(default_factory=Counter)
    #: Those that hold evaluation items, in the mix's order.
    held: list[Held] = field(default_factory=list)

    def add(self, other: Overlap) -> None:
        """Count what was found in the lines that follow."""
        self.conversations += other.conversations
        self.held += other.held


def scan(path: Path, index: Index, *, processes: int = 1, told: Callable[[int], object] = lambda _: None) -> Overlap:
    """Search every conversation of a file once; memory holds the index and what was found.

    ``told`` is called with the bytes of each part of the file that is done. Raises DataError with file and line
    where a line is no conversation.
    """
    overlap = Overlap()
    try:
        with closing(results(_search, (path, index), _chunks(path), workers=processes, fork=True)) as parts:
            for size, found in parts:
                overlap.add(found)
                told(size)
    except WorkerKilled:
        raise TrainerError(
            "A worker process was killed, perhaps for want of memory: repeat the command with fewer --processes."
        ) from None
    return overlap


def require_place(path: Path, out: Path) -> None:
    """Raise DataError where ``drop`` could not write, which is better known before a long search; makes the folder."""
    if out.resolve() == path.resolve():
        raise DataError(f"{out} is the file that is searched: give --drop another name.")
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        why = f"{out.parent} is a file" if out.parent.is_file() else error.strerror
        raise DataError(f"{out} cannot be written: {why}.") from None


def drop(path: Path, lines: Iterable[int], out: Path) -> int:
    """Write a file without these lines, as it is otherwise, whole or not at all; gives how many stay."""
    require_place(path, out)
    left = set(lines)
    part = out.with_name(f"{out.name}.part")
    kept = 0
    try:
        with path.open("rb") as source, part.open("wb") as target:
            for number, line in enumerate(source, start=1):
                if number not in left and line.strip():
                    target.write(line)
                    kept += 1
            target.flush()
            os.fsync(target.fileno())
        part.replace(out)
    except OSError as error:
        part.unlink(missing_ok=True)
        raise DataError(f"{out} cannot be written: {error.strerror}.") from None
    except BaseException:
        part.unlink(missing_ok=True)
        raise
    return kept


def _chunks(path: Path) -> Iterator[_Lines]:
    try:
        with path.open("rb") as file:
            lines = ((number, line) for number, line in enumerate(file, start=1) if line.strip())
            while chunk := list(islice(lines, _CHUNK)):
                yield chunk
    except OSError as error:
        raise DataError(f"{path} cannot be read: {error.strerror}.") from None


def _search(given: tuple[Path, Index], lines: _Lines) -> tuple[int, Overlap]:
    """How many bytes the lines are, and what they hold."""
    path, index = given
    conversations = [
        parse(line, where=f"{path.name}:{number}", dataset=path.stem, number=number) for number, line in lines
    ]
    held = [
        Held(line=number, dataset=one.dataset, id=one.id, found=tuple(found))
        for (number, _), one, found in zip(lines, conversations, index.search(conversations), strict=True)
        if found
    ]
    overlap = Overlap(conversations=Counter(one.dataset for one in conversations), held=held)
    return sum(len(line) for _, line in lines), overlap
