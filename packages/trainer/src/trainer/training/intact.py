"""Under ZeRO 3 a model is taken apart while it is read: a look at whether the weights are still the checkpoint's.

transformers and DeepSpeed do this together, and versions of the two have trained from random weights without a word.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from trainer.errors import ModelError

if TYPE_CHECKING:
    from torch import Tensor

    from trainer.training.engine import Engine

#: Weights that are compared: the first, the last, and so many in between.
BETWEEN = 6
_INDEX, _FILE = "model.safetensors.index.json", "model.safetensors"


def check(engine: Engine, source: str) -> None:
    """Raise ModelError, on all ranks alike, where weights are not those in the safetensors files of a model's folder.

    Grown embeddings are compared as far as they were, in the precision that they are trained in. Nothing is compared
    where a model has no such files.
    """
    files = stored(Path(source))
    names = [name for name, _ in engine.learner.model.named_parameters() if name in files]
    chosen = {*names[:1], *names[-1:], *names[:: max(1, len(names) // BETWEEN)]}
    parameters = ((name.removeprefix("model."), tensor) for name, tensor in engine.parameters())
    wrong = [name for name, tensor in parameters if name in chosen and _differs(tensor, name, files[name])]
    if engine.sum([len(wrong)])[0]:
        raise ModelError(
            f"{len(wrong)} of {len(chosen)} weights that were looked at ({', '.join(wrong[:3])}) are not those of"
            f" {source}: transformers and DeepSpeed lost them while they were shared out. Set zero = 2, or install the"
            " versions that trainer's constraints name."
        )


def stored(folder: Path) -> Mapping[str, Path]:
    """The file of each weight of a model's folder; empty where there are no safetensors files."""
    if (folder / _INDEX).exists():
        told = json.loads((folder / _INDEX).read_bytes())["weight_map"]
        return {name: folder / file for name, file in told.items()}
    if not (folder / _FILE).exists():
        return {}
    from safetensors import safe_open

    with safe_open(folder / _FILE, "pt") as file:
        return dict.fromkeys(file.keys(), folder / _FILE)


def _differs(tensor: Tensor, name: str, file: Path) -> bool:
    import torch
    from safetensors import safe_open

    with safe_open(file, "pt") as opened:
        wanted = opened.get_tensor(name).to(tensor.dtype)
    return not torch.equal(tensor.detach().to("cpu")[: len(wanted)], wanted)
