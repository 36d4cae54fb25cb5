"""Writes answers token by token: greedy or sampled, each row with its own limits and stop strings."""

from __future__ import annotations

import random
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import torch

import evalkit_tokenize
from evalkit.types import GenerateRequest, Generation, Text, Usage
from evalkit_hf.model import Model, Rollout

if TYPE_CHECKING:
    from evalkit.backend import Indexed
    from evalkit_hf.batches import Batches
    from evalkit_tokenize import CheckpointTokenizer


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """One of the texts that a request asks for."""

    index: int
    request: GenerateRequest
    #: Which of the request's ``n`` texts.
    sample: int
    ids: Sequence[int]
    #: The most tokens to write: what the request allows and the context leaves.
    room: int


@dataclass(slots=True, kw_only=True)
class Draft:
    """The tokens that a row has so far."""

    row: Row
    random: random.Random
    ids: list[int] = field(default_factory=list)
    #: How it ended, ``stop`` or ``length``; empty while it goes on.
    finish: str = ""
    error: str = ""

    @property
    def ended(self) -> bool:
        """Whether no token is to come."""
        return bool(self.finish or self.error)


def generations(
    window: Sequence[Indexed[GenerateRequest]], model: Model, tokenizer: CheckpointTokenizer, batches: Batches
) -> Iterator[Indexed[Generation]]:
    """Yield each request's position with its texts once all of them are written."""
    rows: list[Row] = []
    for index, request in window:
        prompt = evalkit_tokenize.prompt(request, tokenizer, model.limits)
        if prompt.problem:
            yield index, Generation(texts=(Text(error=prompt.problem),) * request.n)
            continue
        ids, room = prompt.ids, prompt.room
        rows += [Row(index=index, request=request, sample=k, ids=ids, room=room) for k in range(request.n)]
    done: defaultdict[int, dict[int, tuple[Text, int]]] = defaultdict(dict)
    for row, answer in batches.run(rows, lambda batch: write(batch, model, tokenizer)):
        texts = done[row.index]
        texts[row.sample] = (Text(error=answer), 0) if isinstance(answer, str) else answer
        if len(texts) == row.request.n:
            yield row.index, _together(row, done.pop(row.index))


def _together(row: Row, texts: Mapping[int, tuple[Text, int]]) -> Generation:
    ordered = [texts[sample] for sample in sorted(texts)]
    usage = Usage(prompt_tokens=len(row.ids), completion_tokens=sum(tokens for _, tokens in ordered))
    return Generation(texts=tuple(text for text, _ in ordered), usage=usage)


def write(rows: Sequence[Row], model: Model, tokenizer: CheckpointTokenizer) -> list[tuple[Text, int]]:
    """The text of each row with the number of its tokens."""
    drafts = [
        Draft(row=row, random=random.Random(evalkit_tokenize.seed(row.ids, row.request.seed, row.sample)))
        for row in rows
    ]
    rollout = Rollout(model, [row.ids for row in rows])
    live = drafts
    while True:
        for draft, token in zip(live, choose(rollout.logits, live), strict=True):
            _take(draft, token, model.limits.eos, tokenizer)
        kept = [position for position, draft in enumerate(live) if not draft.ended]
        if not kept:
            return [(_text(draft, tokenizer), len(draft.ids)) for draft in drafts]
        if len(kept) < len(live):
            rollout.keep(kept)
            live = [live[position] for position in kept]
        rollout.append([draft.ids[-1] for draft in live])


def choose(logits: torch.Tensor, drafts: Sequence[Draft]) -> list[int | None]:
    """The next token of each draft from logits of shape (rows, vocabulary); None where they are not numbers."""
    tokens: list[int | None] = logits.argmax(-1).tolist()
    sampled = [position for position, draft in enumerate(drafts) if draft.row.request.temperature > 0]
    if sampled:
        drawn = sample(logits[sampled], [drafts[position] for position in sampled])
        for position, token in zip(sampled, drawn, strict=True):
            tokens[position] = token
    broken = logits.isnan().any(-1).tolist()
    return [None if bad else token for token, bad in zip(tokens, broken, strict=True)]


def sample(logits: torch.Tensor, drafts: Sequence[Draft]) -> list[int]:
    """Draw a token for each draft by its own temperature, top-p and random numbers.

    One number a row decides where on the cumulated probabilities it lands, so a row's text does not depend on the
    rows that share its batch.
    """

    def column(values: list[float]) -> torch.Tensor:
        return torch.tensor(values, device=logits.device, dtype=torch.float32).unsqueeze(-1)

    temperature = column([draft.row.request.temperature for draft in drafts])
    top_p = column([draft.row.request.top_p for draft in drafts])
    luck = column([draft.random.random() for draft in drafts])
    # Below their maximum first: a temperature near 0 would make infinities of them.
    probabilities = ((logits - logits.amax(-1, keepdim=True)) / temperature).softmax(-1)
    probabilities, order = probabilities.sort(dim=-1, descending=True, stable=True)
    before = probabilities.cumsum(-1) - probabilities
    nucleus = before < top_p
    mass = (probabilities * nucleus).sum(-1, keepdim=True)
    place = ((before <= luck * mass) & nucleus).sum(-1, keepdim=True).clamp(min=1) - 1
    drawn: list[int] = order.gather(-1, place).squeeze(-1).tolist()
    return drawn


def _take(draft: Draft, token: int | None, eos: frozenset[int], tokenizer: CheckpointTokenizer) -> None:
    """Add a token to a draft, and see whether that ends it."""
    if token is None:
        draft.error = evalkit_tokenize.NOT_NUMBERS
        return
    if token in eos:
        draft.finish = "stop"
        return
    draft.ids.append(token)
    if _meets_stop(draft, tokenizer):
        draft.finish = "stop"
    elif len(draft.ids) >= draft.row.room:
        draft.finish = "length"


def _meets_stop(draft: Draft, tokenizer: CheckpointTokenizer) -> bool:
    stops = draft.row.request.stop
    if not stops:
        return False
    # A token holds a byte at least, so the string that the newest token completes lies within these last ones.
    reach = max(len(stop.encode()) for stop in stops) + 4
    begin = max(len(draft.ids) - reach, 0)
    recent = tokenizer.text_after([*draft.row.ids, *draft.ids[:begin]], draft.ids[begin:])
    return any(stop in recent for stop in stops)


def _text(draft: Draft, tokenizer: CheckpointTokenizer) -> Text:
    if draft.error:
        return Text(error=draft.error)
    row = draft.row
    return evalkit_tokenize.text(row.ids, draft.ids, stop=row.request.stop, finish=draft.finish, by=tokenizer)
