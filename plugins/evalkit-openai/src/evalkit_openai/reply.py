"""Reads what comes back: texts, reasoning, log-probabilities and token counts of either endpoint."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

from evalkit.types import GenerateRequest, Text
from evalkit_openai.fault import Again
from evalkit_openai.prices import Tokens

_OPEN, _CLOSE = "<think>", "</think>"


def parse(content: bytes) -> Mapping[str, Any]:
    """The object in a body; raises Again where it is damaged, for it was an answer once."""
    try:
        value = json.loads(content)
    except ValueError:
        value = None
    if isinstance(value, Mapping):
        return value
    beginning = " ".join(content[:60].decode("utf-8", "replace").split())
    raise Again(f"the answer is damaged ({beginning!r})", kind="broken", lost=True)


def choices(reply: Mapping[str, Any]) -> Sequence[Mapping[str, Any]]:
    """The answers in a reply, in their order; raises Again where there are none."""
    found = reply.get("choices")
    if not isinstance(found, list) or not found or not all(isinstance(one, Mapping) for one in found):
        raise Again("the answer has no choices", kind="broken", lost=True)
    return sorted(found, key=lambda one: one.get("index") or 0)


def text(choice: Mapping[str, Any], request: GenerateRequest) -> Text:
    """One text: cut at the first stop string, without the prefix that a server may repeat, reasoning apart."""
    message = choice.get("message")
    fields: Mapping[str, Any] = message if isinstance(message, Mapping) else {"content": choice.get("text")}
    finish = str(choice.get("finish_reason") or "stop")
    if finish == "content_filter":
        return Text(error="The server's content filter stopped the answer.")
    written = str(fields.get("content") or fields.get("refusal") or "")
    thought = str(fields.get("reasoning_content") or fields.get("reasoning") or "")
    if not thought:
        thought, written = _apart(written)
    if request.chat and request.answer_prefix:
        written = written.removeprefix(request.answer_prefix)
    places = [place for stop in request.stop if (place := written.find(stop)) >= 0]
    if places:
        return Text(text=written[: min(places)], thought=thought)
    return Text(text=written, thought=thought, finish="length" if finish == "length" else "stop")


def _apart(written: str) -> tuple[str, str]:
    """Reasoning and answer of a text that begins with its reasoning in tags; one that never ends has no answer."""
    if not written.lstrip().startswith(_OPEN):
        return "", written
    thought, _, answer = written.lstrip().removeprefix(_OPEN).partition(_CLOSE)
    return thought.strip(), answer.lstrip("\n")


def tokens(reply: Mapping[str, Any]) -> Tokens:
    """The tokens that a server counted; 0 where it did not."""
    usage = reply.get("usage")
    if not isinstance(usage, Mapping):
        return Tokens()
    details = usage.get("prompt_tokens_details")
    return Tokens(
        prompt=_count(usage.get("prompt_tokens")),
        cached=_count(details.get("cached_tokens")) if isinstance(details, Mapping) else 0,
        completion=_count(usage.get("completion_tokens")),
    )


def _count(value: Any) -> int:
    return value if isinstance(value, int) else 0


def first_tokens(choice: Mapping[str, Any]) -> Mapping[str, float]:
    """The likeliest first tokens with their log-probabilities, in either endpoint's form; empty where not given."""
    logprobs = choice.get("logprobs")
    if not isinstance(logprobs, Mapping):
        return {}
    content, listed = logprobs.get("content"), logprobs.get("top_logprobs")
    if isinstance(content, list) and content and isinstance(content[0], Mapping):
        entries = content[0].get("top_logprobs") or [content[0]]
        return {str(one["token"]): float(one["logprob"]) for one in entries}
    if isinstance(listed, list) and listed and isinstance(listed[0], Mapping):
        return {str(token): float(logprob) for token, logprob in listed[0].items()}
    return {}
