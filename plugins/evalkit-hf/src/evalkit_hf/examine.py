"""What a dry run says of a checkpoint that transformers is to run: its files, its device, the memory it needs."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import evalkit_tokenize
from evalkit.doctor import amount
from evalkit.types import Finding
from evalkit_tokenize import examine, memory

#: What transformers looks for in a model of the hub, the first that is there.
WEIGHTS = ("model.safetensors", "model.safetensors.index.json", "pytorch_model.bin", "pytorch_model.bin.index.json")


@dataclass(frozen=True, slots=True, kw_only=True)
class Wanted:
    """The options of the backend that say what is loaded and where to."""

    source: str
    device: str
    device_map: str | None
    batch_size: int | Literal["auto"]
    revision: str | None
    trust_remote_code: bool


def findings(
    wanted: Wanted, *, dtype: str, tokenizer: evalkit_tokenize.CheckpointTokenizer, tokens: int
) -> Iterator[Finding]:
    """What may go wrong when the weights are loaded and texts of at most so many tokens are read and written.

    ``dtype`` is the type to compute in, by torch's name.
    """
    if tokenizer.has_chat_template:
        yield from examine.template_findings(tokenizer)
    faults = list(_device(wanted.device))
    folder: Path | None = Path(wanted.source)
    if folder and folder.is_dir():
        faults += examine.weight_findings(folder)
    elif (folder := _cached(wanted)) is None:
        yield Finding(
            level="note",
            text=f"The weights of {wanted.source} are not on this machine: the run begins with their download.",
        )
        return
    yield from faults
    if not faults:
        shape = memory.read_shape(wanted.source, revision=wanted.revision, trust_remote_code=wanted.trust_remote_code)
        weights = memory.weights(folder, dtype=dtype)
        yield from _memory(wanted, weights, shape, dtype=dtype, tokens=tokens)


def _memory(wanted: Wanted, weights: int, shape: memory.Shape | None, *, dtype: str, tokens: int) -> Iterator[Finding]:
    """Compare weights, and a batch's keys, values and logits, with the memory that is free."""
    place, free, rows = _place(wanted)
    if free is None:
        return
    if weights > free:
        yield Finding(
            level="error",
            text=f"The weights take {amount(weights)} as {dtype}, and {amount(free)} of {place} are free.",
            remedy="Free some, load them as -M dtype=bfloat16, or spread them with -M device_map=auto."
            if dtype == "float32"
            else "Free some, or spread them over more devices with -M device_map=auto.",
        )
        return
    if shape is None or not tokens:
        return
    one = shape.cache(tokens, dtype=dtype) + shape.logits(1)
    fit = (free - weights) // one
    if fit < 1:
        yield Finding(
            level="warning",
            text=f"The longest prompt with its answer ({tokens:,} tokens) takes {amount(one)} beside the weights' "
            f"{amount(weights)}, and {amount(free)} of {place} are free: it may fail.",
            remedy="Free some, or show fewer solved examples (--shots).",
        )
    elif fit < rows:
        yield Finding(
            level="note",
            text=f"A batch of {rows} of the longest prompts takes {amount(rows * one)} beside the weights' "
            f"{amount(weights)}, and {amount(free)} of {place} are free: batches are halved when memory runs out.",
            remedy=f"Begin with --batch-size {fit} to spare the run that.",
        )


def _place(wanted: Wanted) -> tuple[str, int | None, int]:
    """What memory the model goes to, how much of it is free, and how many texts a batch begins with."""
    import torch

    cuda = torch.cuda.is_available()
    if wanted.device_map is not None and cuda:
        free = sum(torch.cuda.mem_get_info(number)[0] for number in range(torch.cuda.device_count()))
        return "the memory of GPUs and machine", free + (memory.free_memory() or 0), _rows(wanted, 32)
    if cuda and (wanted.device == "auto" or wanted.device.startswith("cuda")):
        number = int(wanted.device.partition(":")[2] or 0)
        return "the GPU's memory", torch.cuda.mem_get_info(number)[0], _rows(wanted, 32)
    if wanted.device == "cpu" or (wanted.device == "auto" and not torch.accelerator.is_available()):
        return "the machine's memory", memory.free_memory(), _rows(wanted, 8)
    return "", None, 0


def _rows(wanted: Wanted, automatic: int) -> int:
    return automatic if wanted.batch_size == "auto" else wanted.batch_size


def _device(name: str) -> Iterator[Finding]:
    """An error for a GPU that torch does not see."""
    import torch

    kind, _, number = name.partition(":")
    seen = torch.cuda.device_count() if torch.cuda.is_available() else 0
    there = int(number) < seen if number.isdigit() else seen > 0 and not number
    if kind == "cuda" and not there:
        yield Finding(
            level="error",
            text=f"device={name}: torch {torch.__version__} sees {seen or 'no'} GPU{'s' * (seen > 1)}.",
            remedy="Install the torch that fits the driver (nvidia-smi), or leave -M device out.",
        )


def _cached(wanted: Wanted) -> Path | None:
    """The folder in the hub's local cache, where the weights are there."""
    from transformers.utils.hub import cached_file

    for name in WEIGHTS:
        path = cached_file(
            wanted.source,
            name,
            revision=wanted.revision,
            local_files_only=True,
            _raise_exceptions_for_missing_entries=False,
            _raise_exceptions_for_connection_errors=False,
        )
        if path is not None:
            return Path(path).parent
    return None
