"""Proof that it does not matter who holds what: ZeRO's stages and the number of ranks give the same update."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from trainer.proving import ranks
from trainer.proving.claim import Claim
from trainer.proving.ranks import Job

if TYPE_CHECKING:
    from trainer.training.settings import Settings

#: How far ZeRO 0 and 3 may be from 2 after all steps, and how far other numbers of ranks: sums in another order.
STAGES, LAYOUTS = 1e-4, 1e-5


def prove(settings: Settings, folder: Path, *, steps: int = 20, count: int = 2) -> list[Claim]:
    """Train a few steps of a recipe, in fp32, in each of ZeRO's stages on ``count`` ranks and on one rank alone.

    Runs are kept in ``folder``. Between ZeRO 1 and 2 the bits are compared; they are the same where a rank's part of a
    step is one micro-step, as here: with more of them ZeRO 1 first sums over these and ZeRO 2 over the ranks. Raises
    TrainerError where a run fails.
    """
    jobs = [Job(settings=_of(settings, folder, zero, steps, 2 * count), until=steps) for zero in (1, 2, 3, 0)]
    ranks.start(jobs, count, folder / "ranks")
    alone = ranks.few(settings, folder / "alone", batch=2 * count, steps=steps, zero=0, offload="none", engine="auto")
    ranks.start([Job(settings=alone, until=steps)], 1, folder / "one-rank")
    two = folder / "zero-2"
    return [
        Claim(
            text=f"ZeRO 1 and 2 on {count} ranks: weights and optimizer states that differ after {steps} steps",
            found=float(ranks.apart(two, folder / "zero-1").values),
            bound=0.0,
        ),
        *(
            Claim(
                text=f"ZeRO {zero} and 2 on {count} ranks: losses and weights of {steps} steps, relative",
                found=_distance(two, folder / f"zero-{zero}"),
                bound=STAGES,
            )
            for zero in (0, 3)
        ),
        Claim(
            text=f"1 and {count} ranks: losses and weights of {steps} steps, relative",
            found=_distance(two, folder / "alone"),
            bound=LAYOUTS,
        ),
    ]


def _of(settings: Settings, folder: Path, zero: int, steps: int, batch: int) -> Settings:
    offload = settings.offload if zero == 3 or (zero and settings.offload == "optimizer") else "none"
    return ranks.few(
        settings, folder / f"zero-{zero}", batch=batch, steps=steps, zero=zero, offload=offload, engine="auto"
    )


def _distance(first: Path, second: Path) -> float:
    """The largest relative difference of two runs' losses, or that of their weights if it is larger."""
    each = zip(ranks.losses(first), ranks.losses(second), strict=True)
    return max(ranks.apart(first, second).relative, *(abs(one - other) / abs(one) for one, other in each))
