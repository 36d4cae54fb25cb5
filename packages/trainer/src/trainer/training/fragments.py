"""The state of a training run in pieces that no layout of ranks owns: what is written by one reads into any other.

Whatever shares a model out, it shares out stretches of flattened parameters. A rank writes the stretches it keeps, each
with the parameter's name and its place in it, as they are and without talking to the others; to read, a rank fills the
stretches that it keeps now from whichever files they are in. So a checkpoint needs no conversion for another number of
ranks, another ZeRO stage or plain torch, and no tensor is ever whole in memory.
"""

from __future__ import annotations

import hashlib
import json
import struct
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO

from trainer.errors import DataError

if TYPE_CHECKING:
    from torch import Tensor

#: What is kept of a trained parameter, each as 32-bit floats: its value, and AdamW's two running means.
KINDS = ("weight", "exp_avg", "exp_avg_sq")
_ITEM = 4
#: Elements that are copied at a time.
_SLICE = 1 << 24


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Fragment:
    """A stretch of a flattened parameter that this rank keeps; the tensors are the live ones, of shape (numel,)."""

    name: str
    #: Where in the flattened parameter it begins.
    start: int
    #: For each of KINDS, in fp32.
    tensors: tuple[Tensor, Tensor, Tensor] = field(repr=False)
    #: Whether this rank is the one that writes it; where every rank keeps everything, one does.
    owned: bool = True

    @property
    def numel(self) -> int:
        """Its elements."""
        return int(self.tensors[0].numel())


def write(fragments: Iterable[Fragment], path: Path) -> tuple[int, str]:
    """Write what this rank owns of its fragments to a safetensors file; its bytes and their SHA-256.

    The file is on disk when this returns. A tensor is copied out of its device a slice at a time.
    """
    owned = [one for one in fragments if one.owned and one.numel]
    header, place = {}, 0
    for one in owned:
        for kind in KINDS:
            end = place + one.numel * _ITEM
            header[f"{kind}:{one.start}:{one.name}"] = {
                "dtype": "F32",
                "shape": [one.numel],
                "data_offsets": [place, end],
            }
            place = end
    head = json.dumps(header, separators=(",", ":")).encode()
    head += b" " * (-len(head) % 8)
    digest, size = hashlib.sha256(), 0
    with path.open("wb") as file:
        for piece in _pieces(head, owned):
            digest.update(piece)
            size += file.write(piece)
        to_disk(file)
    return size, digest.hexdigest()


def _pieces(head: bytes, fragments: Sequence[Fragment]) -> Iterator[Any]:
    yield struct.pack("<Q", len(head))
    yield head
    for one in fragments:
        for tensor in one.tensors:
            for start in range(0, one.numel, _SLICE):
                yield tensor[start : start + _SLICE].detach().to("cpu").contiguous().numpy().data.cast("B")


def to_disk(file: BinaryIO) -> None:
    """See to it that what was written is on disk, and that the next reader gets it from there."""
    import os

    file.flush()
    os.fsync(file.fileno())
    if hasattr(os, "posix_fadvise"):
        os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Stored:
    """Where a stretch of a parameter is on disk; ``offsets`` are of each of KINDS, in bytes of the file."""

    path: Path
    start: int
    stop: int
    offsets: tuple[int, int, int]


def read(fragments: Iterable[Fragment], paths: Sequence[Path]) -> None:
    """Fill live fragments from the files of a checkpoint.

    Raises DataError where the files do not hold all of a fragment, which says that the checkpoint is of another model.
    """
    stored = index(paths)
    files: dict[Path, BinaryIO] = {}
    try:
        for one in fragments:
            _fill(one, stored.get(one.name, ()), files)
    finally:
        for file in files.values():
            file.close()


def index(paths: Sequence[Path]) -> Mapping[str, list[_Stored]]:
    """Where the stretches of each parameter are in these files."""
    found: dict[str, list[_Stored]] = {}
    for path in paths:
        with path.open("rb") as file:
            size = struct.unpack("<Q", file.read(8))[0]
            header = json.loads(file.read(size))
        data = 8 + size
        for key, told in header.items():
            kind, start, name = key.split(":", 2)
            if kind != KINDS[0]:
                continue
            begin = int(start)
            offsets = [data + header[f"{one}:{start}:{name}"]["data_offsets"][0] for one in KINDS]
            found.setdefault(name, []).append(
                _Stored(path=path, start=begin, stop=begin + told["shape"][0], offsets=(*offsets,))
            )
    return found


def _fill(fragment: Fragment, stored: Iterable[_Stored], files: dict[Path, BinaryIO]) -> None:
    import numpy as np
    import torch

    first, last = fragment.start, fragment.start + fragment.numel
    missing = fragment.numel
    for one in stored:
        start, stop = max(first, one.start), min(last, one.stop)
        missing -= max(0, stop - start)
        if one.path not in files:
            files[one.path] = one.path.open("rb")
        for tensor, offset in zip(fragment.tensors, one.offsets, strict=True):
            for place in range(start, stop, _SLICE):
                count = min(_SLICE, stop - place)
                files[one.path].seek(offset + (place - one.start) * _ITEM)
                values = np.fromfile(files[one.path], np.float32, count)
                tensor[place - first : place - first + count].copy_(torch.from_numpy(values))
    if missing:
        raise DataError(
            f"The checkpoint lacks {missing:,} of {fragment.numel:,} values of {fragment.name!r}: it is of another"
            " model. Set out to another folder to begin anew."
        )
