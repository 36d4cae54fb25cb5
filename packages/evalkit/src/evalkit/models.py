"""From a model's name as it is typed, ``backend:name``, to the backend that is to load it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from difflib import get_close_matches
from pathlib import Path
from typing import Any

from evalkit import options
from evalkit.errors import UnknownName
from evalkit.load import Model
from evalkit.plugins import BACKENDS, Plugins

#: The backend of a bare hub id or path: the only plugin that core knows by name.
DEFAULT_BACKEND = "hf"


def make(plugins: Plugins, asked: str, texts: Mapping[str, str]) -> Model:
    """The model that ``hf:ID``, ``dist:backend:ID``, ``dummy``, or a bare id or path names, with its backend's options.

    No weights are loaded. Raises EvalkitError for a backend or an option that does not exist or does not fit.
    """
    backend_name, name = split(plugins, asked)
    backend = plugins.backend(backend_name)
    bound = options.bind(backend.__init__, texts, owner=f"the backend {backend_name!r}")
    create: Callable[..., Any] = backend
    return Model(
        backend_name=backend_name,
        name=name,
        options=options.changed(backend.__init__, bound),
        backend=create(name, **bound),
    )


def split(plugins: Plugins, asked: str) -> tuple[str, str]:
    """The backend, perhaps with its distribution, and what it is to load; raises UnknownName."""
    installed = plugins.names(BACKENDS)
    head, colon, rest = asked.partition(":")
    if head in installed:
        return head, rest
    if colon and rest.partition(":")[0] in installed and plugins.is_distribution(head):
        name, _, rest = rest.partition(":")
        return f"{head}:{name}", rest
    is_word = "/" not in head and not Path(asked).exists()
    if (is_word and colon) or (is_word and get_close_matches(head, installed, n=1, cutoff=0.75)):
        remedy = f"For a model of that name write {DEFAULT_BACKEND}:{asked}."
        raise UnknownName("backend", head, installed, listed="Installed", remedy="" if colon else remedy)
    return DEFAULT_BACKEND, asked
