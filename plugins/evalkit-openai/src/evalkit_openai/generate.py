"""Answers a GenerateRequest: as many calls as it takes to have ``n`` texts."""

from __future__ import annotations

from evalkit.backend import Tokenizer
from evalkit.prompts import seed_of
from evalkit.types import GenerateRequest, Generation, Text, Usage
from evalkit_openai import body, reply
from evalkit_openai.caller import Caller
from evalkit_openai.fault import Refused, Unfit
from evalkit_openai.prices import Tokens
from evalkit_openai.settings import Settings, refusal


async def generation(
    request: GenerateRequest, caller: Caller, settings: Settings, tokenizer: Tokenizer | None
) -> Generation:
    """The texts that answer a request; what the server refuses for good is the error of each."""
    texts: list[Text] = []
    used = Tokens()
    while len(texts) < request.n:
        wanted = min(request.n - len(texts), caller.most_texts)
        # A server may number the samples of a call from its seed on, so each call has one of its own.
        seed = request.seed if not texts else seed_of(request.seed, str(len(texts)))
        sent = body.generate(request, settings, tokenizer, n=wanted, seed=seed)
        try:
            found = await caller.call(sent, body.needs(sent, tokenizer))
        except Refused as error:
            return Generation(texts=(Text(error=str(error)),) * request.n, usage=_usage(used))
        except Unfit as error:
            if error.parameter != "n" or wanted == 1:
                raise caller.ends(refusal(error.parameter, str(error))) from None
            caller.most_texts = min(caller.most_texts, wanted - wanted // 2)
            continue
        # Some servers give one text however many are asked for, and none gives more than that.
        texts += [reply.text(choice, request) for choice in reply.choices(found)][:wanted]
        used += reply.tokens(found)
    return Generation(texts=tuple(texts), usage=_usage(used))


def _usage(used: Tokens) -> Usage:
    return Usage(prompt_tokens=used.prompt, completion_tokens=used.completion)
