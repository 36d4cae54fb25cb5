"""One micro-step of one rank as tensors: its documents one behind the other, and what is to be predicted of them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Self

import numpy as np
import torch

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from trainer.planning.plan import Micro, Step
    from trainer.preparation.prepared import Prepared


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Batch:
    """What a model reads at once. Every position belongs to a document; a row's padding is one, too."""

    #: Token ids, int64, shape (rows, width).
    ids: torch.Tensor
    #: The place of each token in its document, int64, shape (rows, width).
    positions: torch.Tensor
    #: The lengths of each row's documents, in order; they add up to the width.
    documents: tuple[tuple[int, ...], ...]
    #: The flat positions whose next token is learnt, int64, shape (targets,), rising.
    places: torch.Tensor
    #: Those next tokens, int64, shape (targets,).
    targets: torch.Tensor
    #: What the cross entropy of each weighs in the step's loss, float32, shape (targets,); 0 in a dummy.
    weights: torch.Tensor
    #: The place of each one's dataset among the names of the prepared folder, int64, shape (targets,).
    datasets: torch.Tensor
    #: The targets that the rank with the most has at this micro-step: all cut the head's work into equally many pieces.
    most: int

    def to(self, device: Any) -> Self:
        """The batch with its tensors on a device."""
        tensors = ("ids", "positions", "places", "targets", "weights", "datasets")
        return replace(self, **{name: getattr(self, name).to(device, non_blocking=True) for name in tensors})


def read(
    step: Step, rank: int, prepared: Prepared, counts: NDArray[np.int64], weights: Mapping[int, float]
) -> Iterator[Batch]:
    """The micro-steps of a rank in an optimizer step, as many as every other rank has.

    ``counts`` are the targets of all examples of the folder (``weights.targets``), ``weights`` those of the step's
    examples (``weights.weigh``).
    """
    for micros in zip(*step.ranks, strict=True):
        most = max(int(counts[micro.ids].sum()) for micro in micros)
        yield make(micros[rank], prepared, weights, most=most)


def make(micro: Micro, prepared: Prepared, weights: Mapping[int, float], *, most: int = 0) -> Batch:
    """The tensors of a micro-step; without rows or targets, a dummy of weight 0 that runs the same collectives."""
    pieces: list[_Piece] = []
    documents = []
    for row in micro.rows or ((),):
        pieces += (found := [_document(prepared, index, weights[index]) for index in row])
        lengths = [len(one.ids) for one in found]
        if gap := (micro.width or 1) - sum(lengths):
            pieces.append(_padding(gap))
            lengths.append(gap)
        documents.append(tuple(lengths))
    ids = np.concatenate([one.ids for one in pieces], dtype=np.int64)
    sizes = [len(one.ids) for one in pieces]
    starts = np.repeat(np.cumsum(sizes) - sizes, sizes)
    # The first token of a document is predicted by nothing.
    learnt = np.concatenate([one.learnt for one in pieces]) & (starts != np.arange(len(ids)))
    next_ = np.flatnonzero(learnt)
    of = np.repeat(np.arange(len(pieces)), sizes)[next_]
    places, weight, dataset = next_ - 1, [one.weight for one in pieces], [one.dataset for one in pieces]
    if not len(next_):
        next_ = places = of = np.zeros(1, np.int64)
        weight, dataset = [0.0], [0]
    shape = (len(documents), -1)
    return Batch(
        ids=torch.from_numpy(ids).view(shape),
        positions=torch.from_numpy(np.arange(len(ids)) - starts).view(shape),
        documents=tuple(documents),
        places=torch.from_numpy(places),
        targets=torch.from_numpy(ids[next_]),
        weights=torch.from_numpy(np.asarray(weight, np.float32)[of]),
        datasets=torch.from_numpy(np.asarray(dataset, np.int64)[of]),
        most=max(most, len(next_)),
    )


@dataclass(frozen=True, slots=True)
class _Piece:
    """A document of a row: its ids and which are learnt, both of shape (tokens,)."""

    ids: NDArray[Any]
    learnt: NDArray[np.bool_]
    weight: float
    dataset: int


def _document(prepared: Prepared, index: int, weight: float) -> _Piece:
    rendered = prepared[index]
    return _Piece(rendered.ids, rendered.supervised, weight, int(prepared.datasets[index]))


def _padding(size: int) -> _Piece:
    return _Piece(np.zeros(size, np.int64), np.zeros(size, np.bool_), 0.0, 0)
