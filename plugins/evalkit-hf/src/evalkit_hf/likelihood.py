"""Reads how likely continuations are from the last positions of one forward pass."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeAlias

import torch

import evalkit_tokenize
from evalkit.types import Likelihood, LikelihoodRequest

if TYPE_CHECKING:
    from evalkit.backend import Indexed
    from evalkit_hf.batches import Batches
    from evalkit_hf.model import Model
    from evalkit_tokenize import CheckpointTokenizer, Question

#: Continuation -> the natural logarithm of its probability.
Logprobs: TypeAlias = Mapping[tuple[int, ...], float]


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """What the model reads at once: a context and, but for its last token, one continuation of it."""

    index: int
    ids: Sequence[int]
    #: Continuations of one length that can be read from this row's last positions.
    wanted: frozenset[tuple[int, ...]]

    @property
    def steps(self) -> int:
        """How many of the last positions predict a token of a continuation."""
        return max(map(len, self.wanted))


def likelihoods(
    window: Sequence[Indexed[LikelihoodRequest]], model: Model, tokenizer: CheckpointTokenizer, batches: Batches
) -> Iterator[Indexed[Likelihood]]:
    """Yield each request's position with its likelihoods once all continuations are read."""
    questions: dict[int, Question] = {}
    rows: list[Row] = []
    for index, request in window:
        question = evalkit_tokenize.question(request, tokenizer, model.limits)
        if question.problem:
            yield index, Likelihood(error=question.problem)
        elif own := _rows(question, index):
            questions[index] = question
            rows += own
        else:  # only empty continuations, which are certain
            yield index, _answer(question, [])
    missing = Counter(row.index for row in rows)
    read: defaultdict[int, list[Logprobs | str]] = defaultdict(list)
    for row, logprobs in batches.run(rows, lambda batch: score(batch, model)):
        read[row.index].append(logprobs)
        if len(read[row.index]) == missing[row.index]:
            yield row.index, _answer(questions.pop(row.index), read.pop(row.index))


def _rows(question: Question, index: int) -> list[Row]:
    """One row where every continuation is one token, else one for each different continuation."""
    context, distinct = question.context, frozenset(ids for ids in question.continuations if ids)
    if distinct and all(len(ids) == 1 for ids in distinct):
        return [Row(index=index, ids=context, wanted=distinct)]
    return [Row(index=index, ids=[*context, *ids[:-1]], wanted=frozenset({ids})) for ids in sorted(distinct)]


def score(rows: Sequence[Row], model: Model) -> list[Logprobs]:
    """The log-probability of every continuation that each row can tell."""
    ids, mask = model.pad([row.ids for row in rows])
    logits, _ = model.last_logits(ids, mask, keep=max(row.steps for row in rows))
    return [_read(row, logits[position, -row.steps :]) for position, row in enumerate(rows)]


def _read(row: Row, logits: torch.Tensor) -> Logprobs:
    """Sum a row's log-probabilities from logits of shape (steps, vocabulary)."""
    wanted = sorted(row.wanted)
    # Shape (steps, continuations).
    tokens = torch.tensor(wanted, device=logits.device).T
    logprobs = logits.gather(-1, tokens) - logits.logsumexp(-1, keepdim=True)
    return dict(zip(wanted, logprobs.sum(0).tolist(), strict=True))


def _answer(question: Question, read: Sequence[Logprobs | str]) -> Likelihood:
    known: dict[tuple[int, ...], float] = {}
    for logprobs in read:
        if isinstance(logprobs, str):
            return Likelihood(error=logprobs)
        known.update(logprobs)
    return question.answer(known)
