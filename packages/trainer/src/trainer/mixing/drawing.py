"""Draws the parts of a mixture and writes them, with a record of what went in and what came out."""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
import platform
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from fractions import Fraction
from importlib.metadata import version
from io import BufferedWriter
from pathlib import Path
from random import Random

from trainer.conversation import Conversation
from trainer.errors import DataError, TrainerError, UnknownName
from trainer.mixing.mixture import Mixture, Part
from trainer.mixing.survey import Reading, Surveyed, Tell, check_unique, survey
from trainer.sources import registry, stream


@dataclass(frozen=True, slots=True, kw_only=True)
class Taken:
    """A part in the record of a mix."""

    name: str
    file: str
    sha256: str
    #: How much was asked: ``all``, ``count 2000``, ``fraction 1/2``.
    asked: str
    #: Conversations that there are, and those in the mix, copies included.
    there: int
    taken: int
    #: Rows that made no conversation, and the first of them with its reason.
    rejected: int
    first_rejected: str
    #: Set where the file was made with ``trainer data convert --limit``, and so is not the whole dataset.
    limit: int | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Mixed:
    """The record of a mix, the content of the JSON file beside it."""

    mixture: str
    seed: int
    conversations: int
    bytes: int
    sha256: str
    parts: tuple[Taken, ...]
    versions: dict[str, str]


def mix(mixture: Mixture, to: Path, *, converted: Path = Path(), tell: Tell = lambda _: None) -> Mixed:
    """Draw a mixture, write it to ``to`` and the record beside it; returns the record.

    Each part is read twice, once to count and check it and once to write what was drawn, so that memory holds eight
    bytes for each conversation and no texts. Neither file is there before it is whole. The same mixture of the same
    files is the same bytes everywhere. Raises TrainerError where parts are missing (for those that should be in
    ``converted``, with the commands that make them), too small, broken, or share ids.
    """
    _check_place(mixture, to)
    _check_there(mixture, converted)
    surveyed = [survey(part, tell) for part in mixture.parts]
    amounts = allot(mixture, [one.rows for one in surveyed])
    check_unique(surveyed)
    for one, amount in zip(surveyed, amounts, strict=True):
        if one.copy and amount > one.rows:
            raise DataError(f"{one.part.path} has ids like {one.copy!r}, which copies get; give them other ids.")
    # A mix without a record was not finished; one beside the record of another mix would be a lie.
    with _whole(to, outdated=record_path(to)) as file:
        digest, size = hashlib.sha256(), 0
        for one, amount in zip(surveyed, amounts, strict=True):
            for conversation in _drawn(one, amount, mixture.seed, tell):
                line = conversation.line().encode() + b"\n"
                digest.update(line)
                size += file.write(line)
    record = _record(mixture, surveyed, amounts, digest.hexdigest(), size)
    with _whole(record_path(to)) as file:
        file.write((json.dumps({"format": 1, **asdict(record)}, indent=2, ensure_ascii=False) + "\n").encode())
    return record


def record_path(to: Path) -> Path:
    """Where the record of a mix is: ``mix.json`` beside ``mix.jsonl``."""
    return to.with_suffix(".json")


def allot(mixture: Mixture, rows: Sequence[int]) -> list[int]:
    """How many conversations each part gives, by how many it has.

    Fractions are rounded to the nearest conversation, a half up. Weights share out the total, the last few by the
    largest remainder; without a total they share out the most that repeats no conversation. Only with a total may a
    part give more than it has: then all of it, as often as that goes, and a draw for the rest. Raises DataError naming
    each part that has too few, with the numbers.
    """
    parts = mixture.parts
    if parts[0].how == "weight":
        weights = [part.amount for part in parts]
        if mixture.total:
            return _shares(mixture.total, weights, [part.name for part in parts])
        scale = min(Fraction(there) / weight for there, weight in zip(rows, weights, strict=True))
        return [int(scale * weight) for weight in weights]
    amounts = [_amount(part, there) for part, there in zip(parts, rows, strict=True)]
    short = [
        f"{part.name} has {there:,} conversations, {amount:,} are asked for"
        for part, there, amount in zip(parts, rows, amounts, strict=True)
        if amount > there
    ]
    if short:
        raise DataError(f"{'; '.join(short)}. Ask for less, or give weights and a total, which repeat what there is.")
    return amounts


def _amount(part: Part, there: int) -> int:
    match part.how:
        case "count":
            return int(part.amount)
        case "fraction":
            return int(part.amount * there + Fraction(1, 2))
        case _:
            return there


def _shares(total: int, weights: Sequence[Fraction], names: Sequence[str]) -> list[int]:
    exact = [total * weight / sum(weights) for weight in weights]
    shares = [int(share) for share in exact]
    # Ties go by name, so that the order of parts decides nothing.
    order = sorted(range(len(weights)), key=lambda place: (shares[place] - exact[place], names[place]))
    for place in order[: total - sum(shares)]:
        shares[place] += 1
    return shares


def drawn(rows: int, take: int, random: Random) -> Iterator[int]:
    """The places of ``take`` of ``rows`` rows, every choice equally likely, in order and without memory.

    Knuth, The Art of Computer Programming, volume 2, algorithm S of section 3.4.2.
    """
    for place in range(rows):
        if take and random.random() * (rows - place) < take:
            take -= 1
            yield place


def _drawn(surveyed: Surveyed, amount: int, seed: int, tell: Tell) -> Iterator[Conversation]:
    """What a part gives, in the order of its file; the copies of a conversation follow it, with ids of their own."""
    whole, rest = divmod(amount, surveyed.rows)
    places = drawn(surveyed.rows, rest, stream(surveyed.part.name, seed))
    extra = next(places, None)
    reading = Reading(surveyed.part, tell)
    for place, line in enumerate(reading):
        copies = whole
        if place == extra:
            copies, extra = whole + 1, next(places, None)
        if copies:
            conversation = line.conversation()
            yield conversation
            for copy in range(2, copies + 1):
                yield replace(conversation, id=f"{conversation.id}*{copy}")
    if reading.sha256 != surveyed.sha256:
        raise DataError(f"{surveyed.part.path} was changed while it was read; repeat the command once it is whole.")


def _check_there(mixture: Mixture, converted: Path) -> None:
    """Name all missing parts at once, and the commands that make them."""
    missing = [part for part in mixture.parts if not part.path.is_file()]
    if not missing:
        return
    names = [part.name for part in missing if part.path.parent == converted]
    known = [*registry.names(), *(file.stem for file in converted.glob("*.jsonl"))]
    for name in names:
        if name not in known:
            raise UnknownName("source or converted dataset", name, known)
    sources = " ".join(names)
    remedy = (
        f"`trainer data fetch {sources} --to raw` and `trainer data convert {sources} --raw raw --to {converted}`"
        " make them."
    )
    raise DataError(f"There is no {', '.join(str(part.path) for part in missing)}. {remedy if names else ''}".rstrip())


def _check_place(mixture: Mixture, to: Path) -> None:
    if to.suffix != ".jsonl":
        raise TrainerError(f"{to} should end in .jsonl; its record will lie beside it in {to.stem}.json.")
    if to.resolve() in [part.path.resolve() for part in mixture.parts]:
        raise TrainerError(f"{to} is a part of the mixture; write the mix to another file.")


def _record(mixture: Mixture, surveyed: Sequence[Surveyed], amounts: Sequence[int], sha256: str, size: int) -> Mixed:
    parts = tuple(
        Taken(
            name=one.part.name,
            file=one.part.path.name,
            sha256=one.sha256,
            asked="all" if one.part.how == "all" else f"{one.part.how} {one.part.amount}",
            there=one.rows,
            taken=amount,
            rejected=one.rejected,
            first_rejected=one.first_rejected,
            limit=_limit(one),
        )
        for one, amount in zip(surveyed, amounts, strict=True)
    )
    return Mixed(
        mixture=mixture.name,
        seed=mixture.seed,
        conversations=sum(amounts),
        bytes=size,
        sha256=sha256,
        parts=parts,
        versions={"trainer": version("trainer"), "python": platform.python_version()},
    )


def _limit(one: Surveyed) -> int | None:
    """Where a dataset was converted only to try it, what its report says of that."""
    try:
        report = json.loads(one.part.path.with_suffix(".report.json").read_bytes())
        return int(report["limit"]) if report["sha256"] == one.sha256 and report["limit"] else None
    except (OSError, ValueError, KeyError, TypeError):
        return None


@contextmanager
def _whole(path: Path, *, outdated: Path | None = None) -> Iterator[BufferedWriter]:
    """A file to write, which comes to its place when all of it is on the disk, and otherwise is deleted.

    ``outdated`` is deleted just before it does.
    """
    draft = path.with_name(f".{path.name}.new")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with draft.open("ab") as file:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)  # given back by the kernel however this ends
            except BlockingIOError:
                raise TrainerError(f"Another process is writing {path}; wait for it or choose another place.") from None
            try:
                file.truncate(0)
                yield file
                file.flush()
                os.fsync(file.fileno())
                if outdated:
                    outdated.unlink(missing_ok=True)
                draft.replace(path)
            except BaseException:
                draft.unlink(missing_ok=True)
                raise
    except OSError as error:
        why = f"{path.parent} is a file" if path.parent.is_file() else error.strerror
        raise TrainerError(f"{path} cannot be written ({why}); make room or choose another --to.") from None
