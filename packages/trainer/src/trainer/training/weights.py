"""What a target's cross entropy weighs in an optimizer step: a pure function of the step, whoever computes which part.

Every reduction is a weight per example, the same for all its targets, so that the loss of a step is one sum over all
examples, micro-steps and ranks, and no number has to be sent around to form it.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Literal, TypeAlias, get_args

from trainer.errors import TrainerError, UnknownName

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from trainer.preparation.prepared import Prepared

#: ``token``: the mean over the step's targets. ``example``: the mean over its examples of the mean over their targets.
#: ``tulu1``: the mean over padded micro-batches of the mean over their targets, as the code of 2023 took it.
Reduction: TypeAlias = Literal["token", "example", "tulu1"]
REDUCTIONS: tuple[Reduction, ...] = get_args(Reduction)


def targets(prepared: Prepared) -> NDArray[np.int64]:
    """How many targets each example has, shape (examples,).

    A target is a learnt token that something predicts: not the first of its example. An example may have none.
    """
    import numpy as np

    first = prepared.runs[prepared.ends[1][:-1]] >> 15  # the top bit of an example's first run: whether it is learnt
    return prepared.supervised.astype(np.int64) - first


def weigh(ids: Sequence[int], counts: NDArray[np.int64], *, reduction: str, size: int = 1) -> dict[int, float]:
    """The weight of each target of each example of a step.

    ``ids`` are the step's examples in the recipe's order and ``counts`` their targets, both of shape (examples,).
    ``size``, the examples of a padded micro-batch, matters to ``tulu1`` alone. There batch j is the j-th ``size`` of
    the step's examples; how many ranks there were decided who computed it, not what it weighs. What has no targets
    weighs nothing and does not count; raises TrainerError where the step has nothing else, and UnknownName.
    """
    import numpy as np

    if reduction not in REDUCTIONS:
        raise UnknownName("reduction", reduction, REDUCTIONS)
    if not counts.any():
        raise TrainerError(
            f"Nothing is learnt in a step of {len(ids)} examples: their only learnt token is their first, which nothing"
            " predicts; prepare the data with a template that puts something in front of what the assistant says."
        )
    if reduction == "token":
        weights = np.full(len(ids), 1 / int(counts.sum()))
    else:
        size = 1 if reduction == "example" else size
        sums = np.add.reduceat(counts, np.arange(0, len(ids), size))
        of_each = np.repeat(sums, size)[: len(ids)]
        weights = 1 / (np.count_nonzero(sums) * np.maximum(of_each, 1))
    return dict(zip(map(int, ids), np.where(counts > 0, weights, 0.0).tolist(), strict=True))
