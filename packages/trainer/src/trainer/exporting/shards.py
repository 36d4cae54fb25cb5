"""Writes safetensors files in place: where each tensor will stand is known before the first one comes.

Format: https://huggingface.co/docs/safetensors, and the index beside several files as transformers reads it.
"""

from __future__ import annotations

import hashlib
import json
import math
import os
from collections.abc import Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from io import FileIO
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

from trainer.errors import TrainerError

if TYPE_CHECKING:
    import torch

#: torch's name of a dtype: the format's name, and the bytes of a number.
DTYPES = {"bfloat16": ("BF16", 2), "float32": ("F32", 4)}

#: Stands in a header until the content is written. Who tells models apart by their headers would else take one step of
#: a run for another.
_UNKNOWN = b"0" * 64

#: Numbers that are rounded at a time.
_SLICE = 1 << 22

#: Large enough for few files, small enough to be copied, or fetched anew, one by one.
SHARD_BYTES = 5_000_000_000


@dataclass(frozen=True, slots=True, kw_only=True)
class Shard:
    """One file to be."""

    name: str
    #: What stands before the tensors: the length of the JSON, and the JSON.
    header: bytes
    #: Where each tensor begins in the file, and how many bytes it has.
    places: Mapping[str, tuple[int, int]]

    @property
    def size(self) -> int:
        """The bytes of the whole file."""
        return len(self.header) + sum(size for _, size in self.places.values())


def plan(
    shapes: Mapping[str, tuple[int, ...]], dtype: str, *, limit: int = SHARD_BYTES, stem: str = "model"
) -> list[Shard]:
    """The files of tensors with these shapes, in this order; each holds at most ``limit`` bytes of them, or one."""
    groups: list[list[str]] = [[]]
    filled = 0
    for name, shape in shapes.items():
        size = math.prod(shape) * DTYPES[dtype][1]
        if groups[-1] and filled + size > limit:
            groups.append([])
            filled = 0
        groups[-1].append(name)
        filled += size
    many = len(groups) > 1
    return [
        _shard(
            f"{stem}-{number:05}-of-{len(groups):05}.safetensors" if many else f"{stem}.safetensors",
            {name: shapes[name] for name in names},
            dtype,
        )
        for number, names in enumerate(groups, 1)
    ]


class Shards:
    """The files of a plan while they are written: holds no tensor longer than it takes to write it.

    Used as a context; left without an error it has checked that every tensor came, and written the index.
    """

    def __init__(self, folder: Path, shapes: Mapping[str, tuple[int, ...]], dtype: str, **more: Any) -> None:
        self._folder, self._shapes, self._dtype = folder, shapes, dtype
        self._shards = plan(shapes, dtype, **more)
        self._place = {name: (shard, *place) for shard in self._shards for name, place in shard.places.items()}
        self._missing = dict.fromkeys(shapes)
        self._files: dict[str, FileIO] = {}
        self._digests: dict[str, bytes] = {}

    def __enter__(self) -> Self:
        with ExitStack() as opening:
            for shard in self._shards:
                file = opening.enter_context((self._folder / shard.name).open("xb", buffering=0))
                _write(file, memoryview(shard.header), 0)
                file.truncate(shard.size)
                self._files[shard.name] = file
            self._open = opening.pop_all()
        return self

    def put(self, name: str, tensor: torch.Tensor) -> None:
        """Write one tensor to its place; raises TrainerError for one that was not planned so."""
        if self._shapes.get(name) != tuple(tensor.shape):
            raise TrainerError(
                f"The weight {name} has the shape {tuple(tensor.shape)}; the run's frame asks for"
                f" {self._shapes.get(name, 'no such weight')}: the two do not belong together."
            )
        if name not in self._missing:
            raise TrainerError(f"The weight {name} came twice.")
        shard, start, _ = self._place[name]
        width = DTYPES[self._dtype][1]
        flat = tensor.detach().reshape(-1)
        digest = hashlib.sha256()
        for place in range(0, len(flat), _SLICE):
            raw = _raw(flat[place : place + _SLICE], self._dtype)
            digest.update(raw)
            _write(self._files[shard.name], raw, start + place * width)
        self._digests[name] = digest.digest()
        del self._missing[name]

    def __exit__(self, kind: object, *_: object) -> None:
        with self._open:
            if kind is not None:
                return
            if self._missing:
                first = next(iter(self._missing))
                raise TrainerError(
                    f"{len(self._missing)} of {len(self._shapes)} weights are missing, {first} among them:"
                    " the checkpoint and the run's frame do not belong together."
                )
            for shard in self._shards:
                file = self._files[shard.name]
                content = hashlib.sha256(b"".join(self._digests[name] for name in shard.places)).hexdigest()
                _write(file, memoryview(shard.header.replace(_UNKNOWN, content.encode(), 1)), 0)
                os.fsync(file.fileno())
        if len(self._shards) > 1:
            self._write_index()

    def _write_index(self) -> None:
        stem = self._shards[0].name.partition("-")[0]
        told = {
            "metadata": {"total_size": sum(size for _, _, size in self._place.values())},
            "weight_map": {name: shard.name for name, (shard, *_) in self._place.items()},
        }
        (self._folder / f"{stem}.safetensors.index.json").write_text(json.dumps(told, indent=2) + "\n")


def _shard(name: str, shapes: Mapping[str, tuple[int, ...]], dtype: str) -> Shard:
    kind, width = DTYPES[dtype]
    sizes = {one: math.prod(shape) * width for one, shape in shapes.items()}
    told: dict[str, Any] = {"__metadata__": {"format": "pt", "sha256": _UNKNOWN.decode()}}
    end = 0
    for one, size in sizes.items():
        told[one] = {"dtype": kind, "shape": list(shapes[one]), "data_offsets": [end, end + size]}
        end += size
    text = json.dumps(told, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)  # so that tensors stand where the processor likes to find them
    header = len(text).to_bytes(8, "little") + text
    starts = {one: len(header) + told[one]["data_offsets"][0] for one in sizes}
    return Shard(name=name, header=header, places={one: (starts[one], size) for one, size in sizes.items()})


def _raw(flat: torch.Tensor, dtype: str) -> memoryview:
    """The bytes of numbers, rounded to nearest."""
    import torch

    made = flat.to(device="cpu", dtype=getattr(torch, dtype)).contiguous()
    return memoryview(made.view(torch.uint8).numpy())


def _write(file: FileIO, content: memoryview, start: int) -> None:
    """Write all of it: the system takes at most 2 GiB at once."""
    while content:
        count = os.pwrite(file.fileno(), content, start)
        content, start = content[count:], start + count
