"""A loaded model: one forward pass over left-padded rows, with or without a cache."""

from __future__ import annotations

import inspect
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import torch

if TYPE_CHECKING:
    from evalkit_tokenize import Limits


class Model:
    """A causal language model of transformers, with what the loops must know about it."""

    def __init__(self, module: Any, *, limits: Limits) -> None:
        self._module = module
        known = inspect.signature(module.forward).parameters
        # Models without position embeddings (ALiBi) take no positions; the mask tells them.
        self._takes_positions = "position_ids" in known
        self._takes_keep = "logits_to_keep" in known
        self.device: torch.device = module.device
        self.limits = limits

    def last_logits(
        self,
        ids: torch.Tensor,
        mask: torch.Tensor,
        *,
        keep: int = 1,
        cache: Any = None,
        use_cache: bool = False,
    ) -> tuple[torch.Tensor, Any]:
        """The logits of the last ``keep`` positions, shape (rows, keep, vocabulary) in float32, and the cache.

        ``ids`` has shape (rows, new); ``mask`` has shape (rows, cached + new) and is 0 on padding.
        """
        arguments: dict[str, Any] = {"input_ids": ids, "attention_mask": mask, "use_cache": use_cache}
        if self._takes_positions:
            arguments["position_ids"] = (mask.cumsum(-1) - 1).clamp(min=0)[:, -ids.shape[1] :]
        if self._takes_keep:
            arguments["logits_to_keep"] = keep
        with torch.inference_mode():
            out = self._module(past_key_values=cache, return_dict=True, **arguments)
        return out.logits[:, -keep:].float(), out.past_key_values if use_cache else None

    def pad(self, rows: Sequence[Sequence[int]]) -> tuple[torch.Tensor, torch.Tensor]:
        """Ids and mask of rows, padded on the left, both of shape (rows, longest)."""
        longest = max(map(len, rows))
        # What stands on padding is never looked at; id 0 is in every vocabulary.
        ids = [[0] * (longest - len(row)) + list(row) for row in rows]
        mask = [[0] * (longest - len(row)) + [1] * len(row) for row in rows]
        return torch.tensor(ids, device=self.device), torch.tensor(mask, device=self.device)


class Rollout:
    """A batch of prompts that grows by one token a row, with its key-value cache."""

    def __init__(self, model: Model, prompts: Sequence[Sequence[int]]) -> None:
        self._model = model
        ids, self._mask = model.pad(prompts)
        self._logits, self._cache = model.last_logits(ids, self._mask, use_cache=True)

    @property
    def logits(self) -> torch.Tensor:
        """What comes next in each row, shape (rows, vocabulary)."""
        return self._logits[:, -1]

    def keep(self, rows: Sequence[int]) -> None:
        """Drop all rows but these."""
        chosen = torch.tensor(rows, device=self._model.device)
        self._mask = self._mask[chosen]
        self._cache.batch_select_indices(chosen)

    def append(self, tokens: Sequence[int]) -> None:
        """Add one token to each row."""
        ids = torch.tensor(tokens, device=self._model.device).unsqueeze(-1)
        self._mask = torch.cat([self._mask, torch.ones_like(ids)], dim=-1)
        self._logits, self._cache = self._model.last_logits(ids, self._mask, cache=self._cache, use_cache=True)
