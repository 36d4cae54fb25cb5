"""What is sent: a request as the JSON body of either endpoint."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from evalkit.backend import Tokenizer
from evalkit.types import GenerateRequest, Request
from evalkit_openai.prices import Tokens
from evalkit_openai.settings import Settings

#: The most stop strings that OpenAI's API takes; texts are cut at all of them here anyway.
MOST_STOPS = 4
#: Bytes of a prompt for a token, where no tokenizer counts them: few, so that a budget is not overrun.
BYTES_PER_TOKEN = 2.5


def generate(
    request: GenerateRequest, settings: Settings, tokenizer: Tokenizer | None, *, n: int, seed: int
) -> dict[str, Any]:
    """Ask for ``n`` texts."""
    body = _prompt(request, settings, tokenizer) | {
        "max_tokens": request.max_tokens,
        "temperature": request.temperature,
    }
    if request.top_p != 1:
        body["top_p"] = request.top_p
    if request.temperature > 0:
        body["seed"] = seed
    if n > 1:
        body["n"] = n
    if request.stop:
        body["stop"] = list(request.stop[:MOST_STOPS])
    return {name: value for name, value in body.items() if name not in settings.drop}


def first_token(request: Request, settings: Settings, tokenizer: Tokenizer | None) -> dict[str, Any]:
    """Ask for the likeliest first tokens of the answer; at temperature 1 they are the model's own."""
    chat = settings.api == "chat"
    logprobs: Mapping[str, Any] = {"logprobs": True, "top_logprobs": 20} if chat else {"logprobs": 5}
    body = _prompt(request, settings, tokenizer) | {"max_tokens": 1, "temperature": 1.0, **logprobs}
    return {name: value for name, value in body.items() if name not in settings.drop}


def echo(prompt: str | list[int], settings: Settings) -> dict[str, Any]:
    """Ask a completions endpoint for the log-probabilities of the prompt itself."""
    return {
        "model": settings.model,
        "prompt": prompt,
        # Some servers take 0 for no limit; the one token more is left out when the answer is read.
        "max_tokens": 1,
        "temperature": 0.0,
        "echo": True,
        "logprobs": 1,
    }


def needs(body: Mapping[str, Any], tokenizer: Tokenizer | None) -> Tokens:
    """The most tokens that a body is expected to use; the most it can write is certain, the prompt is estimated."""
    prompt = body.get("prompt")
    if prompt is None:
        texts = [str(turn["content"]) for turn in body["messages"]]
    else:
        texts = [prompt] if isinstance(prompt, str) else []
    if tokenizer is not None:
        count = sum(map(tokenizer.count, texts))
    else:
        count = sum(int(len(text.encode("utf-8", "replace")) / BYTES_PER_TOKEN) for text in texts)
    count += len(prompt) if isinstance(prompt, list) else 16
    return Tokens(prompt=count, completion=int(body.get("max_tokens", 4096)) * int(body.get("n", 1)))


def _prompt(request: Request, settings: Settings, tokenizer: Tokenizer | None) -> dict[str, Any]:
    if settings.api == "chat":
        turns = _turns(request, settings)
        body: dict[str, Any] = {"model": settings.model, "messages": turns}
        return body
    # Ids rather than text: the server would add a BOS of its own to a rendered template.
    prompt = request.prompt + request.answer_prefix if tokenizer is None else tokenizer.prompt_ids(request)
    return {"model": settings.model, "prompt": prompt}


def _turns(request: Request, settings: Settings) -> list[dict[str, str]]:
    """The prompt as a chat; raw text is one turn of the user's, as a chat endpoint knows nothing else."""
    prompt, begin = request.prompt, request.answer_prefix
    if not request.chat or not begin:
        return [{"role": "user", "content": prompt + begin}]
    if settings.prefix == "assistant":
        return [{"role": "user", "content": prompt}, {"role": "assistant", "content": begin}]
    return [{"role": "user", "content": f"{prompt}\n{begin}"}]
