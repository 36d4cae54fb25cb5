"""Files of conversations cut into chunks of whole lines, and what a worker makes of one."""

from __future__ import annotations

import gc
import hashlib
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from trainer.conversation import Conversation, parse
from trainer.errors import DataError
from trainer.preparation.prepared import EXAMPLE, Count, pack, token_type
from trainer.rendering.render import Renderer
from trainer.rendering.rendered import Rendered

#: Bytes of a chunk, about 0.2 seconds of one core. Chunks decide nothing about the result, only how work is shared out
#: and how much of it is in memory.
CHUNK = 1 << 19


@dataclass(frozen=True, slots=True, kw_only=True)
class Chunk:
    """Whole lines of a file."""

    path: Path
    start: int
    stop: int
    #: The number of its first line, counted from 1.
    line: int

    @property
    def size(self) -> int:
        """Bytes."""
        return self.stop - self.start


@dataclass(frozen=True, slots=True, kw_only=True)
class Source:
    """A file of conversations as it was when it was scanned."""

    path: Path
    size: int
    changed: int
    sha256: str
    chunks: tuple[Chunk, ...] = field(repr=False)

    def check(self) -> None:
        """Raise DataError where the file is not the one that was scanned."""
        now = self.path.stat() if self.path.exists() else None
        if now is None or (now.st_size, now.st_mtime_ns) != (self.size, self.changed):
            raise DataError(f"{self.path} was changed while it was read: repeat the command once it is whole.")


@dataclass(frozen=True, slots=True, kw_only=True)
class Part:
    """What a chunk became; ``examples`` counts its datasets through ``names``."""

    examples: NDArray[np.void]
    tokens: NDArray[np.unsignedinteger]
    runs: NDArray[np.uint16]
    ids: bytes
    names: tuple[str, ...]
    counts: dict[str, Count]
    rejected: tuple[str, ...]


def scan(path: Path) -> Source:
    """Hash a file and cut it at line ends; raises DataError where it cannot be read."""
    chunks = []
    start = end = 0
    line = following = 1
    hashed = hashlib.sha256()
    try:
        with path.open("rb") as file:
            before = path.stat()
            while block := file.read(CHUNK):
                hashed.update(block)
                end += len(block)
                following += block.count(b"\n")
                stop = end - len(block) + block.rfind(b"\n") + 1
                if stop > end - len(block):
                    chunks.append(Chunk(path=path, start=start, stop=stop, line=line))
                    start, line = stop, following
    except OSError as error:
        raise DataError(f"{path} cannot be read: {error.strerror}.") from None
    if start < end:
        chunks.append(Chunk(path=path, start=start, stop=end, line=line))
    return Source(path=path, size=end, changed=before.st_mtime_ns, sha256=hashed.hexdigest(), chunks=tuple(chunks))


def tokenize(chunk: Chunk, renderer: Renderer) -> Part:
    """Parse and render the lines of a chunk; a row that cannot be used is told and not raised."""
    with _no_collection():
        return _tokenize(chunk, renderer)


@contextmanager
def _no_collection() -> Iterator[None]:
    """Leave cyclic garbage uncollected for a while.

    A chunk makes a hundred thousand small objects and no cycle, and each time that Python looks for one, it walks all
    that transformers has loaded: a tenth of the work.
    """
    collects = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if collects:
            gc.enable()


def _tokenize(chunk: Chunk, renderer: Renderer) -> Part:
    conversations, rejected = [], []
    for where, row, number in _lines(chunk):
        try:
            one = parse(row, where=where, dataset=chunk.path.stem, number=number)
        except DataError as error:
            rejected.append(str(error))
        else:
            conversations.append((where, one))
    rendered = _render(conversations, renderer, rejected)
    learnt = [int(np.count_nonzero(one.supervised)) for _, one in rendered]
    dropped = Counter(one.dataset for (one, _), count in zip(rendered, learnt, strict=True) if not count)
    kept = [(*both, count) for both, count in zip(rendered, learnt, strict=True) if count]
    return _part(kept, dropped, rejected, token_type(renderer.tokenizer.size))


def _lines(chunk: Chunk) -> list[tuple[str, bytes, int]]:
    try:
        with chunk.path.open("rb") as file:
            file.seek(chunk.start)
            text = file.read(chunk.stop - chunk.start)
    except OSError as error:
        raise DataError(f"{chunk.path} cannot be read: {error.strerror}.") from None
    lines = enumerate(text.split(b"\n"), chunk.line)
    return [(f"{chunk.path.name}:{number}", line, number) for number, line in lines if line.strip()]


def _render(
    conversations: Sequence[tuple[str, Conversation]], renderer: Renderer, rejected: list[str]
) -> list[tuple[Conversation, Rendered]]:
    """Render all at once, or where that fails one by one, to find those at fault."""
    try:
        made = renderer.render_batch([one for _, one in conversations])
        return [(one, rendered) for (_, one), rendered in zip(conversations, made, strict=True)]
    except DataError:
        found = []
        for where, one in conversations:
            try:
                found.append((one, renderer.render(one)))
            except DataError as error:
                rejected.append(f"{where}: {error}")
        return found


def _part(
    kept: Sequence[tuple[Conversation, Rendered, int]], dropped: Counter[str], rejected: list[str], dtype: str
) -> Part:
    names = tuple(dict.fromkeys([*(one.dataset for one, _, _ in kept), *dropped]))
    place = {name: index for index, name in enumerate(names)}
    ids = [one.id.encode() for one, _, _ in kept]
    examples: NDArray[np.void] = np.zeros(len(kept), EXAMPLE)
    examples["tokens"] = [len(made.ids) for _, made, _ in kept]
    examples["supervised"] = [count for _, _, count in kept]
    examples["truncated"] = [made.truncated for _, made, _ in kept]
    examples["truncated_supervised"] = [made.truncated_supervised for _, made, _ in kept]
    examples["name"] = [len(one) for one in ids]
    examples["dataset"] = [place[one.dataset] for one, _, _ in kept]
    examples["split"] = [made.split for _, made, _ in kept]
    tokens: NDArray[np.int32] = np.empty(0, np.int32)
    runs: NDArray[np.uint16] = np.empty(0, np.uint16)
    if kept:
        tokens = np.concatenate([made.ids for _, made, _ in kept])
        code = np.concatenate([made.reasons for _, made, _ in kept])
        code |= np.concatenate([made.supervised for _, made, _ in kept]).view(np.uint8) << 4
        starts = np.cumsum(examples["tokens"], dtype=np.int64) - examples["tokens"]
        runs, examples["runs"] = pack(code, starts)
    return Part(
        examples=examples,
        tokens=tokens.astype(dtype),
        runs=runs,
        ids=b"".join(ids),
        names=names,
        counts={name: _count(examples[examples["dataset"] == place[name]], dropped[name]) for name in names},
        rejected=tuple(rejected),
    )


def _count(examples: NDArray[np.void], dropped: int) -> Count:
    return Count(
        examples=len(examples),
        tokens=int(examples["tokens"].sum()),
        supervised=int(examples["supervised"].sum()),
        dropped=dropped,
        truncated=int(np.count_nonzero(examples["truncated"])),
        cut=int(examples["truncated"].sum()),
        split=int(examples["split"].sum()),
    )
