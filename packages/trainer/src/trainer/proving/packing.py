"""Proof that documents which share rows teach what they teach apart and padded, by transformers' own code."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import torch
from torch.nn import functional

from trainer.planning.plan import Micro
from trainer.proving.claim import Claim
from trainer.proving.gradients import BOUND, Trial
from trainer.rendering.rendered import IGNORED
from trainer.training import isolation

if TYPE_CHECKING:
    from collections.abc import Iterator

    from numpy.typing import NDArray

    from trainer.training.attention import Kind
    from trainer.training.settings import Settings

#: Documents that are packed into one row, and rows of padded documents that transformers is given at once.
EXAMPLES, PADDED = 8, 2


def prove(settings: Settings, *, examples: int = EXAMPLES) -> Iterator[Claim]:
    """Compare, in fp32 and without dropout, one row of documents with the same in padded rows, for each attention.

    FlashAttention takes no fp32; with it, on a GPU, documents are only shown not to see each other.
    """
    kinds: tuple[Kind, ...] = ("documents", "mask")
    for kind in kinds:
        yield from _of(Trial.open(settings, examples, kind), kind)


def _of(trial: Trial, kind: Kind) -> Iterator[Claim]:
    seen = isolation.look(trial.learner, trial.device)
    yield Claim(text=f"attention = {kind}: what another document's words change", found=seen.leak, bound=0)
    ids = trial.examples.ids(0, 0).tolist()
    lengths = trial.prepared.lengths[ids]
    loss = trial.run([Micro(rows=(tuple(ids),), width=int(lengths.sum()))])
    largest = trial.largest()
    trial.learner.model.set_attn_implementation("eager")
    padded = sum(_padded(trial, ids[start : start + PADDED]) for start in range(0, len(ids), PADDED))
    what = f"attention = {kind}: {len(ids)} documents in one row and padded"
    yield Claim(text=f"{what}, loss, relative", found=abs(loss - padded) / abs(padded), bound=BOUND)
    yield Claim(text=f"{what}, gradient, relative to its largest entry", found=trial.largest() / largest, bound=BOUND)


def _padded(trial: Trial, ids: list[int]) -> float:
    """The loss of documents in rows of their own, straight from transformers; takes its gradient off what there is."""
    rows = [trial.prepared[index] for index in ids]
    width = max(len(row.ids) for row in rows)
    tokens, labels, mask = (
        torch.from_numpy(np.stack([_fill(values, width, fill) for values in columns])).to(trial.device)
        for columns, fill in (
            ([row.ids for row in rows], 0),
            ([row.labels for row in rows], IGNORED),
            ([np.ones_like(row.ids) for row in rows], 0),
        )
    )
    logits = trial.learner.model(input_ids=tokens, attention_mask=mask, use_cache=False).logits[:, :-1]
    weights = torch.tensor([trial.weights[index] for index in ids], device=trial.device)
    # In double: of 49,152 words torch's log-softmax keeps five digits in float32, and over another axis four.
    each = functional.cross_entropy(
        logits.flatten(0, 1).double(), labels[:, 1:].flatten(), ignore_index=IGNORED, reduction="none"
    )
    loss = (each.view(len(ids), -1).sum(1) * weights).sum()
    (-loss).backward()
    return float(loss.detach())


def _fill(values: NDArray[np.int32], width: int, fill: int) -> NDArray[np.int64]:
    return np.pad(values.astype(np.int64), (0, width - len(values)), constant_values=fill)
