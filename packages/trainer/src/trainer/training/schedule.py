"""The learning rate of each optimizer step: a pure function, so there is no scheduler to save or to step twice."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from trainer.training.settings import Settings


def warmup_steps(settings: Settings, steps: int) -> int:
    """The steps in which the learning rate rises: the share of all steps that is set, rounded down as in 2023."""
    return int(settings.warmup * steps)


def learning_rate(settings: Settings, step: int, steps: int) -> float:
    """The learning rate of step ``step``, from 0, of ``steps`` in all.

    As `transformers` has it and the paper used it: the rate rises from 0, so that a first step of warmup changes
    nothing, and falls to where it would be 0 in the step after the last.
    """
    warmup = warmup_steps(settings, steps)
    if step < warmup:
        return settings.learning_rate * step / warmup
    if settings.schedule == "constant":
        return settings.learning_rate
    done = (step - warmup) / max(1, steps - warmup)
    if settings.schedule == "cosine":
        return settings.learning_rate * 0.5 * (1 + math.cos(math.pi * done))
    return settings.learning_rate * (1 - done)
