"""A step's loss and gradient on the user's own model, one way less the other, with room for one gradient only."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Self

import torch

from trainer.planning.plan import Examples
from trainer.preparation.prepared import Prepared
from trainer.training import batch, learner, model, weights

if TYPE_CHECKING:
    from trainer.planning.plan import Micro
    from trainer.training.attention import Kind
    from trainer.training.settings import Settings

#: How far two ways may lie apart: of the loss, and of the gradient's largest entry.
BOUND = 1e-5


@dataclass(frozen=True, slots=True, kw_only=True)
class Trial:
    """A model in fp32 without dropout, and the examples of a step that it is tried on."""

    learner: learner.Learner
    prepared: Prepared
    device: torch.device
    #: The first examples of the recipe's order, as a step of their own, and the weights of their targets.
    examples: Examples
    weights: dict[int, float]

    @classmethod
    def open(cls, settings: Settings, count: int, kind: Kind) -> Self:
        """Load the model of a recipe; raises ModelError where it does not fit its data."""
        prepared = Prepared.open(Path(settings.data))
        examples = Examples(lengths=prepared.lengths, seed=settings.seed, batch=count)
        ids = examples.ids(0, 0)
        device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
        told = replace(settings, precision="fp32", attention=kind, lora_rank=0, lora_targets="")
        tokenizer = model.check(settings.model, prepared)
        built = learner.build(told, tokenizer, datasets=len(prepared.names), device=device).to(device)
        built.eval()
        counts = weights.targets(prepared)[ids]
        weighed = weights.weigh(ids.tolist(), counts, reduction=settings.reduction, size=settings.layout[1])
        return cls(learner=built, prepared=prepared, device=device, examples=examples, weights=weighed)

    def run(self, micros: Iterable[Micro], sign: int = 1) -> float:
        """The loss of these micro-steps; their gradient, times ``sign``, is added to what there is."""
        total = 0.0
        for micro in micros:
            loss, _ = self.learner(batch.make(micro, self.prepared, self.weights).to(self.device))
            (sign * loss).backward()
            total += loss.item()
        return total

    def largest(self) -> float:
        """The largest entry of the gradient."""
        found = [one.grad.abs().max() for one in self.learner.parameters() if one.grad is not None]
        return float(torch.stack(found).max())

    def clear(self) -> None:
        """Forget the gradient."""
        self.learner.zero_grad()
