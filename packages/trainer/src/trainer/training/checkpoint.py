"""Checkpoints: whole or not there at all, verified, and only the newest few kept.

``out/checkpoints/step-000123`` holds ``checkpoint.json`` and one safetensors file of each rank. It is written as
``step-000123.part``; only when every rank's file is on disk and reads back as it was written does rank 0 add the
manifest and rename the folder, so that what bears the name is whole, whenever a process, all of them or the machine
die. A run's randomness and place in the data are functions of its seed and step and need no state of their own.
"""

from __future__ import annotations

import errno
import json
import os
import re
import shutil
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from trainer.errors import DataError, Interrupted
from trainer.preparation.prepared import digest
from trainer.training import fragments

if TYPE_CHECKING:
    from trainer.training.engine import Engine

#: Raised whenever an older checkpoint could no longer be read.
FORMAT = 1
MANIFEST = "checkpoint.json"
_NAME = re.compile(r"step-(\d{6,})")
#: What the system says where a disk, a quota or a limit of files is met.
_FULL = {os.strerror(number) for number in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)}


@dataclass(frozen=True, slots=True, kw_only=True)
class State:
    """What a run has to know to go on, beside the weights."""

    #: Optimizer steps that are done: the number of the next.
    step: int
    #: Steps that changed the weights; the others were skipped because a gradient was not finite.
    updates: int
    #: The settings that change what is learnt, ``Settings.learnt`` and the model.
    learnt: Mapping[str, Any]
    #: The key of the prepared data.
    data: str
    #: The ranks that wrote it, and what they ran on: told when a run is resumed otherwise.
    world: int
    layout: Mapping[str, Any]
    versions: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class Checkpoint:
    """A checkpoint that is there."""

    folder: Path
    state: State
    #: The size and SHA-256 of each file.
    files: Mapping[str, Mapping[str, Any]] = field(repr=False)

    def problem(self, rank: int = 0, world: int = 1) -> str:
        """What is wrong with the files that this rank of so many is to verify; empty if nothing is."""
        for name, told in sorted(self.files.items())[rank::world]:
            path = self.folder / name
            found = path.stat().st_size if path.exists() else None
            if found != told["bytes"]:
                return f"{path} has {found or 0:,} bytes and not the {told['bytes']:,} that were written"
            if digest(path) != told["sha256"]:
                return f"{path} is not what was written there"
        return ""


def folder(out: Path) -> Path:
    """Where a run keeps its checkpoints."""
    return out / "checkpoints"


def found(out: Path) -> list[Path]:
    """The folders of the whole checkpoints of a run, oldest first."""
    place = folder(out)
    names = [one for one in place.iterdir() if _NAME.fullmatch(one.name)] if place.is_dir() else []
    return sorted(names, key=lambda one: int(one.name.removeprefix("step-")))


def newest(out: Path) -> Checkpoint | None:
    """The newest whole checkpoint of a run, or None."""
    return read(found(out)[-1]) if found(out) else None


def read(path: Path) -> Checkpoint:
    """A checkpoint's manifest; raises DataError where it cannot be read or is of another format."""
    file = path / MANIFEST
    try:
        told = json.loads(file.read_bytes())
        if told["format"] != FORMAT:
            raise DataError(f"{file} has format {told['format']!r}, this version reads {FORMAT}: resume with that one.")
        return Checkpoint(folder=path, state=State(**told["state"]), files=told["files"])
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise DataError(f"{file} cannot be read ({error}): delete {path} to resume from the one before.") from None


def save(engine: Engine, out: Path, state: State, *, keep: int) -> Path:
    """Save a run's state; all ranks call it at the same step, and the folder bears its name when it returns.

    Raises Interrupted on every rank when one of them cannot write: nothing but the unfinished folder is lost.
    """
    place = folder(out) / f"step-{state.step:06d}"
    part = place.with_name(f"{place.name}.part")
    problem = ""
    if engine.rank == 0:
        problem = _attempt(lambda: _clean(part))
    _agree(engine, problem, part)
    problem = _attempt(lambda: _write(engine, part))
    _agree(engine, problem, part)
    if engine.rank == 0:
        problem = _attempt(lambda: _publish(part, place, state, engine.world))
    _agree(engine, problem, part)
    if engine.rank == 0:
        tidy(out, keep)
    return place


def tidy(out: Path, keep: int) -> None:
    """Delete all but the newest ``keep`` checkpoints and what an interrupted save or deletion left."""
    place = folder(out)
    if not place.is_dir():
        return
    for one in found(out)[: -max(1, keep)]:
        _put_away(one)
    for one in place.iterdir():
        if one.name.endswith((".part", ".gone")):
            shutil.rmtree(one, ignore_errors=True)


def set_aside(checkpoint: Checkpoint) -> Path:
    """Rename a damaged checkpoint, so that the one before is the newest; where it is now."""
    aside = checkpoint.folder.with_name(f"{checkpoint.folder.name}.damaged")
    shutil.rmtree(aside, ignore_errors=True)
    checkpoint.folder.rename(aside)
    return aside


def load(engine: Engine, checkpoint: Checkpoint) -> None:
    """Give an engine the weights and optimizer state of a checkpoint, whatever ranks and engine it was written by."""
    fragments.read(engine.fragments(), [checkpoint.folder / name for name in checkpoint.files])
    engine.restored(checkpoint.state.updates)
    engine.barrier()


def _clean(part: Path) -> None:
    shutil.rmtree(part, ignore_errors=True)
    part.mkdir(parents=True)


def _write(engine: Engine, part: Path) -> None:
    """Write this rank's file, read it back, and note what it should be for rank 0."""
    path = part / f"rank-{engine.rank:05d}.safetensors"
    size, sha256 = fragments.write(engine.fragments(), path)
    if digest(path) != sha256:
        raise OSError(errno.EIO, f"what was written to {path} does not read back")
    _note(path.with_suffix(".json"), {"bytes": size, "sha256": sha256})


def _publish(part: Path, place: Path, state: State, world: int) -> None:
    """Write the manifest of what all ranks have written, and rename the folder."""
    files = {}
    for rank in range(world):
        note = part / f"rank-{rank:05d}.json"
        files[f"{note.stem}.safetensors"] = json.loads(note.read_bytes())
        note.unlink()
    _note(part / MANIFEST, {"format": FORMAT, "state": asdict(state), "files": files})
    _sync(part)
    if place.exists():  # of a run that was resumed from an older checkpoint
        _put_away(place)
    part.rename(place)
    _sync(place.parent)


def _put_away(place: Path) -> None:
    """Take a checkpoint's name from it before it is deleted: half of it must not be found under that name."""
    gone = place.with_name(f"{place.name}.gone")
    shutil.rmtree(gone, ignore_errors=True)
    place.rename(gone)


def _note(path: Path, told: Mapping[str, Any]) -> None:
    with path.open("wb") as file:
        file.write(json.dumps(told, indent=1).encode())
        fragments.to_disk(file)


def _sync(path: Path) -> None:
    """See to it that a folder's entries are on disk."""
    number = os.open(path, os.O_RDONLY)
    try:
        os.fsync(number)
    finally:
        os.close(number)


def _attempt(what: Any) -> str:
    """What the system says against doing this; empty if it was done."""
    try:
        what()
    except OSError as error:
        return error.strerror or str(error)
    return ""


def _agree(engine: Engine, problem: str, part: Path) -> None:
    """Raise Interrupted on all ranks if any of them has a problem, so that none waits for the others."""
    if not engine.sum([bool(problem)])[0]:
        return
    if engine.rank == 0:
        shutil.rmtree(part, ignore_errors=True)
    remedy = "See to" if problem and problem not in _FULL else "Make room under"
    raise Interrupted(
        f"The checkpoint {part.with_suffix('').name} could not be saved ({problem or 'on another rank'}); those before"
        f" it are whole. {remedy} {part.parent} and repeat the command to go on."
    )
