"""When training should stop and ask: a loss that is no number, a loss that jumps, steps that are skipped in a row."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from trainer.errors import Interrupted

if TYPE_CHECKING:
    from trainer.watching.told import Entry

#: Steps that a running mean of the loss goes over, and those without which there is none.
WINDOW = 50
ENOUGH = 10
#: Times the running mean at which a loss is told, where no factor stops the run.
DOUBTFUL = 3.0


class Alarm(Interrupted):
    """Training stopped because something looks wrong; its newest checkpoint is the one before."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Rules:
    """What stops a run besides a loss that is no number."""

    #: A loss above so many times its running mean; 0 stops never and tells at ``DOUBTFUL``.
    spike: float = 0.0
    #: Skipped steps in a row; 0 stops never.
    max_skipped: int = 5

    @property
    def memory(self) -> int:
        """Steps that must be known to judge the last of them."""
        return max(WINDOW + 1, self.max_skipped)


def alarm(recent: Iterable[Entry], rules: Rules) -> str | None:
    """Why training should not go on behind the last of these steps, with the remedy; None where it should.

    A function of what all ranks know alike, so that they stop together without a word to one another.
    """
    entries = list(recent)
    last = entries[-1]
    if not math.isfinite(last.loss):
        return (
            f"The loss of step {last.step:,} is {last.loss}. Repeating the command goes on from the checkpoint before "
            "it, or begins anew where there is none; if it happens again at the same step, look at that step's data "
            "and try a lower learning_rate or a longer warmup, in bf16 precision = 'fp32' too, in a new run folder."
        )
    skipped = sum(1 for _ in itertools.takewhile(lambda one: one.skipped, reversed(entries)))
    if rules.max_skipped and skipped >= rules.max_skipped:
        return (
            f"{skipped} steps in a row were skipped, up to step {last.step:,}, because their gradients were not "
            "finite. Try a lower learning_rate, in bf16 precision = 'fp32' too, in a new run folder, or a larger "
            "max_skipped."
        )
    mean = running_mean(entries[:-1])
    if rules.spike and mean is not None and last.loss > rules.spike * mean:
        return (
            f"The loss of step {last.step:,} is {last.loss:.4g}, more than {rules.spike:g} times its running mean of "
            f"{mean:.4g}. Repeating the command goes on from the checkpoint before it, if any; spike = 0 only warns."
        )
    return None


def warning(recent: Iterable[Entry], rules: Rules) -> str | None:
    """What the user should know of the last of these steps although training goes on; None where there is nothing."""
    entries = list(recent)
    last = entries[-1]
    if last.skipped:
        return f"step {last.step:,}: skipped, its gradient was not finite; the weights are as before"
    mean = running_mean(entries[:-1])
    if not rules.spike and mean is not None and last.loss > DOUBTFUL * mean:
        return f"step {last.step:,}: the loss, {last.loss:.4g}, is {last.loss / mean:.1f} times its running mean"
    return None


def running_mean(entries: Sequence[Entry]) -> float | None:
    """The mean loss of the last steps that were not skipped; None where they are too few to say."""
    losses = [one.loss for one in entries[-WINDOW:] if not one.skipped and math.isfinite(one.loss)]
    return sum(losses) / len(losses) if len(losses) >= ENOUGH else None
