"""How much memory a checkpoint takes, reckoned from its config and the headers of its weights, and how much is free."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from evalkit.errors import ModelError
from evalkit_tokenize.loading import cannot_load

#: Bytes of a number, by torch's name of its type.
BYTES = {"float64": 8, "float32": 4, "bfloat16": 2, "float16": 2, "float8_e4m3fn": 1, "float8_e5m2": 1}
#: The types of safetensors that are converted when a model is loaded in another type; all others stay as they are.
FLOATS = {"F64": 8, "F32": 4, "BF16": 2, "F16": 2}
#: Bytes of the other types of safetensors; 1 of those that are not here.
OTHERS = {"I64": 8, "U64": 8, "I32": 4, "U32": 4, "I16": 2, "U16": 2}


@dataclass(frozen=True, slots=True, kw_only=True)
class Shape:
    """What of a transformer's config says how much memory its answers take."""

    layers: int
    kv_heads: int
    #: Numbers in a head's key.
    head_size: int
    vocabulary: int

    def cache(self, tokens: int, *, dtype: str) -> int:
        """Bytes of the keys and values of one text of so many tokens.

        An upper bound where a model's layers look back less far than to the beginning, or share what they keep.
        """
        return 2 * self.layers * self.kv_heads * self.head_size * tokens * BYTES.get(dtype, 2)

    def logits(self, rows: int) -> int:
        """Bytes of the last logits of so many texts, in float32."""
        return rows * self.vocabulary * 4


def shape(config: Mapping[str, Any]) -> Shape | None:
    """The shape that a ``config.json`` names, by the names of the usual architectures; None where it does not say."""
    text = config.get("text_config") or config
    layers = _first(text, "num_hidden_layers", "n_layer", "n_layers", "num_layers")
    hidden = _first(text, "hidden_size", "n_embd", "d_model")
    heads = _first(text, "num_attention_heads", "n_head", "n_heads", "num_heads")
    if not (layers and hidden and heads):
        return None
    return Shape(
        layers=layers,
        kv_heads=_first(text, "num_key_value_heads", "num_kv_heads") or heads,
        head_size=_first(text, "head_dim") or hidden // heads,
        vocabulary=_first(text, "vocab_size") or 0,
    )


def read_shape(source: str, *, revision: str | None, trust_remote_code: bool) -> Shape | None:
    """The shape of a checkpoint folder or hub id, with what its architecture takes for granted."""
    from transformers import AutoConfig

    try:
        config = AutoConfig.from_pretrained(source, revision=revision, trust_remote_code=trust_remote_code)
    except Exception as error:  # transformers raises whatever its parsers raise
        raise cannot_load("model", source, error) from error
    return shape(config.get_text_config().to_dict())


def weights(folder: Path, *, dtype: str) -> int:
    """Bytes of a folder's weights once they are loaded in a type; of ``.bin`` files the bytes that they have.

    Raises ModelError for a header that cannot be read.
    """
    if not (files := sorted(folder.glob("*.safetensors"))):
        return sum(file.stat().st_size for file in folder.glob("*.bin"))
    return sum(_loaded(tensor, dtype) for file in files for tensor in header(file).values())


def header(file: Path) -> dict[str, Any]:
    """The tensors of a safetensors file: name -> ``dtype``, ``shape``, ``data_offsets``; raises ModelError."""
    try:
        with file.open("rb") as stream:
            length = int.from_bytes(stream.read(8), "little")
            found = json.loads(stream.read(min(length, file.stat().st_size)))
        return {name: tensor for name, tensor in found.items() if name != "__metadata__"}
    except (OSError, ValueError, AttributeError):
        raise ModelError(f"{file} is no safetensors file, or a damaged one: copy it there anew.") from None


def free_memory() -> int | None:
    """Bytes of the machine's memory that are free for a process, by the system and by its container; Linux only."""
    try:
        lines = dict(line.split(":", 1) for line in Path("/proc/meminfo").read_text(encoding="ascii").splitlines())
        free = int(lines["MemAvailable"].split()[0]) * 1024
    except (OSError, ValueError, KeyError):
        return None
    try:
        most = int(Path("/sys/fs/cgroup/memory.max").read_text(encoding="ascii"))
        used = int(Path("/sys/fs/cgroup/memory.current").read_text(encoding="ascii"))
    except (OSError, ValueError):  # no container, or none with a limit ("max")
        return free
    return min(free, max(most - used, 0))


def _loaded(tensor: Mapping[str, Any], dtype: str) -> int:
    own = str(tensor["dtype"])
    each = BYTES.get(dtype, FLOATS[own]) if own in FLOATS else OTHERS.get(own, 1)
    return each * math.prod(map(int, tensor["shape"]))


def _first(config: Mapping[str, Any], *names: str) -> int:
    values = [config.get(name) for name in names]
    return next((value for value in values if isinstance(value, int)), 0)
