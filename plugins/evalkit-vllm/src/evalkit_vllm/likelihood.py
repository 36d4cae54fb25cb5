"""Reads how likely continuations are: one call of one token for each beginning that they share.

vLLM tells the exact log-probability of up to 128 named tokens behind a prompt. Where every continuation is one token,
as answer letters are, that is one call a question. Longer ones form a tree: each inner node is a prompt (the context
and the beginning of a continuation), its children are the named tokens, and a continuation's log-probability is the sum
on the way to its leaf. No call asks for log-probabilities of a prompt, since vLLM then would not read its prefix cache.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import evalkit_tokenize
from evalkit.types import Likelihood, LikelihoodRequest
from evalkit_tokenize import CheckpointTokenizer, Limits, Question
from evalkit_vllm.flow import Call, Reply

#: The most tokens that vLLM names in one call (its MAX_LOGPROB_TOKEN_IDS).
NAMED = 128


@dataclass(frozen=True, slots=True, kw_only=True)
class Node:
    """Where continuations part: what they have begun with, and the tokens with which they go on."""

    begun: tuple[int, ...]
    tokens: tuple[int, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Reading:
    """A request for likelihoods under way."""

    question: Question
    nodes: Sequence[Node]
    #: One for each node.
    calls: Sequence[Call]

    def response(self, replies: Sequence[Reply]) -> Likelihood:
        """The likelihoods, summed along each continuation."""
        known: dict[tuple[int, ...], float] = {}
        for node, reply in zip(self.nodes, replies, strict=True):
            if "error" in reply:
                return Likelihood(error=f"vLLM: {reply['error']}")
            for token, logprob in zip(node.tokens, reply["logprobs"], strict=True):
                known[(*node.begun, token)] = logprob
        return self.question.answer(
            {
                ids: math.fsum(known[ids[:length]] for length in range(1, len(ids) + 1))
                for ids in set(self.question.continuations)
            }
        )


def plan(tokenizer: CheckpointTokenizer, limits: Limits) -> Callable[[LikelihoodRequest], Reading | Likelihood]:
    """The way from a request to what is asked of an engine, which wants room for the one token that it writes."""
    limits = replace(limits, context=None if limits.context is None else limits.context - 1)

    def planned(request: LikelihoodRequest) -> Reading | Likelihood:
        question = evalkit_tokenize.question(request, tokenizer, limits)
        if question.problem:
            return Likelihood(error=question.problem)
        if not (found := nodes(question.continuations)):  # only empty continuations, which are certain
            return question.answer({})
        return Reading(question=question, nodes=found, calls=[_call(question, node) for node in found])

    return planned


def nodes(continuations: Sequence[tuple[int, ...]]) -> list[Node]:
    """The inner nodes of the tree of continuations, those with many children in several parts."""
    children: dict[tuple[int, ...], dict[int, None]] = {}
    for ids in continuations:
        for length, token in enumerate(ids):
            children.setdefault(ids[:length], {})[token] = None
    return [
        Node(begun=begun, tokens=tuple(tokens)[start : start + NAMED])
        for begun, tokens in children.items()
        for start in range(0, len(tokens), NAMED)
    ]


def _call(question: Question, node: Node) -> Call:
    settings = {"max_tokens": 1, "temperature": 0.0, "ignore_eos": True, "detokenize": False}
    return Call(ids=[*question.context, *node.begun], settings={**settings, "logprob_token_ids": list(node.tokens)})
