"""Answers a LikelihoodRequest: answer letters by the likeliest first tokens, anything by an echo of the prompt."""

from __future__ import annotations

import asyncio
import math
from collections.abc import Mapping, Sequence
from typing import Any

from evalkit.backend import Tokenizer
from evalkit.errors import ModelError
from evalkit.types import GenerateRequest, Likelihood, LikelihoodRequest, Usage
from evalkit_openai import body, reply
from evalkit_openai.caller import Caller
from evalkit_openai.fault import Refused, Unfit
from evalkit_openai.prices import Tokens
from evalkit_openai.settings import Settings, refusal

#: The log-probability of a letter that is not among the likeliest tokens; JSON has no minus infinity.
NOT_AMONG_THEM = -1e6


async def offered(caller: Caller, settings: Settings, tokenizer: Tokenizer | None) -> bool:
    """Whether the server tells the likeliest first tokens: asked once, with a request of one token."""
    request = GenerateRequest(prompt="Answer with one letter, A or B: A\nAnswer:", max_tokens=1)
    sent = body.first_token(request, settings, tokenizer if settings.api == "completions" else None)
    try:
        found = await caller.call(sent, body.needs(sent, tokenizer))
    except (Refused, Unfit):
        return False
    return len(reply.first_tokens(reply.choices(found)[0])) > 1


async def likelihood(
    request: LikelihoodRequest, caller: Caller, settings: Settings, tokenizer: Tokenizer | None, *, by_echo: bool
) -> Likelihood:
    """The likelihoods of a request's continuations."""
    try:
        if by_echo:
            return await _echoed(request, caller, settings, tokenizer)
        return await _letters(request, caller, settings, tokenizer)
    except Refused as error:
        return Likelihood(error=str(error))
    except Unfit as error:
        raise caller.ends(refusal(error.parameter, str(error))) from None


async def _letters(
    request: LikelihoodRequest, caller: Caller, settings: Settings, tokenizer: Tokenizer | None
) -> Likelihood:
    if any(len(one.strip()) != 1 for one in request.continuations):
        raise Refused(
            "Only answer letters can be read from the likeliest tokens; other continuations need a completions"
            " endpoint that echoes (-M api=completions -M logprobs=echo)."
        )
    sent = body.first_token(request, settings, tokenizer)
    found = await caller.call(sent, body.needs(sent, tokenizer))
    first = reply.first_tokens(reply.choices(found)[0])
    if not first:
        raise Refused("The answer came without log-probabilities; -M logprobs=no has the letters written instead.")
    # Behind a prompt in plain text the letter has the blank of its continuation. A chat's answer begins anew: there
    # "A" and " A" are the same answer, and their probabilities add up.
    loose = settings.api == "chat"
    logprobs = tuple(letter_logprob(one, first, loose=loose) for one in request.continuations)
    # None of the letters among the likeliest tokens is no answer, not a tie.
    known = logprobs if max(logprobs) > NOT_AMONG_THEM else ()
    lengths = (1,) * len(known)
    return Likelihood(logprobs=known, lengths=lengths, usage=_usage(reply.tokens(found)))


def letter_logprob(letter: str, first: Mapping[str, float], *, loose: bool) -> float:
    """The log-probability that the first token is a letter; with ``loose`` whatever blanks are around it."""
    found = [
        logprob
        for token, logprob in first.items()
        if token == letter or (loose and token.strip(" \n\t▁Ġ") == letter.strip())
    ]
    if not found:
        return NOT_AMONG_THEM
    return found[0] if len(found) == 1 else min(0.0, math.log(math.fsum(map(math.exp, found))))


async def _echoed(
    request: LikelihoodRequest, caller: Caller, settings: Settings, tokenizer: Tokenizer | None
) -> Likelihood:
    calls = [(prompt, start) for prompt, start in _prompts(request, tokenizer)]
    bodies = [body.echo(prompt, settings) for prompt, _ in calls]
    async with asyncio.TaskGroup() as group:
        tasks = [group.create_task(_attempt(caller, sent, tokenizer)) for sent in bodies]
    logprobs, lengths, used = [], [], Tokens()
    for task, (prompt, start) in zip(tasks, calls, strict=True):
        found = task.result()
        if isinstance(found, Exception):
            raise found
        read = echoed_logprobs(reply.choices(found)[0], prompt, start)
        if read is None:
            raise caller.ends(
                ModelError("The server does not echo the prompt with log-probabilities: leave -M logprobs=echo out.")
            )
        logprobs.append(math.fsum(read))
        lengths.append(len(read))
        used += reply.tokens(found)
    return Likelihood(logprobs=tuple(logprobs), lengths=tuple(lengths), usage=_usage(used))


async def _attempt(
    caller: Caller, sent: Mapping[str, Any], tokenizer: Tokenizer | None
) -> Mapping[str, Any] | Exception:
    """A reply or the error: a task group would wrap errors and lose the replies beside them."""
    try:
        return await caller.call(sent, body.needs(sent, tokenizer))
    except Exception as error:  # raised again by the reader
        return error


def _prompts(request: LikelihoodRequest, tokenizer: Any) -> list[tuple[str | list[int], int]]:
    """The whole text of each continuation, or its ids, with the place where the continuation begins."""
    if tokenizer is None:
        before = request.prompt + request.answer_prefix
        return [(before + one, len(before)) for one in request.continuations]
    context, continuations = tokenizer.continuation_ids(request)
    return [([*context, *ids], len(context)) for ids in continuations]


def echoed_logprobs(choice: Mapping[str, Any], prompt: str | Sequence[int], start: int) -> list[float] | None:
    """The log-probabilities of the tokens from ``start`` (a character, or an id's place) to the end of the prompt.

    None where the server did not echo. In text, a token that begins before the continuation and ends in it counts.
    """
    logprobs = choice.get("logprobs")
    values = logprobs.get("token_logprobs") if isinstance(logprobs, Mapping) else None
    if not isinstance(logprobs, Mapping) or not isinstance(values, list):
        return None
    if not isinstance(prompt, str):
        # Servers that add no token of their own to ids; the last value is that of the token written behind them.
        found = values[start : len(prompt)] if len(values) >= len(prompt) else None
    else:
        offsets = logprobs.get("text_offset")
        if not isinstance(offsets, list) or not str(choice.get("text", "")).startswith(prompt):
            return None
        ends = [*offsets[1:], len(prompt)]
        found = [
            value
            for value, begin, end in zip(values, offsets, ends, strict=False)
            if begin < len(prompt) and end > start
        ]
    return found if found and all(isinstance(value, int | float) for value in found) else None


def _usage(used: Tokens) -> Usage:
    return Usage(prompt_tokens=used.prompt, completion_tokens=used.completion)
