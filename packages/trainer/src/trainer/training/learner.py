"""The module that training runs: a model, wrapped so that it reads a batch and gives the weighted loss of it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
from torch import nn

from trainer.training import attention, lora, loss, model

if TYPE_CHECKING:
    from trainer.rendering.tokenizer import Tokenizer
    from trainer.training.batch import Batch
    from trainer.training.settings import Settings

DTYPES = {"bf16": torch.bfloat16, "fp32": torch.float32}


class Learner(nn.Module):  # type: ignore[misc]  # mypy knows no torch
    """A causal language model of transformers and how it is to attend.

    It is made of calls of modules and touches no weight itself, so that ZeRO-3 can gather what each call needs.
    """

    def __init__(self, causal: Any, *, datasets: int, kind: attention.Kind, logits_bytes: int) -> None:
        super().__init__()
        self.model = causal
        self._datasets = datasets
        self._kind = kind
        self._budget = logits_bytes
        attention.install(causal, kind)

    def forward(self, batch: Batch) -> tuple[torch.Tensor, torch.Tensor]:
        """The batch's share of the step's loss, and for each dataset the summed cross entropy and the targets.

        Shapes () float32 and (datasets, 2) float64; the second is for the log and carries no gradient.
        """
        hidden = self.hidden(batch).flatten(0, 1).index_select(0, batch.places)
        head = self.model.get_output_embeddings()
        count = loss.pieces(batch.most, self.model.config.vocab_size * self.model.dtype.itemsize, self._budget)
        each = loss.cross_entropy(head, hidden, batch.targets, count)
        with torch.no_grad():
            counted = batch.weights > 0
            rows = torch.stack([each.double() * counted, counted.double()], dim=1)
            sums = rows.new_zeros(self._datasets, 2).index_add_(0, batch.datasets, rows)
        return (each * batch.weights).sum(), sums

    def hidden(self, batch: Batch) -> torch.Tensor:
        """The last hidden states, shape (rows, width, size), of documents that do not see each other."""
        found: torch.Tensor = self.model.base_model(**self._inputs(batch)).last_hidden_state
        return found

    def logits(self, batch: Batch) -> torch.Tensor:
        """The model's own logits at every position, shape (rows, width, vocabulary)."""
        found: torch.Tensor = self.model(**self._inputs(batch)).logits
        return found

    def _inputs(self, batch: Batch) -> dict[str, Any]:
        told = attention.arguments(batch, self._kind)
        return {"input_ids": batch.ids, "position_ids": batch.positions, "use_cache": False, **told}


def build(
    settings: Settings,
    tokenizer: Tokenizer,
    *,
    datasets: int,
    device: torch.device,
    gathered: model.Gather = model.whole,
) -> Learner:
    """The learner that settings ask for, its weights where they were loaded: ``device`` is where it will run.

    Raises ModelError where the model or one of the settings does not fit; seeds torch, which draws LoRA's matrices.
    """
    dtype = DTYPES[settings.precision]
    torch.manual_seed(settings.seed)
    kind = attention.choose(settings.attention, device, dtype)
    loaded = model.load(settings.model, dtype, rows=tokenizer.size, gathered=gathered)
    if settings.lora_rank:
        lora.adapt(loaded, settings)
    if settings.activation_checkpointing:
        # Reentrant checkpoints would not see what a batch tells attention by name, nor frozen layers.
        enable = getattr(loaded, "activation_checkpointing_enable", loaded.gradient_checkpointing_enable)
        enable({"use_reentrant": False})
    learner = Learner(loaded, datasets=datasets, kind=kind, logits_bytes=settings.logits_bytes)
    learner.train()
    return learner
