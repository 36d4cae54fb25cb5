"""What each optimizer step reads, made ready on a thread while the step before is computed."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from trainer.planning import plan as plans
from trainer.planning.plan import Balanced, Examples
from trainer.training import batch, weights

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from trainer.preparation.prepared import Prepared
    from trainer.training.batch import Batch
    from trainer.training.settings import Settings


@dataclass(frozen=True, slots=True, kw_only=True)
class Reading:
    """What one rank reads in an optimizer step, and the numbers of the whole step."""

    batches: tuple[Batch, ...] = field(repr=False)
    #: Of all ranks: tokens without padding, those that are targets, those that are computed.
    tokens: int
    supervised: int
    slots: int
    #: The lengths of the step's examples, shape (examples,).
    lengths: NDArray[np.int64] = field(repr=False)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Feed:
    """A run's way through its data, for one rank: a function of the settings, the data and the step's number."""

    prepared: Prepared
    settings: Settings
    rank: int
    plan: Balanced
    #: The targets of each example of the folder, shape (examples,).
    counts: NDArray[np.int64] = field(repr=False)

    @classmethod
    def open(cls, settings: Settings, prepared: Prepared, *, rank: int, world: int) -> Feed:
        """The feed of one of ``world`` ranks; raises DataError where a micro-step cannot hold the longest example."""
        examples = Examples(lengths=prepared.lengths, seed=settings.seed, batch=settings.batch)
        plan = Balanced(examples=examples, ranks=world, tokens=tokens(settings, prepared))
        return cls(prepared=prepared, settings=settings, rank=rank, plan=plan, counts=weights.targets(prepared))

    @property
    def steps(self) -> int:
        """The optimizer steps of the run: those of its epochs, or max_steps if it is set."""
        return self.settings.max_steps or self.settings.epochs * self.plan.steps

    def read(self, number: int) -> Reading:
        """What this rank reads in step ``number``, from 0."""
        epoch, step = divmod(number, self.plan.steps)
        ids = self.plan.examples.ids(epoch, step)
        dealt = plans.at(self.plan, number)
        weighed = weights.weigh(
            ids.tolist(), self.counts[ids], reduction=self.settings.reduction, size=self.settings.layout[1]
        )
        lengths = self.plan.examples.lengths[ids]
        return Reading(
            batches=tuple(batch.read(dealt, self.rank, self.prepared, self.counts, weighed)),
            tokens=int(lengths.sum()),
            supervised=int(self.counts[ids].sum()),
            slots=sum(micro.slots for micros in dealt.ranks for micro in micros),
            lengths=lengths,
        )

    def readings(self, start: int) -> Iterator[Reading]:
        """What this rank reads from step ``start`` on; while one is computed the next is made."""
        if start >= self.steps:
            return
        with ThreadPoolExecutor(1, thread_name_prefix="feed") as thread:
            ahead = thread.submit(self.read, start)
            for number in range(start + 1, self.steps + 1):
                reading = ahead.result()
                if number < self.steps:
                    ahead = thread.submit(self.read, number)
                yield reading


def tokens(settings: Settings, prepared: Prepared) -> int:
    """The tokens that a rank reads at once: what is set, or twice the length limit of the prepared data."""
    return settings.tokens or 2 * int(prepared.manifest["made_of"]["max_length"])
