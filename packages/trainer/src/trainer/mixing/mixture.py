"""Mixtures: how much of which datasets; as names of the paper, as parts on a command line, or as a TOML file."""

from __future__ import annotations

import math
import re
import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from fractions import Fraction
from pathlib import Path
from typing import Any, Literal, TypeAlias

from trainer.errors import DataError, TrainerError, UnknownName
from trainer.sources import Source
from trainer.sources.mapping import mapped

_HUMAN = ("flan_v2", "cot", "dolly", "oasst1")
#: The paper's mixtures (section 3.1), all of each dataset; Human+GPT is what the Tülu models learnt.
NAMED = {"human": _HUMAN, "human+gpt": (*_HUMAN, "gpt4_alpaca", "code_alpaca", "sharegpt")}
ALIASES = {"tulu": "human+gpt"}

How: TypeAlias = Literal["all", "count", "fraction", "weight"]
_AMOUNTS: tuple[How, ...] = ("count", "fraction", "weight")


@dataclass(frozen=True, slots=True, kw_only=True)
class Part:
    """A share of the conversations of one file."""

    #: Seeds what is drawn: the dataset's name, or the file's without its ending.
    name: str
    path: Path
    #: Whether ``amount`` counts conversations, is a fraction of those that there are, or the part's weight in the mix.
    how: How = "all"
    amount: Fraction = Fraction(1)
    #: Reads a file that holds no conversations yet; None where it does.
    source: Source | None = None

    def __post_init__(self) -> None:
        if self.amount <= 0 or (self.how == "fraction" and self.amount > 1):
            limit = "at most 1 (weights repeat)" if self.how == "fraction" and self.amount > 1 else "more than 0"
            raise TrainerError(f"The {self.how} of {self.name} is {float(self.amount):g}; it should be {limit}.")
        if self.how == "count" and self.amount.denominator != 1:
            raise TrainerError(f"The count of {self.name} is {float(self.amount):g}; it should be a whole number.")


@dataclass(frozen=True, slots=True, kw_only=True)
class Mixture:
    """Parts, in the order in which they are written."""

    name: str
    parts: tuple[Part, ...]
    seed: int = 42
    #: Conversations in all, where parts have weights; 0 for as many as there are without repeating one.
    total: int = 0

    def __post_init__(self) -> None:
        if not self.parts:
            raise TrainerError(f"Mixture {self.name} has no parts; name a mixture or give --part.")
        weighted = [part.name for part in self.parts if part.how == "weight"]
        if 0 < len(weighted) < len(self.parts):
            other = next(part.name for part in self.parts if part.how != "weight")
            raise TrainerError(f"{weighted[0]} has a weight and {other} has none; give all parts weights, or none.")
        if self.total < 0 or (self.total and not weighted):
            raise TrainerError("A total is shared out by weights: give every part one (dolly:weight=2).")
        seen: dict[Path, str] = {}
        for part in self.parts:
            twice = seen.setdefault(part.path.resolve(), part.name)
            if twice is not part.name:
                raise TrainerError(f"{part.path} is two parts of the mixture; name it once.")

    def with_parts(self, parts: Sequence[Part]) -> Mixture:
        """The mixture with more parts; one of a name that it has already takes the place of that one."""
        given = {part.name: part for part in parts}
        kept = tuple(given.pop(part.name, part) for part in self.parts)
        return replace(self, parts=(*kept, *given.values()))


def named(name: str, folder: Path) -> Mixture:
    """A mixture of the paper from a folder of converted datasets; raises UnknownName."""
    name = ALIASES.get(name, name)
    if name not in NAMED:
        raise UnknownName("mixture", name, [*NAMED, *ALIASES])
    return Mixture(name=name, parts=tuple(Part(name=one, path=folder / f"{one}.jsonl") for one in NAMED[name]))


_AMOUNT = re.compile(r"(?:(count|fraction|weight)=)?(\d+(?:\.\d+)?|\.\d+)(%?)")


def part(text: str, folder: Path) -> Part:
    """A part as written on a command line: ``dolly``, ``dolly:0.5``, ``own.jsonl:2000``, ``dolly:weight=3``.

    A whole number counts conversations; one with a point or a percent sign is a fraction. What has an ending or a
    slash is a file, anything else a dataset in the folder. Raises TrainerError.
    """
    place, colon, amount = text.rpartition(":")
    if not colon:
        return _sourced(text, folder)
    found = _AMOUNT.fullmatch(amount)
    if not found or not place:
        raise TrainerError(
            f"{text!r} is no part: write NAME, NAME:2000 (a count), NAME:0.5 or NAME:50% (a fraction), NAME:weight=3."
        )
    how, number, percent = found.groups()
    value = Fraction(number) / (100 if percent else 1)
    how = how or ("fraction" if percent or "." in number else "count")
    return _sourced(place, folder, how=how, amount=value)


def _sourced(name: str, folder: Path, **given: Any) -> Part:
    if "/" in name or "." in name:
        return Part(name=Path(name).stem, path=Path(name), **given)
    return Part(name=name, path=folder / f"{name}.jsonl", **given)


def from_toml(path: Path, folder: Path) -> Mixture:
    """The mixture that a file describes; datasets are looked for in ``folder``, files beside the description.

    Raises TrainerError naming the file, and the part where it is one part's fault.
    """
    try:
        content = tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise DataError(f"{path} cannot be read: {error.strerror}.") from None
    except ValueError as error:
        raise DataError(f"{path} is not TOML ({error}).") from None
    try:
        _known(content, ("seed", "total", "part"))
        parts = content.get("part", [])
        if not isinstance(parts, list):
            raise TrainerError("parts begin with [[part]], in two pairs of brackets.")
        return Mixture(
            name=path.stem,
            parts=tuple(_part(number, row, path.parent, folder) for number, row in enumerate(parts, 1)),
            seed=_whole(content, "seed", 42),
            total=_whole(content, "total", 0),
        )
    except TrainerError as error:
        raise DataError(f"{path}: {error}") from None


def _part(number: int, row: Any, beside: Path, folder: Path) -> Part:
    try:
        if not isinstance(row, Mapping):
            raise TrainerError("it is not a table.")
        if "mapping" not in row:  # whose other keys are the mapping's own affair
            _known(row, ("source", "file", "mapping", *_AMOUNTS))
        if ("source" in row) == ("file" in row):
            raise TrainerError("it needs either a source or a file.")
        amounts = [how for how in _AMOUNTS if how in row]
        if len(amounts) > 1:
            raise TrainerError(f"it has {' and '.join(amounts)}; give one of them.")
        given: dict[str, Any] = {"how": amounts[0], "amount": _number(row, amounts[0])} if amounts else {}
        if "source" in row:
            if "mapping" in row:
                raise TrainerError("a mapping is for a file; a source needs none.")
            return Part(name=_text(row, "source"), path=folder / f"{_text(row, 'source')}.jsonl", **given)
        file = beside / _text(row, "file")
        if "mapping" in row:
            fields = {key: _text(row, key) for key in row if key not in ("file", "mapping", *_AMOUNTS)}
            given["source"] = mapped(file.stem, _text(row, "mapping"), fields, [file.name])
        return Part(name=file.stem, path=file, **given)
    except TrainerError as error:
        raise TrainerError(f"part {number}: {error}") from None


def _known(table: Mapping[str, Any], keys: Sequence[str]) -> None:
    for key in table:
        if key not in keys:
            raise UnknownName("key", key, keys)


def _text(table: Mapping[str, Any], key: str) -> str:
    if not isinstance(table[key], str) or not table[key]:
        raise TrainerError(f"{key} should be text, but is {table[key]!r}.")
    return str(table[key])


def _whole(table: Mapping[str, Any], key: str, default: int) -> int:
    value = table.get(key, default)
    if not isinstance(value, int) or isinstance(value, bool):
        raise TrainerError(f"{key} should be a whole number, but is {value!r}.")
    return value


def _number(table: Mapping[str, Any], key: str) -> Fraction:
    value = table[key]
    if not isinstance(value, int | float) or isinstance(value, bool) or not math.isfinite(value):
        raise TrainerError(f"{key} should be a number, but is {value!r}.")
    return Fraction(str(value))
