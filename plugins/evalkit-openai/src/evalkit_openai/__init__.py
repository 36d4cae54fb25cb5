"""Backend `openai`: asks a model behind an OpenAI-compatible API."""

from __future__ import annotations

from evalkit.hookspecs import hookimpl
from evalkit_openai.backend import OpenAI

__all__ = ["OpenAI", "backend"]


@hookimpl
def backend() -> type[OpenAI]:
    """Return the class that answers requests."""
    return OpenAI
