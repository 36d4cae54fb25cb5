"""Has texts written: one call for all texts of a request."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import evalkit_tokenize
from evalkit.types import GenerateRequest, Generation, Text, Usage
from evalkit_tokenize import CheckpointTokenizer, Limits
from evalkit_vllm.flow import Call, Reply

#: vLLM takes no top-p of 0; so little is left to the likeliest token alone as well.
LEAST_TOP_P = 1e-6


@dataclass(frozen=True, slots=True, kw_only=True)
class Writing:
    """A request for texts under way."""

    request: GenerateRequest
    ids: Sequence[int]
    calls: Sequence[Call]
    eos: frozenset[int]
    tokenizer: CheckpointTokenizer

    def response(self, replies: Sequence[Reply]) -> Generation:
        """The texts, made from the ids as the backend hf makes them."""
        (reply,) = replies
        n = self.request.n
        if "error" in reply:
            return Generation(texts=(Text(error=f"vLLM: {reply['error']}"),) * n)
        made = [(ids[:-1] if ids and ids[-1] in self.eos else ids, finish) for ids, finish in reply["texts"]]
        texts = [self._text(ids, finish) for ids, finish in made]
        usage = Usage(prompt_tokens=len(self.ids), completion_tokens=sum(len(ids) for ids, _ in made))
        # A greedy text is written once.
        return Generation(texts=tuple(texts * (n // len(texts))), usage=usage)

    def _text(self, ids: Sequence[int], finish: str) -> Text:
        if finish not in ("stop", "length"):
            return Text(error=f"vLLM gave the text up ({finish}).")
        return evalkit_tokenize.text(self.ids, ids, stop=self.request.stop, finish=finish, by=self.tokenizer)


def plan(tokenizer: CheckpointTokenizer, limits: Limits) -> Callable[[GenerateRequest], Writing | Generation]:
    """The way from a request to what is asked of an engine."""

    def planned(request: GenerateRequest) -> Writing | Generation:
        prompt = evalkit_tokenize.prompt(request, tokenizer, limits)
        if prompt.problem:
            return Generation(texts=(Text(error=prompt.problem),) * request.n)
        call = Call(ids=prompt.ids, settings=settings(request, prompt.ids, prompt.room, limits))
        return Writing(request=request, ids=prompt.ids, calls=(call,), eos=limits.eos, tokenizer=tokenizer)

    return planned


def settings(request: GenerateRequest, ids: Sequence[int], room: int, limits: Limits) -> dict[str, Any]:
    """What vLLM's SamplingParams takes: nothing is left to a generation config or to vLLM's own ends of text."""
    found: dict[str, Any] = {
        "max_tokens": room,
        "ignore_eos": True,
        "stop_token_ids": sorted(limits.eos),
        "temperature": request.temperature,
        # Text is needed where it stops at a string; what is kept is made from the ids.
        "detokenize": bool(request.stop),
    }
    if request.stop:
        found["stop"] = list(request.stop)
    if request.temperature > 0:
        # The texts of a request take this seed and the next ones. Two bits less, since vLLM adds to it.
        found |= {"n": request.n, "top_p": max(request.top_p, LEAST_TOP_P)}
        found["seed"] = evalkit_tokenize.seed(ids, request.seed, 0) >> 2
    return found
