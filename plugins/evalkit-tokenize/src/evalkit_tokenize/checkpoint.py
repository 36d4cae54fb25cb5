"""Reads what a checkpoint's files tell without its weights: what it is, where its texts end, how long they may be."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from evalkit.errors import ModelError
from evalkit_tokenize.loading import cannot_load

#: The name that safetensors gives a dtype -> torch's.
DTYPES = {"F32": "float32", "BF16": "bfloat16", "F16": "float16"}

#: How many places of a file of weights, evenly spread, tell it from another of its size, and the bytes at each.
SAMPLES, SAMPLE = 1024, 4096


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """Where a model's texts end."""

    #: The ids that end a text.
    eos: frozenset[int]
    #: The longest prompt and answer together, in tokens; None where the model names no limit.
    context: int | None

    def too_long(self, prompt: int, *, answer: int = 0) -> str:
        """The sentence that says that so many tokens do not fit, or nothing where they do."""
        if self.context is None or prompt + answer <= self.context:
            return ""
        return f"The prompt has {prompt} tokens; the model takes {self.context}."


def limits(config: Any, generation: Any, own: int | None) -> Limits:
    """The limits that a transformers config and generation config name; ``own`` is the tokenizer's end of text.

    All ids of both configs end a text; the tokenizer's does where they name none.
    """
    text = config.get_text_config()
    named = [generation and generation.eos_token_id, getattr(text, "eos_token_id", None)]
    ids = {one for value in named for one in (value if isinstance(value, list) else [value]) if one is not None}
    if not ids and own is not None:
        ids = {own}
    context = getattr(text, "max_position_embeddings", None)
    return Limits(eos=frozenset(ids), context=None if context is None else int(context))


def read_limits(source: str, *, revision: str | None, trust_remote_code: bool, own: int | None) -> Limits:
    """The same from a checkpoint's files; raises ModelError where its config cannot be read."""
    from transformers import AutoConfig, GenerationConfig

    try:
        config = AutoConfig.from_pretrained(source, revision=revision, trust_remote_code=trust_remote_code)
    except Exception as error:  # transformers raises whatever its parsers raise
        raise cannot_load("model", source, error) from error
    try:
        generation = GenerationConfig.from_pretrained(source, revision=revision)
    except OSError:  # few base models have one
        generation = None
    return limits(config, generation, own)


def fingerprint(source: str, revision: str | None, dtype: str) -> dict[str, str]:
    """Hashes of the config and the weights of a folder, or the commit of a hub id, and the dtype to compute in."""
    folder = Path(source)
    if folder.is_dir():
        need_files(folder)
        generation = folder / "generation_config.json"
        marks = {
            "config": _sha256((folder / "config.json").read_bytes()),
            "generation": _sha256(generation.read_bytes() if generation.exists() else b""),
            "weights": _weights_digest(folder),
        }
    else:
        folder = _cached_folder(source, revision)
        marks = {"commit": folder.name, "config": _sha256((folder / "config.json").read_bytes())}
    return {**marks, "dtype": _own_dtype(source, folder) if dtype == "auto" else dtype}


def need_files(folder: Path) -> None:
    """Raise ModelError where a folder is no checkpoint."""
    if not (folder / "config.json").exists():
        raise ModelError(f"{folder} has no config.json: give a folder that save_pretrained wrote, or a hub id.")
    if not _weight_files(folder):
        raise ModelError(f"{folder} has no weights (*.safetensors or *.bin): copy them there or save the model anew.")


def _weight_files(folder: Path) -> list[Path]:
    return sorted(folder.glob("*.safetensors")) or sorted(folder.glob("*.bin"))


def _weights_digest(folder: Path) -> str:
    """A digest of the names, sizes and headers of the weights and of a sample of them; all would take minutes.

    Without the sample two checkpoints of one training run would be one model, and the run of the second would show the
    answers of the first.
    """
    digest = hashlib.sha256()
    for file in _weight_files(folder):
        size = file.stat().st_size
        digest.update(f"{file.name} {size}\n".encode())
        if file.suffix == ".safetensors":
            digest.update(_header(file))
        with file.open("rb") as stream:
            for place in range(SAMPLES):
                stream.seek(size * place // SAMPLES)
                digest.update(stream.read(SAMPLE))
    return digest.hexdigest()


def _header(file: Path) -> bytes:
    """The JSON that a safetensors file begins with, behind its length in 8 bytes."""
    with file.open("rb") as stream:
        # A damaged file may name any length.
        return stream.read(min(int.from_bytes(stream.read(8), "little"), file.stat().st_size))


def _own_dtype(source: str, folder: Path) -> str:
    """The dtype a checkpoint names for itself, or that of its first weight."""
    try:
        config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
        if named := config.get("dtype") or config.get("torch_dtype"):
            return str(named)
        headers = [_header(file) for file in _weight_files(folder)[:1] if file.suffix == ".safetensors"]
        kinds = [DTYPES.get(tensor.get("dtype")) for header in headers for tensor in json.loads(header).values()]
    except (ValueError, AttributeError) as error:
        raise cannot_load("model", source, error) from error
    return next((kind for kind in kinds if kind), "auto")


def _cached_folder(source: str, revision: str | None) -> Path:
    """The folder of a hub model's files, named by their commit."""
    from transformers.utils.hub import cached_file

    try:
        config = cached_file(source, "config.json", revision=revision)
    except Exception as error:  # the hub's client raises errors of several libraries
        raise cannot_load("model", source, error) from error
    return Path(str(config)).parent


def _sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()
