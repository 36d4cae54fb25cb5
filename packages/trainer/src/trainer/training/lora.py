"""Low-rank adapters by peft: a few small matrices learn, and in the end are added to the weights beside them."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING, Any

from trainer.errors import ModelError, TrainerError

if TYPE_CHECKING:
    import torch

    from trainer.training.settings import Settings

_NAME = "default"


def adapt(model: Any, settings: Settings) -> None:
    """Put adapters into a model, in place, and let nothing else of it learn.

    Raises TrainerError without peft, and ModelError where no layer bears one of ``lora_targets``.
    """
    try:
        from peft import LoraConfig, TaskType, inject_adapter_in_model
    except ImportError:
        raise TrainerError("lora_rank needs peft: install trainer[lora], or set lora_rank = 0.") from None
    config = LoraConfig(
        task_type=TaskType.CAUSAL_LM,
        r=settings.lora_rank,
        lora_alpha=settings.lora_alpha,
        lora_dropout=settings.lora_dropout,
        target_modules=[one.strip() for one in settings.lora_targets.split(",") if one.strip()] or "all-linear",
    )
    try:
        inject_adapter_in_model(config, model, adapter_name=_NAME)
    except ValueError as error:
        layers = sorted({name.rpartition(".")[2] for name, one in model.named_modules() if _is_linear(one)})
        raise ModelError(
            f"No layer of the model is named as lora_targets = {settings.lora_targets!r} says; there are"
            f" {', '.join(layers)}."
        ) from error
    for name, parameter in model.named_parameters():
        parameter.requires_grad_("lora_" in name)
        parameter.data = parameter.data.to(model.dtype)


def merge(parameters: Iterable[tuple[str, torch.Tensor]], scale: float) -> Iterator[tuple[str, torch.Tensor]]:
    """The named weights of an adapted model as those of a plain one: W + scale x B A, summed in float32.

    ``scale`` is lora_alpha / lora_rank. One layer's weights are held at a time: its adapters come right behind it.
    """
    held: dict[str, dict[str, torch.Tensor]] = {}
    for name, tensor in parameters:
        layer, part = _parse(name)
        if part is None:
            yield layer, tensor
            continue
        parts = held.setdefault(layer, {})
        parts[part] = tensor
        if len(parts) == 3:
            update = parts["lora_B"].float() @ parts["lora_A"].float()
            weight = held.pop(layer)["weight"]
            yield f"{layer}.weight", (weight.float() + scale * update).to(weight.dtype)


def _parse(name: str) -> tuple[str, str | None]:
    """The layer of an adapted weight and which of three it is; or the name that any other has without adapters."""
    for part in ("lora_A", "lora_B"):
        if name.endswith(f".{part}.{_NAME}.weight"):
            return name.removesuffix(f".{part}.{_NAME}.weight"), part
    if name.endswith(".base_layer.weight"):
        return name.removesuffix(".base_layer.weight"), "weight"
    return name.replace(".base_layer.", "."), None


def _is_linear(module: Any) -> bool:
    from torch import nn

    return isinstance(module, nn.Linear)
