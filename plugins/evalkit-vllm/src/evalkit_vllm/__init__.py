"""Backend `vllm`: runs a checkpoint with vLLM."""

from __future__ import annotations

from evalkit.hookspecs import hookimpl
from evalkit_vllm.backend import VLLM

__all__ = ["VLLM", "backend"]


@hookimpl
def backend() -> type[VLLM]:
    """Return the class that answers requests."""
    return VLLM
