"""The files that a publisher offers, as they lie in a folder or an archive: found, hashed and unpacked."""

from __future__ import annotations

import fnmatch
import gzip
import hashlib
import io
import re
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any, cast

from trainer.errors import DataError

#: What desktops leave in folders and archives, and downloads that are not whole: no publisher's file.
_HIDDEN = re.compile(r"(^|/)(\.|__MACOSX/)|\.part$")


class RawFiles:
    """A folder of raw files, a zip archive, or one file; remembers the SHA-256 of what was read.

    Patterns are names with ``*``, which crosses folders: ``tasks/*.json`` finds ``natural/tasks/task001.json``. A file
    that is gzipped, or lies in a zip archive in the folder, is found by the name that it has inside. One file
    answers to every pattern. Raises DataError with the remedy where a pattern finds nothing, or where one without
    ``*`` finds two files.
    """

    def __init__(self, path: Path, *, remedy: str = "") -> None:
        self.path = path
        #: What to do where a file is missing: a whole sentence.
        self.remedy = remedy
        #: Name -> SHA-256 of each file that was read, as it lies there; an archive counts as one file.
        self.digests: dict[str, str] = {}
        self._archives: dict[str, zipfile.ZipFile] = {}
        self._listing: tuple[str, ...] | None = None
        self._by_last: dict[str, list[str]] = {}
        if not path.exists():
            raise DataError(f"There is no {path}. {remedy}".rstrip())

    def find(self, *patterns: str) -> tuple[str, ...]:
        """The names of the files that the patterns find, sorted within each pattern, each once."""
        found: dict[str, None] = {}
        for pattern in patterns:
            found |= dict.fromkeys(self._found(pattern))
        return tuple(found)

    def _found(self, pattern: str) -> list[str]:
        names = self._names()
        if self.path.is_file() and names == (self.path.name,):
            return list(names)
        plain = not set("*?[") & set(pattern)
        if pattern in self._by_last.get(pattern.rpartition("/")[2], []):
            return [pattern]  # whatever its characters
        for wanted in (pattern, f"{pattern}.gz"):
            found = self._called(wanted) if plain else [name for name in names if _fits(name, wanted)]
            if len(found) > 1 and plain:
                raise DataError(f"{self.path} holds {' and '.join(found[:3])}; move all but one {pattern} away.")
            if found:
                return found
        raise DataError(f"{self.path} holds no {pattern}. {self.remedy}".rstrip())

    def _called(self, wanted: str) -> list[str]:
        """The files of a name, which may end in a folder's: looked up, since a source may ask for a thousand."""
        alike = self._by_last.get(wanted.rpartition("/")[2], [])
        return [name for name in alike if f"/{name}".endswith(f"/{wanted}")]

    def _names(self) -> tuple[str, ...]:
        if self._listing is None:
            self._listing = tuple(name for name in sorted(self._all()) if not _HIDDEN.search(name))
            for name in self._listing:
                self._by_last.setdefault(name.rpartition("/")[2], []).append(name)
        return self._listing

    def _all(self) -> Iterator[str]:
        if self.path.is_dir():
            for file in self.path.rglob("*"):
                name = file.relative_to(self.path).as_posix()
                if file.is_file():
                    yield name
                if file.suffix == ".zip" and file.is_file():
                    yield from (f"{name}/{member}" for member in self._members(name))
        elif zipfile.is_zipfile(self.path):
            yield from (f"{self.path.name}/{member}" for member in self._members(self.path.name))
        else:
            yield self.path.name

    def _members(self, archive: str) -> Iterator[str]:
        with _readable(archive):
            self._archives[archive] = zipfile.ZipFile(self._place(archive))
        return (member for member in self._archives[archive].namelist() if not member.endswith("/"))

    def _place(self, name: str) -> Path:
        return self.path / name if self.path.is_dir() else self.path

    @contextmanager
    def open(self, name: str) -> Iterator[IO[bytes]]:
        """A file's content, unpacked."""
        self._names()
        archive = next((one for one in self._archives if name.startswith(f"{one}/")), "")
        with _readable(name):
            self._remember(archive or name)
            with (
                self._archives[archive].open(name.removeprefix(f"{archive}/"))
                if archive
                else self._place(name).open("rb") as raw,
                io.BufferedReader(cast(Any, gzip.GzipFile(fileobj=raw))) if name.endswith(".gz") else raw as file,
            ):
                yield file

    def _remember(self, name: str) -> None:
        if name not in self.digests:
            with self._place(name).open("rb") as file:
                self.digests[name] = hashlib.file_digest(file, "sha256").hexdigest()


def _fits(name: str, pattern: str) -> bool:
    return fnmatch.fnmatchcase(name, pattern) or fnmatch.fnmatchcase(name, f"*/{pattern}")


@contextmanager
def _readable(name: str) -> Iterator[None]:
    """Say of a file that cannot be read what is the matter with it."""
    try:
        yield
    except (EOFError, zlib.error, gzip.BadGzipFile, zipfile.BadZipFile) as error:
        raise DataError(f"{name}: cut off or damaged ({error}); fetch it again.") from None
    except OSError as error:
        raise DataError(f"{name}: cannot be read ({error.strerror or error}).") from None
