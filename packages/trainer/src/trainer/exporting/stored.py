"""Reads the parameters of a run out of one of its checkpoints, on the CPU and one at a time."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from trainer.errors import DataError
from trainer.exporting.export import LEARNER
from trainer.exporting.frame import Frame
from trainer.exporting.merge import PREFIX
from trainer.training import checkpoint
from trainer.training.checkpoint import Checkpoint
from trainer.training.fragments import KINDS

if TYPE_CHECKING:
    import torch


def find(run: Path, step: int | None = None) -> Checkpoint:
    """The checkpoint of a run behind this step, or the newest, its files verified.

    Raises DataError where there is none, naming the steps that there are, or where it is damaged.
    """
    there = {str(int(one.name.removeprefix("step-"))): one for one in checkpoint.found(run)}
    if not there:
        raise DataError(f"{run} holds no checkpoint: give the folder that a recipe names `out`.")
    if step is not None and str(step) not in there:
        raise DataError(f"{run} holds no checkpoint of step {step}; there are {', '.join(there)}.")
    found = checkpoint.read(list(there.values())[-1] if step is None else there[str(step)])
    if problem := found.problem():
        raise DataError(f"{problem}: export another step with --step; there are {', '.join(there)}.")
    return found


def parameters(found: Checkpoint, frame: Frame, dtype: str) -> Iterator[tuple[str, torch.Tensor]]:
    """The parameters that a checkpoint holds, by the names that a Learner gives them, in ``dtype``.

    Where adapters were trained, the checkpoint holds them alone. The weights that they adapt are then read from the
    model that the run started from, which is held whole.
    """
    with ExitStack() as stack:
        pieces = _pieces(stack, [found.folder / name for name in sorted(found.files)])
        if not frame.adapter:
            inside = {called: name for name, called in frame.names.items()}
            for called, shape in frame.shapes.items():
                name = LEARNER + inside.get(called, called)
                if name in pieces:  # else the export says which are missing
                    yield name, _whole(pieces[name], shape, dtype)
            return
        shapes = _adapters(frame)
        for name, weight in _base(found, frame, dtype):
            layer = name.removesuffix(".weight")
            parts = [f"{LEARNER}{layer}.lora_{one}.default.weight" for one in "AB"]
            yield (f"{LEARNER}{layer}.base_layer.weight" if parts[0] in pieces else LEARNER + name), weight
            for part in parts:
                if part in pieces:
                    yield part, _whole(pieces[part], shapes[part], dtype)


class _Piece(NamedTuple):
    """A stretch of a flattened parameter: where it begins in it, the open file, and its key there."""

    start: int
    file: Any
    key: str


def _pieces(stack: ExitStack, paths: Sequence[Path]) -> Mapping[str, list[_Piece]]:
    """The stretches of each parameter, in order; the files are mapped into memory and not read."""
    from safetensors import safe_open

    found: dict[str, list[_Piece]] = {}
    for path in paths:
        file = stack.enter_context(safe_open(path, "pt"))
        for key in file.keys():  # noqa: SIM118  (no mapping)
            kind, start, name = key.split(":", 2)
            if kind == KINDS[0]:
                found.setdefault(name, []).append(_Piece(int(start), file, key))
    return {name: sorted(pieces, key=lambda one: one.start) for name, pieces in found.items()}


def _whole(pieces: Sequence[_Piece], shape: tuple[int, ...], dtype: str) -> torch.Tensor:
    import torch

    whole = torch.empty(shape, dtype=getattr(torch, dtype))
    flat, filled = whole.view(-1), 0
    for one in pieces:
        part = one.file.get_tensor(one.key)
        if one.start != filled or filled + len(part) > len(flat):
            break
        flat[filled : filled + len(part)] = part
        filled += len(part)
    if filled != len(flat):
        raise DataError(
            f"The checkpoint does not hold all of {pieces[0].key.split(':', 2)[2]}, whose shape is {shape}: it and the"
            " run's frame do not belong together."
        )
    return whole


def _adapters(frame: Frame) -> Mapping[str, tuple[int, ...]]:
    """The shapes of the adapter's matrices by the names that a Learner gives them."""
    return {
        LEARNER + name.removeprefix(PREFIX).removesuffix(".weight") + ".default.weight": shape
        for name, shape in frame.adapter.items()
    }


def _base(found: Checkpoint, frame: Frame, dtype: str) -> Iterator[tuple[str, torch.Tensor]]:
    import torch

    from trainer.training import model

    loaded = model.load(found.state.learnt["model"], getattr(torch, dtype), rows=frame.vocabulary)
    yield from ((name, one.detach()) for name, one in loaded.named_parameters())
