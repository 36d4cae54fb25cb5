"""Loads the model that a checkpoint holds."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import evalkit_tokenize
from evalkit.errors import ModelError

if TYPE_CHECKING:
    from evalkit_hf.model import Model


def need_libraries() -> None:
    """Raise ModelError where torch or transformers is missing."""
    try:
        import torch  # noqa: F401
        import transformers  # noqa: F401
    except ImportError as error:
        raise ModelError("The backend hf needs torch and transformers: pip install evalkit-hf.") from error


def load(
    source: str,
    *,
    dtype: str,
    device: str,
    device_map: str | None,
    revision: str | None,
    trust_remote_code: bool,
    eos: int | None,
) -> Model:
    """Load the model onto its device; ``eos`` ends a text besides what the checkpoint itself names."""
    from transformers import AutoModelForCausalLM

    from evalkit_hf.model import Model

    if Path(source).is_dir():
        evalkit_tokenize.need_files(Path(source))
    try:
        module, report = AutoModelForCausalLM.from_pretrained(
            source,
            dtype=dtype,
            device_map=device_map,
            revision=revision,
            trust_remote_code=trust_remote_code,
            output_loading_info=True,
        )
        if device_map is None:
            module = module.to(_device(device))
    except Exception as error:  # transformers raises whatever its parsers, torch and safetensors raise
        raise evalkit_tokenize.cannot_load("model", source, error) from error
    if missing := sorted(report["missing_keys"]):
        # transformers fills them with random numbers and goes on.
        raise ModelError(
            f"{source} lacks {len(missing)} of the model's weights, {missing[0]} among them; save it anew."
        )
    limits = evalkit_tokenize.limits(module.config, module.generation_config, eos)
    return Model(module.eval(), limits=limits)


def _device(name: str) -> str:
    import torch

    if name != "auto":
        return name
    return torch.accelerator.current_accelerator().type if torch.accelerator.is_available() else "cpu"
