"""What a run folder takes of a disk."""

from __future__ import annotations

import shutil
from pathlib import Path

from trainer.training.settings import Settings


def checkpoint(trained: int) -> int:
    """Bytes of a checkpoint with so many tuned parameters: each in 32 bits, with AdamW's two means."""
    return 12 * trained


def model(parameters: int, settings: Settings) -> int:
    """Bytes of the model that is exported in the end."""
    return parameters * (2 if settings.precision == "bf16" else 4)


def run(settings: Settings, *, parameters: int, trained: int, steps: int, epoch: int) -> int:
    """Bytes of the run folder at most: the kept checkpoints, the one being written, and the model.

    ``steps`` are those of the run, ``epoch`` those of an epoch.
    """
    saved = -(-steps // (settings.save_every or epoch))
    return checkpoint(trained) * min(settings.keep + 1, saved) + model(parameters, settings)


def shortage(folder: Path, needed: int) -> str:
    """A sentence where a run folder's disk has no room for what it lacks of so many bytes; empty if it has."""
    there = sum(file.stat().st_size for file in folder.rglob("*") if file.is_file())
    free = shutil.disk_usage(folder).free
    if needed - there <= free:
        return ""
    return (
        f"{folder} will grow by up to {(needed - there) / 1e9:.1f} GB and its disk has {free / 1e9:.1f} GB free: make"
        " room, or the run stops where it is full."
    )
