"""Low-rank adapters by peft: a few small matrices learn, which the export adds to the weights beside them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from trainer.errors import ModelError, TrainerError

if TYPE_CHECKING:
    from trainer.training.settings import Settings

_NAME = "default"


def adapt(model: Any, settings: Settings) -> None:
    """Put adapters into a model, in place, and let nothing else of it learn.

    Raises TrainerError without peft, and ModelError where no layer bears the name of one of ``lora_targets``.
    """
    try:
        from peft import LoraConfig, TaskType, inject_adapter_in_model
    except ImportError:
        raise TrainerError("lora_rank needs peft: install trainer[lora], or set lora_rank = 0.") from None
    targets = [one.strip() for one in settings.lora_targets.split(",") if one.strip()]
    _check(model, targets)
    config = LoraConfig(
        task_type=TaskType.CAUSAL_LM,
        r=settings.lora_rank,
        lora_alpha=settings.lora_alpha,
        lora_dropout=settings.lora_dropout,
        target_modules=targets or "all-linear",
    )
    inject_adapter_in_model(config, model, adapter_name=_NAME)
    for name, parameter in model.named_parameters():
        parameter.requires_grad_("lora_" in name)
        parameter.data = parameter.data.to(model.dtype)


def _check(model: Any, targets: Sequence[str]) -> None:
    """Refuse a name that no layer bears; peft passes over it if another fits, and would tune less than asked."""
    layers = [name for name, one in model.named_modules() if _is_linear(one)]
    for target in targets:
        if not any(name == target or name.endswith(f".{target}") for name in layers):
            there = sorted({name.rpartition(".")[2] for name in layers})
            raise ModelError(
                f"No layer of the model is named as lora_targets = {target!r} says; there are {', '.join(there)}."
            )


def _is_linear(module: Any) -> bool:
    from torch import nn

    return isinstance(module, nn.Linear)
