"""Proof that a step's gradient is the same however its examples are shared out over ranks and micro-steps."""

from __future__ import annotations

from typing import TYPE_CHECKING

from trainer.planning.plan import Balanced, Micro, Padded
from trainer.proving.claim import Claim
from trainer.proving.gradients import BOUND, Trial

if TYPE_CHECKING:
    from collections.abc import Iterator

    from trainer.planning.plan import Plan
    from trainer.training.settings import Settings

#: Ranks, and examples of each one's micro-step.
LAYOUTS = ((1, 8), (2, 4), (4, 2))
EXAMPLES = 16


def prove(settings: Settings, *, examples: int = EXAMPLES) -> Iterator[Claim]:
    """Compare layouts, their ranks one after the other in this process, with each example in a micro-step alone.

    In fp32 and without dropout; examples padded, as other trainers lay them out, and packed, as `trainer train` does.
    Ranks of their own are compared by the proof of ZeRO's stages.
    """
    trial = Trial.open(settings, examples, "documents")
    data = trial.examples
    ids = data.ids(0, 0).tolist()
    alone = [Micro(rows=((index,),), width=int(data.lengths[index])) for index in ids]
    longest, total = (int(one) for one in (data.lengths.max(), data.lengths[ids].sum()))
    for ranks, size in LAYOUTS:
        plans: dict[str, Plan] = {
            f"{ranks} x {size} padded": Padded(examples=data, ranks=ranks, size=size),
            f"{ranks} ranks packed": Balanced(examples=data, ranks=ranks, tokens=max(longest, total // (2 * ranks))),
        }
        for name, plan in plans.items():
            trial.clear()
            wanted = trial.run(alone)
            largest = trial.largest()
            found = trial.run((micro for micros in plan.step(0, 0).ranks for micro in micros), sign=-1)
            what = f"{len(ids)} examples on {name} and one by one, mean by {settings.reduction}"
            yield Claim(text=f"{what}: loss, relative", found=abs(found - wanted) / abs(wanted), bound=BOUND)
            yield Claim(
                text=f"{what}: gradient, relative to its largest entry", found=trial.largest() / largest, bound=BOUND
            )
