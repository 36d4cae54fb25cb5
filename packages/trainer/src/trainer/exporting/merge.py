"""Folds LoRA's adapters into the weights that they adapt, one linear layer at a time."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator
from typing import TYPE_CHECKING

from trainer.errors import TrainerError

if TYPE_CHECKING:
    import torch

#: What peft puts around the names of a model.
PREFIX = "base_model.model."
#: The layer and the part of it that a name of peft's means: the weight itself, or one of the two small matrices.
_PART = re.compile(r"(.*)\.(base_layer|lora_A|lora_B)(?:\.\w+)?\.weight")


def merged(
    parameters: Iterable[tuple[str, torch.Tensor]],
    scale: float,
    adapter: Callable[[str, torch.Tensor], None] = lambda *_: None,
) -> Iterator[tuple[str, torch.Tensor]]:
    """The weights of a model trained with peft, by the names that the model has without it.

    An adapted weight is W + scale · B A, computed in float32. ``scale`` is alpha / rank. ``adapter`` is handed the
    small matrices, by the names of peft's files. A layer's three parts should come one behind the other: what has
    come waits for the rest.
    """
    waiting: dict[str, dict[str, torch.Tensor]] = {}
    for name, tensor in parameters:
        found = _PART.fullmatch(name)
        if found is None:
            yield name.removeprefix(PREFIX).replace(".base_layer.", "."), tensor
            continue
        layer, part = found.groups()
        if part != "base_layer":
            adapter(f"{PREFIX}{layer.removeprefix(PREFIX)}.{part}.weight", tensor)
        parts = waiting.setdefault(layer, {})
        parts[part] = tensor
        if len(parts) == 3:
            whole = _merge(waiting.pop(layer), scale)
            del parts, tensor
            yield f"{layer.removeprefix(PREFIX)}.weight", whole
    if waiting:
        raise TrainerError(f"Of the adapted layer {next(iter(waiting))} not all parts are there; export another step.")


def _merge(parts: dict[str, torch.Tensor], scale: float) -> torch.Tensor:
    weight = parts["base_layer"].detach().float()
    return weight + (parts["lora_B"].detach().float() @ parts["lora_A"].detach().float()) * scale
