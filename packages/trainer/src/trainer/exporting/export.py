"""Export: a run's parameters, one at a time, become a checkpoint folder, whole or not at all."""

from __future__ import annotations

import shutil
import sys
from collections.abc import Iterable
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING

from trainer.errors import TrainerError
from trainer.exporting.frame import ADAPTER, Frame
from trainer.exporting.merge import merged
from trainer.exporting.shards import SHARD_BYTES, Shards

if TYPE_CHECKING:
    import torch

#: What a Learner puts before the names of the model that it wraps.
LEARNER = "model."


def export(
    parameters: Iterable[tuple[str, torch.Tensor]],
    frame: Path,
    folder: Path,
    *,
    dtype: str | None = None,
    shard_bytes: int = SHARD_BYTES,
) -> Path:
    """Write a checkpoint folder from a run's frame and its parameters, by the names that a Learner gives them.

    Adapters are merged, and stand in ``adapter/`` besides, as peft reads them. At no time is more than one parameter
    held, or one adapted layer. A folder that is there is replaced once the new one is whole. ``dtype`` is the frame's
    unless given. Raises TrainerError where weights are missing or the disk is full.
    """
    opened = Frame.open(frame)
    folder.parent.mkdir(parents=True, exist_ok=True)
    draft = folder.with_name(f"{folder.name}.part")
    shutil.rmtree(draft, ignore_errors=True)
    try:
        _fill(draft, opened, parameters, dtype or opened.dtype, shard_bytes)
        _replace(folder, draft)
    except OSError as error:
        raise TrainerError(
            f"{folder} could not be written ({error.strerror}); nothing is lost: make room, and export again."
        ) from error
    finally:
        shutil.rmtree(draft, ignore_errors=True)
    return folder


def _fill(
    draft: Path, frame: Frame, parameters: Iterable[tuple[str, torch.Tensor]], dtype: str, shard_bytes: int
) -> None:
    frame.copy(draft, dtype)
    with ExitStack() as stack:
        weights = stack.enter_context(Shards(draft, frame.shapes, dtype, limit=shard_bytes))
        parameters = ((name.removeprefix(LEARNER), tensor) for name, tensor in parameters)
        if frame.adapter:
            shutil.copytree(frame.folder / ADAPTER, draft / ADAPTER)
            adapter = Shards(draft / ADAPTER, frame.adapter, "float32", limit=sys.maxsize, stem="adapter_model")
            parameters = merged(parameters, frame.scale, stack.enter_context(adapter).put)
        for name, tensor in parameters:
            weights.put(frame.names.get(name, name), tensor)


def _replace(folder: Path, draft: Path) -> None:
    before = folder.with_name(f"{folder.name}.old")
    shutil.rmtree(before, ignore_errors=True)
    if folder.exists():
        folder.rename(before)
    draft.rename(folder)
    shutil.rmtree(before, ignore_errors=True)
