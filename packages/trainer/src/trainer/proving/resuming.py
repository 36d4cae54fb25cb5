"""Proof that a run which was stopped ends where one that was not does, on the same ranks and on another number."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import TYPE_CHECKING

from trainer.proving import ranks
from trainer.proving.claim import Claim
from trainer.proving.ranks import Job

if TYPE_CHECKING:
    from trainer.training.settings import Settings

#: How far a run may be from one on another number of ranks, which sum in another order.
OTHERWISE = 1e-5


def prove(settings: Settings, folder: Path, *, steps: int = 6, count: int = 2) -> list[Claim]:
    """Train a few steps of a recipe, in fp32, at once and in two parts, the second on ``count`` ranks and on one.

    Runs are kept in ``folder``. Where numbers of ranks are compared the second part has no dropout, which each rank
    draws for itself. Raises TrainerError where a run fails.
    """
    half = steps // 2
    straight, same, alike, other = (
        ranks.few(settings, folder / name, batch=2 * count, steps=steps)
        for name in ("straight", "same", "alike", "other")
    )
    first = [Job(settings=straight, until=steps, dropout=True), Job(settings=same, until=half, dropout=True)]
    ranks.start(first, count, folder / "first")
    for copy in (alike, other):
        shutil.copytree(same.out, copy.out)
    second = [Job(settings=same, until=steps, dropout=True), Job(settings=alike, until=steps)]
    ranks.start(second, count, folder / "second")
    ranks.start([Job(settings=other, until=steps)], 1, folder / "one-rank")
    return [
        Claim(
            text=f"Stopped behind step {half} and resumed on {count} ranks: weights and optimizer states that differ"
            f" from those of an undisturbed run after {steps} steps",
            found=float(ranks.apart(Path(straight.out), Path(same.out)).values),
            bound=0.0,
        ),
        Claim(
            text=f"Stopped behind step {half} and resumed on 1 rank, or on {count} as before: weights after {steps}"
            " steps, relative",
            found=ranks.apart(Path(alike.out), Path(other.out)).relative,
            bound=OTHERWISE,
        ),
    ]
