"""What a source of instruction data is; one file beside this one for each of the paper's twelve."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from random import Random
from typing import TYPE_CHECKING, TypeAlias

from trainer.conversation import Conversation, Rejected

if TYPE_CHECKING:
    from trainer.raw.rows import Files

#: Reads a publisher's files in order and draws from one stream of random numbers.
Convert: TypeAlias = "Callable[[Files, Random], Iterator[Conversation | Rejected]]"


@dataclass(frozen=True, slots=True, kw_only=True)
class Published:
    """One file as its publisher offers it, at a revision that cannot change."""

    #: Its path below the folder of raw files: ``dolly/databricks-dolly-15k.jsonl``.
    path: str
    url: str
    #: SHA-256 of the file, empty where nobody could record it yet.
    sha256: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Source:
    """A dataset: where its raw files are, and how they become conversations."""

    #: What commands, files and the field ``dataset`` call it: ``flan_v2``.
    name: str
    #: As Table 1 of the paper calls it: ``Flan V2``.
    title: str
    home: str
    licence: str
    published: tuple[Published, ...]
    convert: Convert


def stream(name: str, seed: int) -> Random:
    """A dataset's own random numbers: what another dataset draws, or whether it is there, changes nothing."""
    return Random(f"{seed} {name}")
