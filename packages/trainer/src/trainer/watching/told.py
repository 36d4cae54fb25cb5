"""What a training loop tells of itself: its start, its steps, its evaluations and its checkpoints."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, slots=True, kw_only=True)
class Start:
    """What is known when the first step is about to begin."""

    #: Optimizer steps done before: 0, or those of the checkpoint that the run resumes from.
    step: int
    #: Optimizer steps of the whole run.
    steps: int
    world: int
    #: ``torch`` or ``deepspeed``, and what a rank computes on: ``cpu``, ``NVIDIA A100-SXM4-80GB``.
    engine: str
    device: str
    #: Weights of the model, and those of them that are trained.
    parameters: int
    trainable: int
    #: FLOP a second that all ranks together could do at best in this precision; 0 where it is not known.
    peak: float = 0.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """An optimizer step that was done; sums and means are over all ranks, and equal on all of them."""

    #: Steps done with this one, hence 1 for the first.
    step: int
    #: Epochs done with this one, in parts: 0.25 behind a quarter of the first.
    epoch: float
    #: What was minimised, by the run's reduction.
    loss: float
    #: The mean over supervised tokens, by dataset; without those of which the step had none.
    dataset_loss: Mapping[str, float]
    lr: float
    #: Of the whole gradient, before clipping.
    norm: float
    #: Whether the weights stayed as they were because the gradient was not finite.
    skipped: bool
    #: Tokens without padding; those of them that the loss counted; and those that were computed, padding included.
    tokens: int
    supervised: int
    slots: int
    #: From the end of the last step to the end of this one, and the part of it in forward, backward and update.
    seconds: float
    seconds_model: float
    #: What the model itself needs for it, recomputation left out; 0 where it is not known.
    flops: float = 0.0


@dataclass(frozen=True, slots=True, kw_only=True)
class HeldOut:
    """The loss on held-out data: means over supervised tokens."""

    step: int
    loss: float
    dataset_loss: Mapping[str, float]
    supervised: int
    seconds: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Ran:
    """An evaluation by a command of the user's."""

    step: int
    #: As it ran, with secrets struck out.
    command: str
    #: Negative where a signal ended it.
    exit_code: int
    seconds: float
    #: The last line of its output that is not empty, secrets struck out.
    last_line: str
    #: The file of all its output.
    output: Path


@dataclass(frozen=True, slots=True, kw_only=True)
class Saved:
    """A checkpoint that is whole."""

    step: int
    folder: Path
    bytes: int
    seconds: float
