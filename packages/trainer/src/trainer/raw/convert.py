"""A source's raw files become a file of conversations, with a report of all that was read and rejected."""

from __future__ import annotations

import hashlib
import inspect
import json
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from functools import partial
from importlib.metadata import version
from pathlib import Path
from random import Random
from typing import Any

import trainer
from trainer.conversation import Conversation, Rejected
from trainer.errors import DataError, PluginError, TrainerError
from trainer.raw import fetch
from trainer.raw.rows import Files
from trainer.sources import Source, stream
from trainer.table1 import TABLE_1

#: Rejected rows that a report tells; all are counted.
TOLD = 20
#: Besides a source's own module, the code that decides what its conversations are.
_CODE = (
    "conversation.py",
    "raw/json_list.py",
    "raw/raw_files.py",
    "raw/rows.py",
    "sources/__init__.py",
    "sources/templates.py",
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Report:
    """What a conversion read, wrote and rejected."""

    dataset: str
    #: Records of the raw files.
    rows: int
    conversations: int
    rejected: int
    #: Conversations whose id another one had; they were given a new one.
    renamed: int
    #: The first of the rejected: where and why.
    first_rejected: tuple[str, ...]
    #: Name, SHA-256 and state of each raw file.
    files: tuple[dict[str, str], ...]
    seed: int
    #: Whether all was converted, or only a first part to try it.
    limit: int | None
    #: SHA-256 of the file of conversations.
    sha256: str
    #: Version of trainer, and a hash over the code that makes the conversations.
    version: str
    code: str

    @property
    def paper(self) -> int:
        """How many Table 1 of the paper counts; 0 for a source that is not in it."""
        return TABLE_1[self.dataset].instances if self.dataset in TABLE_1 else 0


def convert(
    source: Source, files: Files, folder: Path, *, seed: int, limit: int | None, tell: Callable[[int], None]
) -> Report:
    """Write ``<name>.jsonl`` and ``<name>.report.json`` into a folder; ``tell`` hears the count now and then.

    Each file comes into its place whole or not at all, the report last and the old one removed first: a report is
    always that of the file beside it. Raises DataError where a file is missing or cannot be written or nothing is to be
    written, and PluginError for a fault in a source's code.
    """
    target, report = folder / f"{source.name}.jsonl", folder / f"{source.name}.report.json"
    _require_other(target, files.path)
    counted = _Counted(limit)
    with _writing(folder), _made(folder):
        draft = target.with_name(f"{target.name}.part")
        try:
            with draft.open("wb") as file:
                for line in counted.lines(_safely(source, files, stream(source.name, seed))):
                    file.write(line)
                    if counted.conversations % 500 == 0:
                        tell(counted.conversations)
                file.flush()
                os.fsync(file.fileno())
            for name in files.digests:
                _require_other(target, files.path / name)
            made = _report(source, files, counted, seed, limit)
            if not made.conversations:
                raise DataError(
                    f"{source.name} has no conversation, so {target} is not written. {_why(counted)}".rstrip()
                )
            report.unlink(missing_ok=True)
            draft.replace(target)
        finally:
            draft.unlink(missing_ok=True)
        beside = report.with_name(f"{report.name}.part")
        beside.write_text(json.dumps({"format": 1, **asdict(made)}, indent=2, ensure_ascii=False) + "\n", "utf-8")
        beside.replace(report)
    return made


def _why(counted: _Counted) -> str:
    return f"{counted.rejected:,} rows are rejected, the first: {counted.first[0]}" if counted.first else ""


def _require_other(target: Path, read: Path) -> None:
    if target.exists() and read.exists() and target.samefile(read):
        raise DataError(f"{target} would be written over what it is made from; choose another folder with --to.")


class _Counted:
    """Turns what a source yields into lines, and counts."""

    def __init__(self, limit: int | None) -> None:
        self.conversations = self.rejected = self.renamed = 0
        self.first: list[str] = []
        self.sha256 = hashlib.sha256()
        self._limit = limit
        self._ids: set[str] = set()

    def lines(self, made: Iterator[Conversation | Rejected]) -> Iterator[bytes]:
        """Each conversation as a line, up to the limit."""
        for one in made:
            if self.conversations == self._limit:
                return
            if isinstance(one, Rejected):
                self._reject(one)
                continue
            conversation = one if one.id not in self._ids else self._with_new_id(one)
            self._ids.add(conversation.id)
            try:
                line = f"{conversation.line()}\n".encode()
            except UnicodeEncodeError:
                self._reject(Rejected(where=conversation.id, reason="holds half of a surrogate pair"))
                continue
            self.conversations += 1
            self.sha256.update(line)
            yield line

    def _reject(self, rejected: Rejected) -> None:
        self.rejected += 1
        if len(self.first) < TOLD:
            self.first.append(str(rejected))

    def _with_new_id(self, conversation: Conversation) -> Conversation:
        self.renamed += 1
        copy = 2
        while f"{conversation.id}#{copy}" in self._ids:
            copy += 1
        return replace(conversation, id=f"{conversation.id}#{copy}")


def _safely(source: Source, files: Files, random: Random) -> Iterator[Conversation | Rejected]:
    """What a source yields; what its code raises becomes an error that names it."""
    try:
        for one in source.convert(files, random):
            if not isinstance(one, Conversation | Rejected):
                raise PluginError(f"The source {source.name!r} yields a {type(one).__name__}, not a Conversation.")
            yield one
    except TrainerError:
        raise
    except OSError as error:
        raise DataError(f"{source.name}: {error.filename or 'a raw file'} cannot be read ({error.strerror}).") from None
    except Exception as error:  # a source's code met a row that it did not expect
        what = f"{type(error).__name__}: {' '.join(str(error).split())}"
        raise PluginError(f"The source {source.name!r} cannot read its files ({what}).") from error


def _report(source: Source, files: Files, counted: _Counted, seed: int, limit: int | None) -> Report:
    root = files.path if files.path.is_dir() else files.path.parent
    # Raw files lie in DIR/<name>, what is known of them in DIR.
    root = root if (root / fetch.LOCK).is_file() else root.parent
    read = sorted(files.digests.items())
    states = [fetch.state(name, digest, source.published, root) for name, digest in read]
    return Report(
        dataset=source.name,
        rows=files.records_read,
        conversations=counted.conversations,
        rejected=counted.rejected,
        renamed=counted.renamed,
        first_rejected=tuple(counted.first),
        files=tuple(
            {"name": name, "sha256": digest, "state": state} for (name, digest), state in zip(read, states, strict=True)
        ),
        seed=seed,
        limit=limit,
        sha256=counted.sha256.hexdigest(),
        version=version("trainer"),
        code=_code(source),
    )


def _code(source: Source) -> str:
    """A hash over the text of the modules that make a source's conversations, and what their function is given."""
    package = Path(trainer.__file__).parent
    function: Any = source.convert
    digest = hashlib.sha256()
    while isinstance(function, partial):
        digest.update(repr((function.args, sorted(function.keywords.items()))).encode())
        function = function.func
    own = inspect.getsourcefile(function if inspect.isroutine(function) else type(function))
    modules = [package / name for name in _CODE] + ([Path(own)] if own else [])
    for module in modules:
        digest.update(module.read_bytes())
    return digest.hexdigest()


@contextmanager
def _made(folder: Path) -> Iterator[None]:
    """See to it that a folder is there; one that was made for nothing is taken away again."""
    made = not folder.exists()
    folder.mkdir(parents=True, exist_ok=True)
    try:
        yield
    finally:
        if made and not any(folder.iterdir()):
            folder.rmdir()


@contextmanager
def _writing(folder: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        why = error.strerror or error
        raise DataError(f"{folder} cannot be written ({why}); make room, or choose another folder with --to.") from None
