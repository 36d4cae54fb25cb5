"""A prepared folder while it comes into being: parts are appended, and how far they are whole is kept beside them."""

from __future__ import annotations

import fcntl
import json
import os
import re
import shutil
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass, field
from io import FileIO
from pathlib import Path
from typing import Any, Self

import numpy as np

from trainer.errors import DataError, TrainerError
from trainer.preparation.chunks import Part
from trainer.preparation.prepared import FILES, FORMAT, MANIFEST, Count, digest

#: Seconds between two notes of how far a draft is whole: what a crash of the machine can cost.
KEEP_EVERY = 5.0
#: Rejected rows that are remembered with their reason; all are counted.
TOLD = 20

PROGRESS = "progress.json"
LOCK = ".lock"


@dataclass(frozen=True, slots=True, kw_only=True)
class Progress:
    """How far a draft is whole."""

    chunks: int = 0
    #: Bytes of each file.
    sizes: tuple[int, ...] = (0,) * len(FILES)
    #: What was counted of each dataset, in the order in which they came.
    counts: Mapping[str, Count] = field(default_factory=dict)
    rejected: int = 0
    told: tuple[str, ...] = ()

    def plus(self, part: Part, sizes: tuple[int, ...]) -> Progress:
        """The progress when one more chunk is there."""
        counts = dict(self.counts)
        for name, count in part.counts.items():
            counts[name] = counts.get(name, Count()) + count
        if len(counts) > 1 << 16:
            raise DataError(f"There are more than {1 << 16:,} datasets: is 'dataset' another name in every row?")
        return Progress(
            chunks=self.chunks + 1,
            sizes=sizes,
            counts=counts,
            rejected=self.rejected + len(part.rejected),
            told=(*self.told, *part.rejected)[:TOLD],
        )

    @classmethod
    def read(cls, folder: Path) -> Self:
        """What was kept in a folder; nothing where it cannot be read or says more than there is."""
        try:
            told = json.loads((folder / PROGRESS).read_bytes())
            told["counts"] = {name: Count(**count) for name, count in told["counts"].items()}
            found = cls(**{**told, "sizes": tuple(told["sizes"]), "told": tuple(told["told"])})
            there = [(folder / name).stat().st_size for name in FILES]
        except (OSError, ValueError, TypeError, KeyError):
            return cls()
        return found if all(size <= is_ for size, is_ in zip(found.sizes, there, strict=True)) else cls()


class Draft:
    """Appends parts to the files of ``DIR/<key>`` and finishes them with a manifest; a context manager.

    Whatever happens, the folder is taken for whole only once its manifest names it, which is the last thing done.
    """

    def __init__(self, folder: Path, key: str, *, keep_every: float = KEEP_EVERY) -> None:
        self.folder = folder
        self.place = folder / key[:16]
        self._keep_every = keep_every
        with _writing(self.place):
            self.place.mkdir(parents=True, exist_ok=True)
            self.progress = Progress.read(self.place)
            self._files = [FileIO(self.place / name, "a") for name in FILES]
            for file, size in zip(self._files, self.progress.sizes, strict=True):
                file.truncate(size)
        self._kept = time.monotonic()
        self._finished = False

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        if not self._finished:
            with suppress(TrainerError):  # of a full disk the user hears already
                self.keep()
        for file in self._files:
            file.close()

    def append(self, part: Part) -> None:
        """Write a part behind the others; raises TrainerError where that is not possible."""
        names = list(dict.fromkeys([*self.progress.counts, *part.counts]))
        examples = part.examples
        examples["dataset"] = np.array([names.index(name) for name in part.names], np.uint32)[examples["dataset"]]
        contents = (part.tokens.tobytes(), part.runs.tobytes(), examples.tobytes(), part.ids)
        with _writing(self.place):
            for file, content in zip(self._files, contents, strict=True):
                _write(file, content)
        sizes = zip(self.progress.sizes, contents, strict=True)
        self.progress = self.progress.plus(part, tuple(size + len(content) for size, content in sizes))
        if time.monotonic() - self._kept >= self._keep_every:
            self.keep()

    def keep(self) -> None:
        """Note how far the draft is whole, once that is true of the disk, too."""
        with _writing(self.place):
            for file in self._files:
                os.fsync(file.fileno())
            _replace(self.place / PROGRESS, asdict(self.progress))
        self._kept = time.monotonic()

    def finish(self, about: Mapping[str, Any]) -> None:
        """Write the manifest, which makes this the folder's content, and delete what was there before."""
        self.keep()
        sizes = dict(zip(FILES, self.progress.sizes, strict=True))
        manifest = {
            "format": FORMAT,
            **about,
            "datasets": list(self.progress.counts),
            "counts": {name: asdict(count) for name, count in self.progress.counts.items()},
            "rejected": self.progress.rejected,
            "rejected_first": self.progress.told,
            "files": {name: {"bytes": sizes[name], "sha256": digest(self.place / name)} for name in FILES},
        }
        with _writing(self.folder):
            _replace(self.folder / MANIFEST, manifest)
        self._finished = True
        _tidy(self.folder, keep=self.place.name)


@contextmanager
def locked(folder: Path, *, waiting: Callable[[], None]) -> Iterator[None]:
    """Be the only process that writes to a folder; waits, and says so, while there is another.

    The kernel gives the lock back when its holder ends in whatever way.
    """
    with _writing(folder):
        folder.mkdir(parents=True, exist_ok=True)
        file = (folder / LOCK).open("w")
    with file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            waiting()
            fcntl.flock(file, fcntl.LOCK_EX)
        yield


def _replace(path: Path, value: Mapping[str, Any]) -> None:
    """Write JSON beside its place and move it there, so that nobody ever meets half of it."""
    beside = path.with_name(f".{path.name}.new")
    with beside.open("wb") as file:
        file.write(json.dumps(value, indent=2, ensure_ascii=False).encode() + b"\n")
        file.flush()
        os.fsync(file.fileno())
    beside.replace(path)


def _tidy(folder: Path, *, keep: str) -> None:
    """Delete drafts and contents of a prepared folder other than the one to keep."""
    for other in folder.iterdir():
        ours = re.fullmatch("[0-9a-f]{16}", other.name) and (other / FILES[0]).exists()
        if ours and other.name != keep:
            shutil.rmtree(other, ignore_errors=True)
    (folder / keep / PROGRESS).unlink(missing_ok=True)


@contextmanager
def _writing(place: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise TrainerError(
            f"{place} cannot be written ({error.strerror}). Make room or choose another folder with --to, "
            "then repeat the command."
        ) from None


def _write(file: FileIO, content: bytes) -> None:
    left = memoryview(content)
    while left:  # a disk that is nearly full takes a part of it
        left = left[file.write(left) :]
