"""Cross entropy where something is to be predicted, and only there, in pieces that fit a budget of bytes."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch.nn import functional
from torch.utils.checkpoint import checkpoint

#: From hidden states, shape (positions, size), to logits, shape (positions, vocabulary).
Head = Callable[[torch.Tensor], torch.Tensor]

#: A position's logits in float32, their log-softmax and its gradient, for each entry of the vocabulary.
BYTES = 12


def pieces(most: int, vocabulary: int, budget: int) -> int:
    """In how many pieces to compute ``most`` positions so that the logits of each take at most ``budget`` bytes.

    ``most`` is that of the rank with the most: with ZeRO-3 each piece gathers the head's weights on all ranks.
    """
    return max(1, -(-most * vocabulary * BYTES // budget))


def cross_entropy(head: Head, hidden: torch.Tensor, targets: torch.Tensor, count: int = 1) -> torch.Tensor:
    """The cross entropy of each target, float32, shape (targets,); ``hidden`` has the shape (targets, size).

    In more pieces than one, each one's logits are forgotten and computed again by the backward pass.
    """
    if count == 1:
        return _piece(head, hidden, targets)
    found = [
        checkpoint(_piece, head, *one, use_reentrant=False)
        for one in zip(hidden.tensor_split(count), targets.tensor_split(count), strict=True)
    ]
    return torch.cat(found)


def _piece(head: Head, hidden: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
    # In float32 also where the head computes in bf16, whose sums over a vocabulary keep three digits.
    return functional.cross_entropy(head(hidden).float(), targets, reduction="none")
