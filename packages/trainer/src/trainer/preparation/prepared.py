"""A prepared folder: what a model will learn from, as token ids that are mapped into memory and never parsed again."""

from __future__ import annotations

import hashlib
import itertools
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from trainer.errors import DataError
from trainer.rendering.rendered import Rendered

#: Raised whenever an older prepared folder could no longer be read.
FORMAT = 1
MANIFEST = "prepared.json"
#: The files of a prepared folder: token ids, runs, one EXAMPLE each, and the ids of the conversations in UTF-8.
FILES = ("tokens.bin", "runs.bin", "examples.bin", "names.bin")

#: What is known of an example besides its tokens; the counts are those of the other files that belong to it.
EXAMPLE = np.dtype(
    [
        ("tokens", "<u4"),
        ("supervised", "<u4"),
        ("runs", "<u4"),
        ("truncated", "<u4"),
        ("truncated_supervised", "<u4"),
        ("name", "<u4"),
        ("dataset", "<u2"),
        ("split", "<u2"),
    ]
)

#: A run is a stretch of tokens that are there for one reason and are all learnt or all not, in 16 bits: the length
#: less one in the lower 11, above them the reason in 4, and on top whether they are learnt. Longer stretches are
#: several runs.
RUN = np.dtype("<u2")
LONGEST_RUN = 1 << 11


@dataclass(frozen=True, slots=True, kw_only=True)
class Count:
    """How many there are of what; of one dataset, or of all."""

    #: Examples with something to learn in them, and their tokens.
    examples: int = 0
    tokens: int = 0
    supervised: int = 0
    #: Conversations left out because the model would learn nothing from them.
    dropped: int = 0
    #: Examples that the length limit cut, and the tokens that this cost.
    truncated: int = 0
    cut: int = 0
    #: Examples whose ids are not those of the whole text encoded at once.
    split: int = 0

    def __add__(self, other: Count) -> Count:
        return Count(**{name: getattr(self, name) + getattr(other, name) for name in self.__slots__})


@dataclass(frozen=True, slots=True, kw_only=True)
class Prepared:
    """A prepared folder, opened; ``prepared[i]`` is what the renderer made of example i."""

    folder: Path
    manifest: Mapping[str, Any] = field(repr=False)
    #: The names of the datasets, which ``datasets`` counts through.
    names: tuple[str, ...]
    #: One EXAMPLE for each, shape (examples,).
    examples: NDArray[np.void] = field(repr=False)
    #: The ids of all tokens, shape (tokens,).
    tokens: NDArray[np.unsignedinteger[Any]] = field(repr=False)
    runs: NDArray[np.uint16] = field(repr=False)
    #: Where the tokens and the runs of each example end, shape (examples + 1,).
    ends: tuple[NDArray[np.int64], NDArray[np.int64]] = field(repr=False)

    @classmethod
    def open(cls, folder: Path) -> Self:
        """Map a prepared folder into memory; reads its manifest and its examples' lengths, and no token.

        Raises DataError where there is no whole one that this version reads, or where a file has another size than
        it was written with.
        """
        manifest = read_manifest(folder)
        place = folder / str(manifest["key"])[:16]
        for name, told in manifest["files"].items():
            _check_size(place / name, told["bytes"])
        # As plain arrays: what is computed from a memmap calls itself one, although it is in memory.
        tokens, runs, examples = (
            np.asarray(np.memmap(place / name, dtype=dtype, mode="r"))
            for name, dtype in zip(FILES, (manifest["dtype"], RUN, EXAMPLE), strict=False)
        )
        return cls(
            folder=folder,
            manifest=manifest,
            names=tuple(manifest["datasets"]),
            examples=examples,
            tokens=tokens,
            runs=runs,
            ends=(_ends(examples["tokens"]), _ends(examples["runs"])),
        )

    @property
    def lengths(self) -> NDArray[np.uint32]:
        """The tokens of each example, shape (examples,)."""
        return self.examples["tokens"]

    @property
    def supervised(self) -> NDArray[np.uint32]:
        """The learnt tokens of each example, shape (examples,); none of them is 0."""
        return self.examples["supervised"]

    @property
    def datasets(self) -> NDArray[np.uint16]:
        """The place in ``names`` of each example's dataset, shape (examples,)."""
        return self.examples["dataset"]

    @property
    def counts(self) -> dict[str, Count]:
        """What was counted of each dataset, dropped conversations included."""
        return {name: Count(**told) for name, told in self.manifest["counts"].items()}

    def ids(self) -> list[str]:
        """The ids of the conversations that the examples were, in order."""
        text = (self._place / "names.bin").read_bytes()
        ends = _ends(self.examples["name"]).tolist()
        return [text[start:end].decode() for start, end in itertools.pairwise(ends)]

    def __len__(self) -> int:
        return len(self.examples)

    def __getitem__(self, index: int) -> Rendered:
        tokens, runs = self.ends
        example = self.examples[index]
        index = range(len(self))[index]
        reasons, supervised = unpack(self.runs[runs[index] : runs[index + 1]])
        return Rendered(
            ids=self.tokens[tokens[index] : tokens[index + 1]].astype(np.int32),
            reasons=reasons,
            supervised=supervised,
            truncated=int(example["truncated"]),
            truncated_supervised=int(example["truncated_supervised"]),
            split=bool(example["split"]),
        )

    def verify(self) -> None:
        """Read all files and compare them with what was written; raises DataError naming one that differs."""
        for name, told in self.manifest["files"].items():
            if digest(self._place / name) != told["sha256"]:
                raise DataError(
                    f"{self._place / name} is not what was written there: delete {self.folder}, prepare anew."
                )

    def __reduce__(self) -> tuple[Any, ...]:
        """A loader's worker processes open the folder themselves: a mapped array would be sent as a copy of it all."""
        return type(self).open, (self.folder,)

    @property
    def _place(self) -> Path:
        return self.folder / str(self.manifest["key"])[:16]


def read_manifest(folder: Path) -> dict[str, Any]:
    """What ``prepared.json`` holds; raises DataError where there is none of this format."""
    file = folder / MANIFEST
    try:
        manifest = json.loads(file.read_bytes())
    except FileNotFoundError:
        raise DataError(
            f"{folder} holds no prepared data, or not all of it yet: run `trainer data prepare FILE... --to {folder}`."
        ) from None
    except NotADirectoryError:
        raise DataError(
            f"{folder} is a file and not prepared data: run `trainer data prepare {folder} --tokenizer MODEL --to DIR`"
            " and name DIR."
        ) from None
    except OSError as error:
        raise DataError(f"{file} cannot be read ({error.strerror}).") from None
    except ValueError as error:
        raise DataError(f"{file} cannot be read ({error}); delete {folder} and prepare anew.") from None
    found = manifest.get("format") if isinstance(manifest, dict) else None
    if found != FORMAT:
        raise DataError(f"{file} has format {found!r}, this version reads {FORMAT}: delete {folder}, prepare anew.")
    return dict(manifest)


def token_type(size: int) -> str:
    """How a token is stored where ids are below ``size``: in two bytes if they suffice, else in four."""
    return "<u2" if size <= 1 << 16 else "<u4"


def pack(code: NDArray[np.uint8], starts: NDArray[np.int64]) -> tuple[NDArray[np.uint16], NDArray[np.uint32]]:
    """The runs of concatenated examples, and how many each example has.

    ``code`` has the shape (tokens,) and holds reason + 16 where a token is learnt, else the reason; ``starts`` says
    where each example, none of them empty, begins.
    """
    edge: NDArray[np.bool_] = np.ones(len(code), bool)
    np.not_equal(code[1:], code[:-1], out=edge[1:])
    edge[starts] = True
    begin = np.flatnonzero(edge)
    length = np.diff(begin, append=len(code))
    pieces = -(-length // LONGEST_RUN)
    if length.size != pieces.sum():
        first: NDArray[np.int64] = np.repeat(np.cumsum(pieces) - pieces, pieces)
        begin = np.repeat(begin, pieces) + LONGEST_RUN * (np.arange(len(first)) - first)
        length = np.diff(begin, append=len(code))
    runs = (code[begin].astype(RUN) << 11) | (length - 1).astype(RUN)
    return runs, np.diff(np.searchsorted(begin, starts), append=len(begin)).astype(np.uint32)


def unpack(runs: NDArray[np.uint16]) -> tuple[NDArray[np.uint8], NDArray[np.bool_]]:
    """The reason of each token and whether it is learnt, both of shape (tokens,)."""
    code: NDArray[np.uint8] = np.repeat((runs >> 11).astype(np.uint8), (runs & (LONGEST_RUN - 1)) + 1)
    return code & 15, code >= 16


def digest(path: Path) -> str:
    """SHA-256 of a file; raises DataError where it cannot be read."""
    try:
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise DataError(f"{path} cannot be read ({error.strerror}).") from None


def _check_size(path: Path, size: int) -> None:
    found = path.stat().st_size if path.exists() else None
    if found != size:
        state = "is missing" if found is None else f"has {found:,} bytes and not the {size:,} that were written"
        raise DataError(f"{path} {state}: delete {path.parents[1]} and prepare anew.")


def _ends(counts: NDArray[np.uint32]) -> NDArray[np.int64]:
    ends: NDArray[np.int64] = np.zeros(len(counts) + 1, np.int64)
    np.cumsum(counts, out=ends[1:])
    return ends
