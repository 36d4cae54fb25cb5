"""A look at a loaded model, before any step: its documents do not see each other, and its head is all of its end."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch

from trainer.errors import ModelError
from trainer.training.batch import Batch

if TYPE_CHECKING:
    from trainer.training.learner import Learner

#: How far two ways to the same hidden states may lie apart, relative to the largest, where a number has 24 or 8 bits.
TOLERANCE = {torch.float32: 1e-4, torch.bfloat16: 6e-2}


@dataclass(frozen=True, slots=True, kw_only=True)
class Look:
    """What was seen, each relative to the largest number that it is about."""

    #: The largest change that another document's words make to hidden states. It is 0, not little: what is masked is
    #: multiplied by 0, and all shapes stay as they are.
    leak: float
    #: The largest difference between a document's hidden states behind another and alone.
    company: float
    #: The largest difference between the model's own logits and those of its head.
    head: float


def look(learner: Learner, device: Any) -> Look:
    """Eight short forward passes, without dropout; with ZeRO-3 all ranks run them."""
    was_training = learner.training
    learner.eval()
    try:
        with torch.no_grad():
            return Look(leak=_leak(learner, device), company=_company(learner, device), head=_head(learner, device))
    finally:
        learner.train(was_training)


def check(learner: Learner, device: Any) -> Look:
    """A look; raises ModelError where this model would learn one document from another, or not its own logits."""
    family, tolerance = learner.model.config.model_type, TOLERANCE[learner.model.dtype]
    try:
        seen = look(learner, device)
    except torch.OutOfMemoryError:
        raise
    except (TypeError, ValueError, RuntimeError) as error:  # from a forward that takes no positions, or other masks
        raise ModelError(
            f"A {family} cannot be read with documents in one row ({type(error).__name__}:"
            f" {' '.join(str(error).split())[:200]}): such families are not supported."
        ) from error
    if seen.leak or not seen.company <= tolerance:
        raise ModelError(
            f"Documents of one row are not kept apart in this {family} (another's words change {seen.leak:.1e} of the"
            f" hidden states, its company {seen.company:.1e}): set attention = mask; if it is, this family cannot be"
            " trained."
        )
    if not seen.head <= tolerance:
        raise ModelError(
            f"The logits of this {family} are {seen.head:.1e} from what its head gives, scaled or capped perhaps: such"
            " families are not supported."
        )
    return seen


def _leak(learner: Learner, device: Any) -> float:
    first, other, second = _ids(learner, 7, 3), _ids(learner, 7, 11), _ids(learner, 5, 23)
    before, after = (learner.hidden(_batch((one, second), device))[0] for one in (first, other))
    later, earlier = (learner.hidden(_batch((second, one), device))[0] for one in (first, other))
    change = torch.cat([before[7:] - after[7:], later[:5] - earlier[:5]])
    return float(change.abs().max() / before.abs().max())


def _company(learner: Learner, device: Any) -> float:
    first, second = _ids(learner, 7, 3), _ids(learner, 5, 23)
    beside = learner.hidden(_batch((first, second), device))[0, 7:]
    alone = learner.hidden(_batch((second,), device))[0]
    return float((beside - alone).abs().max() / alone.abs().max())


def _head(learner: Learner, device: Any) -> float:
    batch = _batch((_ids(learner, 7, 3),), device)
    ours = learner.model.get_output_embeddings()(learner.hidden(batch)).float()
    theirs = learner.logits(batch).float()
    return float((ours - theirs).abs().max() / ours.abs().max())


def _ids(learner: Learner, count: int, start: int) -> torch.Tensor:
    """Ids that any vocabulary has, and that differ between starts."""
    return (torch.arange(count) * 29 + start) % min(learner.model.config.vocab_size, 400)


def _batch(documents: tuple[torch.Tensor, ...], device: Any) -> Batch:
    """One row of these documents, with nothing to predict."""
    none = torch.zeros(0, dtype=torch.int64)
    batch = Batch(
        ids=torch.cat(documents)[None],
        positions=torch.cat([torch.arange(len(one)) for one in documents])[None],
        documents=(tuple(map(len, documents)),),
        places=none,
        targets=none,
        weights=none.float(),
        datasets=none,
        most=0,
    )
    return batch.to(device)
