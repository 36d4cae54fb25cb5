"""What every request of a backend has in common, checked once."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal
from urllib.parse import urlsplit

from evalkit.errors import ModelError, UnknownName

Api = Literal["chat", "completions"]
#: How the likelihood of answer letters is found out.
Logprobs = Literal["auto", "top", "echo", "no"]

#: Parameters that may be left out where a model refuses them.
DROPPABLE = frozenset({"temperature", "top_p", "seed", "stop", "max_tokens"})


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """A model at an endpoint, and how it is asked."""

    model: str
    api: Api
    base_url: str
    #: Where the beginning of the model's answer goes: behind the user's prompt, or into a turn of the assistant.
    prefix: Literal["user", "assistant"]
    #: Parameters that are never sent.
    drop: frozenset[str]
    #: Fields that are sent besides.
    extra: Mapping[str, Any]
    #: Seconds until an attempt counts as hung.
    timeout: float
    #: How often a request is tried that fails while others succeed.
    attempts: int
    #: Seconds without any answer after which the run stops.
    patience: float

    @property
    def host(self) -> str:
        """The host of the endpoint."""
        return urlsplit(self.base_url).hostname or ""


def read_url(url: str) -> str:
    """An endpoint's address in one spelling; raises ModelError for one that cannot be used or holds a secret."""
    parts = urlsplit(url)
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise ModelError("base_url should look like http://127.0.0.1:8000/v1.")
    if parts.username or parts.password or parts.query:
        # Not quoted: it may hold a secret.
        raise ModelError("base_url holds a user name, a password or a query; put the key into the environment instead.")
    return url.rstrip("/")


def read_drop(text: str) -> frozenset[str]:
    """The parameters named in ``temperature,stop``; raises UnknownName."""
    names = frozenset(name.strip() for name in text.split(",") if name.strip())
    for name in sorted(names - DROPPABLE):
        raise UnknownName("parameter that can be dropped", name, DROPPABLE)
    return names


def read_extra(text: str) -> Mapping[str, Any]:
    """The fields of a JSON object; raises ModelError."""
    try:
        fields = json.loads(text) if text else {}
    except ValueError as error:
        raise ModelError(f"extra should be a JSON object ({error}).") from None
    if not isinstance(fields, dict):
        raise ModelError('extra should be a JSON object, such as {"reasoning_effort": "low"}.')
    return fields


def refusal(parameter: str, text: str) -> ModelError:
    """The error to end a run with when the model takes a parameter in no way."""
    if parameter in ("logprobs", "top_logprobs"):
        remedy = "-M logprobs=no has answer letters written instead"
    elif parameter in DROPPABLE:
        remedy = f"-M drop={parameter} leaves it out for good, and the run's settings record that"
    else:
        remedy = "choose another model or endpoint"
    return ModelError(f"The model refuses the parameter {parameter} ({text}): {remedy}.")
