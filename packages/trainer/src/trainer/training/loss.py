"""Cross entropy where something is to be predicted, and only there, in pieces that fit a budget of bytes."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch.utils.checkpoint import checkpoint

#: From hidden states, shape (positions, size), to logits, shape (positions, vocabulary).
Head = Callable[[torch.Tensor], torch.Tensor]

#: Logits, in float32, that are worked on at once: so many bytes stay in a processor's cache, and keep a GPU busy.
SLICE = {"cpu": 1 << 22, "cuda": 1 << 26}


def pieces(most: int, row: int, budget: int) -> int:
    """In how many pieces to compute ``most`` positions of ``row`` bytes of logits each, for a budget of bytes.

    ``most`` is that of the rank with the most: with ZeRO-3 each piece gathers the head's weights on all ranks.
    """
    return max(1, -(-most * row // budget))


def cross_entropy(head: Head, hidden: torch.Tensor, targets: torch.Tensor, count: int = 1) -> torch.Tensor:
    """The cross entropy of each target, float32, shape (targets,); ``hidden`` has the shape (targets, size).

    In more pieces than one, each one's logits are forgotten and computed again by the backward pass. That can run
    once only: it writes their gradient over the logits.
    """
    if count == 1:
        return _piece(head, hidden, targets)
    both = zip(hidden.tensor_split(count), targets.tensor_split(count), strict=True)
    return torch.cat([checkpoint(_piece, head, *one, use_reentrant=False) for one in both])


def _piece(head: Head, hidden: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
    found: torch.Tensor = _CrossEntropy.apply(head(hidden), targets)
    return found


class _CrossEntropy(torch.autograd.Function):  # type: ignore[misc]  # mypy knows no torch
    """In float32 also for logits in bf16, and with no second copy of them.

    torch's own keeps logits, their copy in float32, its log-softmax and its gradient: up to seven times the bytes.
    """

    @staticmethod
    def forward(ctx: Any, logits: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
        """The cross entropy of each row, float32."""
        norms = torch.empty(len(logits), dtype=torch.float32, device=logits.device)
        for part in _slices(logits):
            norms[part] = torch.logsumexp(logits[part].float(), 1)
        ctx.save_for_backward(logits, targets, norms)
        return norms - logits.gather(1, targets[:, None])[:, 0].float()

    @staticmethod
    def backward(ctx: Any, upstream: torch.Tensor) -> tuple[torch.Tensor, None]:
        """What the model gave the words, less 1 at the right one, written over the logits."""
        logits, targets, norms = ctx.saved_tensors
        for part in _slices(logits):
            change = logits[part].float()
            change.sub_(norms[part, None]).exp_()
            change.scatter_add_(1, targets[part, None], change.new_full((len(change), 1), -1.0))
            change.mul_(upstream[part, None])
            if logits.dtype != torch.float32:  # else it is a view of them
                logits[part] = change
        return logits, None


def _slices(logits: torch.Tensor) -> Iterator[slice]:
    rows = max(1, SLICE.get(logits.device.type, SLICE["cuda"]) // (4 * logits.shape[1]))
    return (slice(start, start + rows) for start in range(0, len(logits), rows))
