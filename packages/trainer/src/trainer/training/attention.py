"""Documents that share a row never attend to each other, whatever family the model is of.

transformers finds packed documents by their positions in some families (LLaMA, GPT-NeoX) and silently not in others
(OPT), so nothing is left to it: it is given attention functions that are told where documents end, or a whole mask.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal, TypeAlias, get_args

import torch
from torch.nn import functional

from trainer.errors import ModelError, UnknownName

if TYPE_CHECKING:
    from trainer.training.batch import Batch

#: ``documents``: causal attention within each document, one after the other, anywhere. ``varlen``: the same in one
#: FlashAttention call, on CUDA. ``mask``: an explicit mask, quadratic in the row, for any model that heeds masks.
Kind: TypeAlias = Literal["documents", "varlen", "mask"]
KINDS: tuple[Kind, ...] = get_args(Kind)


def choose(name: str, device: torch.device, dtype: torch.dtype) -> Kind:
    """The kind that ``auto`` means on a device, or the one that is named.

    Raises UnknownName, and ModelError where ``varlen`` cannot run.
    """
    flash = device.type == "cuda" and torch.version.hip is None and dtype in {torch.bfloat16, torch.float16}
    if name == "auto":
        return "varlen" if flash else "documents"
    if name not in KINDS:
        raise UnknownName("attention", name, ("auto", *KINDS))
    if name == "varlen" and not flash:
        raise ModelError(
            f"attention = varlen needs bf16 on an NVIDIA GPU (found {dtype} on {device.type}): leave it at auto."
        )
    return name


def install(model: Any, kind: Kind) -> None:
    """Make a transformers model attend in this way; its forward then takes what ``arguments`` gives.

    Raises ModelError for a family that cannot; one that does not heed it is found by `isolation.check`.
    """
    from transformers import AttentionInterface

    # Without a function for masks of the same name transformers makes no mask of its own.
    AttentionInterface.register("trainer_documents", _documents)
    AttentionInterface.register("trainer_varlen", _varlen)
    try:
        model.set_attn_implementation("sdpa" if kind == "mask" else f"trainer_{kind}")
    except ValueError as error:
        raise ModelError(
            f"A {model.config.model_type} cannot attend by {kind}, so its documents cannot share rows: such families"
            " are not supported."
        ) from error


def arguments(batch: Batch, kind: Kind) -> dict[str, Any]:
    """What a model's forward is told about a batch besides ids and positions."""
    if kind == "mask":
        return {"attention_mask": mask(batch)}
    if kind == "documents":
        return {"documents": batch.documents}
    lengths = [length for row in batch.documents for length in row]
    ends = torch.tensor([0, *lengths]).cumsum(0).to(batch.ids.device, torch.int32, non_blocking=True)
    return {"document_ends": ends, "longest_document": max(lengths)}


def mask(batch: Batch) -> torch.Tensor:
    """Whether a position (third axis) attends to another (fourth), bool, shape (rows, 1, width, width)."""
    first = batch.positions == 0
    document = first.cumsum(1)
    same = document[:, :, None] == document[:, None, :]
    return same.tril()[:, None]


def _documents(
    module: Any,
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    attention_mask: torch.Tensor | None,
    *,
    documents: tuple[tuple[int, ...], ...],
    scaling: float | None = None,
    dropout: float = 0.0,
    **others: Any,
) -> tuple[torch.Tensor, None]:
    """Attention for transformers: queries of shape (rows, heads, width, size), out (rows, width, heads, size).

    Causal attention without a mask is the fast kernel everywhere, and costs what the documents do, not the row.
    """
    _refuse(others, max(max(row) for row in documents))
    options = {"scale": scaling, "dropout_p": dropout, "enable_gqa": query.shape[1] != key.shape[1]}
    if all(len(row) == 1 for row in documents):
        whole = functional.scaled_dot_product_attention(query, key, value, is_causal=True, **options)
        return whole.transpose(1, 2), None
    rows = []
    for row, *states in zip(documents, query.split(1), key.split(1), value.split(1), strict=True):
        # split, not slices: their gradients are joined once, where each slice would add a tensor of the whole row.
        pieces = zip(*(one.split(row, dim=2) for one in states), strict=True)
        found = [functional.scaled_dot_product_attention(*piece, is_causal=True, **options) for piece in pieces]
        rows.append(torch.cat([one.transpose(1, 2) for one in found], dim=1))
    return torch.cat(rows), None


def _varlen(
    module: Any,
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    attention_mask: torch.Tensor | None,
    *,
    document_ends: torch.Tensor,
    longest_document: int,
    scaling: float | None = None,
    dropout: float = 0.0,
    **others: Any,
) -> tuple[torch.Tensor, None]:
    """The same in one call of FlashAttention over all rows."""
    from torch.nn.attention.varlen import varlen_attn

    _refuse(others, longest_document)
    if dropout:
        raise ModelError("FlashAttention has no dropout here: set attention_dropout to 0 in config.json, or attention.")
    flat = [one.transpose(1, 2).flatten(0, 1) for one in (query, key, value)]
    ends, longest = document_ends, longest_document
    found = varlen_attn(
        *flat,
        ends,
        ends,
        longest,
        longest,
        scale=scaling,
        window_size=(-1, 0),
        enable_gqa=query.shape[1] != key.shape[1],
    )
    return found.view(query.shape[0], query.shape[2], *found.shape[1:]), None


def _refuse(others: dict[str, Any], longest: int) -> None:
    """Raise ModelError for what a family asks of attention and these functions do not do."""
    window = others.get("sliding_window")
    if window is not None and window < longest:
        raise ModelError(f"This model attends within windows of {window} tokens and a document has {longest}: shorten.")
    for name in ("softcap", "position_bias", "s_aux", "head_mask"):
        if others.get(name) is not None:
            raise ModelError(f"This model's attention has {name}, which `attention = documents` does not: use mask.")
