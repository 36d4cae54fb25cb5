"""What is asked of a model in ids, and how its ids and numbers become a response: the same for every local backend."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from evalkit.types import GenerateRequest, Likelihood, LikelihoodRequest, Text, Usage

if TYPE_CHECKING:
    from evalkit_tokenize.checkpoint import Limits
    from evalkit_tokenize.tokenizer import CheckpointTokenizer

NOT_NUMBERS = "The model's logits are not numbers (NaN); another dtype may help."


@dataclass(frozen=True, slots=True, kw_only=True)
class Prompt:
    """A GenerateRequest in ids."""

    ids: Sequence[int]
    #: The most tokens to write: what the request allows and the context leaves.
    room: int
    #: The sentence that says why nothing can be written, or nothing.
    problem: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Question:
    """A LikelihoodRequest in ids."""

    context: list[int]
    #: In the request's order.
    continuations: list[tuple[int, ...]]
    #: The sentence that says why it cannot be answered, or nothing.
    problem: str

    def answer(self, known: Mapping[tuple[int, ...], float]) -> Likelihood:
        """The response, from the log-probability of each continuation; an empty one is certain."""
        logprobs = tuple(known[ids] if ids else 0.0 for ids in self.continuations)
        if any(map(math.isnan, logprobs)):
            return Likelihood(error=NOT_NUMBERS)
        lengths = tuple(map(len, self.continuations))
        usage = Usage(prompt_tokens=len(self.context), completion_tokens=sum(lengths))
        return Likelihood(logprobs=logprobs, lengths=lengths, usage=usage)


def prompt(request: GenerateRequest, tokenizer: CheckpointTokenizer, limits: Limits) -> Prompt:
    """Encode a request for texts."""
    ids = tokenizer.prompt_ids(request)
    problem = limits.too_long(len(ids), answer=1)
    if not ids:
        problem = "The prompt is empty, without even a BOS token, so nothing can follow it."
    room = request.max_tokens if limits.context is None else min(request.max_tokens, limits.context - len(ids))
    return Prompt(ids=ids, room=room, problem=problem)


def question(request: LikelihoodRequest, tokenizer: CheckpointTokenizer, limits: Limits) -> Question:
    """Encode a request for likelihoods."""
    context, continuations = tokenizer.continuation_ids(request)
    # The last token of a continuation is predicted and never read.
    problem = limits.too_long(len(context), answer=max(map(len, continuations), default=0) - 1)
    if not context:
        problem = "Nothing stands before the continuations, not even a BOS token, so they have no likelihood."
    return Question(context=context, continuations=[tuple(ids) for ids in continuations], problem=problem)


def text(ids: Sequence[int], made: Sequence[int], *, stop: Sequence[str], finish: str, by: CheckpointTokenizer) -> Text:
    """The text of the ids made behind a prompt's, cut before the first stop string."""
    whole = by.text_after(ids, made)
    found = [place for one in stop if (place := whole.find(one)) >= 0]
    return Text(text=whole[: min(found)], finish="stop") if found else Text(text=whole, finish=finish)


def seed(ids: Sequence[int], seed: int, sample: int) -> int:
    """A seed of 64 bits: equal prompts with equal seeds repeat, different ones share no random numbers."""
    said = f"{seed} {sample} {' '.join(map(str, ids))}"
    return int.from_bytes(hashlib.sha256(said.encode()).digest()[:8], "big")
