"""Whole examples shared out over bins so that the fullest bin holds as little as it can."""

from __future__ import annotations

import heapq
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray


def partition(sizes: NDArray[np.int64], bins: int) -> list[list[int]]:
    """The positions of all sizes, shared out over the given number of bins; a function of its arguments alone.

    Largest first into the emptiest bin (Graham's rule, at most a third above the best possible), then swaps that
    lower the fullest bin until none does. That comes so near to the bound of `least` that differencing
    (Karmarkar and Karp) or an exact search has nothing left to win: docs/trainer-data.md has the figures. With fewer
    sizes than bins, bins stay empty.
    """
    import numpy as np

    heap = [(0, place) for place in range(bins)]
    owner: NDArray[np.int64] = np.empty(len(sizes), np.int64)
    for one in np.argsort(-sizes, kind="stable").tolist():
        load, place = heap[0]
        owner[one] = place
        heapq.heapreplace(heap, (load + int(sizes[one]), place))
    loads: NDArray[np.int64] = np.zeros(bins, np.int64)
    np.add.at(loads, owner, sizes)
    _swap(sizes, owner, loads)
    found: list[list[int]] = [[] for _ in range(bins)]
    for one, place in enumerate(owner.tolist()):
        found[place].append(one)
    return found


def least(sizes: NDArray[np.int64], bins: int) -> int:
    """What the fullest bin holds at least, however the sizes are shared out."""
    return max(int(sizes.max()), -(-int(sizes.sum()) // bins))


def _swap(sizes: NDArray[np.int64], owner: NDArray[np.int64], loads: NDArray[np.int64]) -> None:
    """Swap an example of the fullest bin for a smaller one elsewhere, or for nothing, while that lowers the maximum."""
    import numpy as np

    bins = len(loads)
    bound = least(sizes, bins)
    # Behind the examples stands, for each bin, a nothing to swap with: that is a move.
    elsewhere, sizes = np.concatenate([owner, np.arange(bins)]), np.concatenate([sizes, np.zeros(bins, np.int64)])
    for _ in range(4 * bins):  # each round lowers a bin that was the fullest; a bound so that the time is known
        full = int(loads.argmax())
        if loads[full] <= bound:
            break
        mine = np.flatnonzero(elsewhere[: len(owner)] == full)
        gain = sizes[mine][:, None] - sizes[None, :]
        worst = np.maximum(loads[full] - gain, loads[elsewhere][None, :] + gain)
        worst[:, elsewhere == full] = loads[full]
        best = int(worst.argmin())
        row, other = divmod(best, len(sizes))
        if worst[row, other] >= loads[full]:
            break
        one, place = int(mine[row]), int(elsewhere[other])
        loads[full] -= gain[row, other]
        loads[place] += gain[row, other]
        elsewhere[one] = owner[one] = place
        if other < len(owner):
            elsewhere[other] = owner[other] = full
