"""Counts files of conversations as the paper's Table 1 does, and what training would make of them."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, TypeAlias

import numpy as np

from trainer.conversation import Conversation
from trainer.errors import DataError
from trainer.mixing.mixture import Part
from trainer.mixing.survey import Line, Reading, Tell
from trainer.preparation.prepared import Count

if TYPE_CHECKING:
    from trainer.rendering.render import Renderer
    from trainer.rendering.rendered import Rendered

#: Ends of the bins of lengths, in tokens; the last bin is open.
EDGES = (64, 128, 256, 512, 1024, 2048, 4096)
#: Rejected conversations that are told; all are counted.
TOLD = 5
#: Conversations that are counted together; decides nothing but speed and memory.
_BATCH = 512

#: The lengths of texts.
Measure: TypeAlias = Callable[[Sequence[str]], list[int]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Statistics:
    """What was counted of a dataset, or of all; two of them can be added."""

    instances: int = 0
    #: All of them, system messages included.
    messages: int = 0
    users: int = 0
    assistants: int = 0
    #: Lengths of what users and the assistant say, in tokens or words.
    prompt_length: int = 0
    completion_length: int = 0
    #: What training reads of it; nothing where there is no tokenizer.
    count: Count = field(default_factory=Count)
    #: Examples by their length before the limit cuts them, by ``EDGES``; shape (8,).
    lengths: tuple[int, ...] = (0,) * (len(EDGES) + 1)
    #: Conversations that cannot be rendered exactly.
    rejected: int = 0

    def __add__(self, other: Statistics) -> Statistics:
        sums = {name: getattr(self, name) + getattr(other, name) for name in self.__slots__ if name not in ("lengths",)}
        lengths = tuple(a + b for a, b in zip(self.lengths, other.lengths, strict=True))
        return Statistics(**sums, lengths=lengths)

    @property
    def rounds(self) -> float:
        """Half the messages of an instance, on average (Table 1)."""
        return self.messages / 2 / self.instances if self.instances else 0.0

    @property
    def prompt(self) -> float:
        """The mean length of a user's message, over messages and not over instances (Table 1)."""
        return self.prompt_length / self.users if self.users else 0.0

    @property
    def completion(self) -> float:
        """The mean length of an assistant's message, over messages (Table 1)."""
        return self.completion_length / self.assistants if self.assistants else 0.0

    @property
    def supervised_share(self) -> float:
        """The part of the tokens that is learnt."""
        return self.count.supervised / self.count.tokens if self.count.tokens else 0.0

    def longer_than(self, edge: int) -> int:
        """Examples of more than ``edge`` tokens, one of ``EDGES``."""
        return sum(self.lengths[EDGES.index(edge) + 1 :])

    def steps(self, batch: int) -> int:
        """Optimizer steps of an epoch; the last one may be smaller."""
        return -(-self.count.examples // batch)


@dataclass(frozen=True, slots=True, kw_only=True)
class Counted:
    """The statistics of files of conversations."""

    #: By dataset, in the order in which they first occur.
    datasets: dict[str, Statistics]
    #: The first conversations that cannot be rendered, each with its place and the reason.
    first_rejected: tuple[str, ...]

    @property
    def total(self) -> Statistics:
        """All datasets together."""
        return sum(self.datasets.values(), Statistics())


def words(texts: Sequence[str]) -> list[int]:
    """Words between white space: what can be counted without a tokenizer."""
    return [len(text.split()) for text in texts]


def tokens(renderer: Renderer) -> Measure:
    """Counts tokens as Table 1 does: of each text alone, as it stands, without special tokens around it."""
    fast = renderer.tokenizer.fast
    return lambda texts: [len(one) for one in fast.encode_batch_fast(list(texts), add_special_tokens=False)]


def count(
    files: Iterable[Path], measure: Measure, renderer: Renderer | None = None, *, tell: Tell = lambda _: None
) -> Counted:
    """Count files of conversations; memory holds a few hundred conversations at a time.

    ``measure`` gives the lengths for Table 1; with a renderer it is also counted what training reads. Raises DataError
    with file and line where a line is no conversation; one that cannot be rendered is counted as rejected.
    """
    tallies: dict[str, _Tally] = {}
    told: list[str] = []
    lines = _lines(files, tell)
    while batch := list(islice(lines, _BATCH)):
        conversations = [line.conversation() for line in batch]
        rendered = _render(batch, conversations, renderer, told) if renderer else []
        lengths = iter(measure([message.content for one in conversations for message in one.messages]))
        for one in conversations:
            tallies.setdefault(one.dataset, _Tally()).add_texts(one, lengths)
        for one, example in zip(conversations, rendered, strict=False):
            tallies[one.dataset].add_example(example)
    return Counted(datasets={name: one.frozen() for name, one in tallies.items()}, first_rejected=tuple(told[:TOLD]))


def _lines(files: Iterable[Path], tell: Tell) -> Iterator[Line]:
    for file in files:
        yield from Reading(Part(name=file.stem, path=file), tell)


class _Tally:
    """What was counted of a dataset so far."""

    def __init__(self) -> None:
        self.instances = self.rejected = 0
        self.said = {"system": [0, 0], "user": [0, 0], "assistant": [0, 0]}
        self.examples = self.tokens = self.supervised = self.dropped = self.truncated = self.cut = self.split = 0
        self.lengths = [0] * (len(EDGES) + 1)

    def add_texts(self, conversation: Conversation, lengths: Iterator[int]) -> None:
        """Count a conversation for Table 1; takes the lengths of its messages."""
        self.instances += 1
        for message in conversation.messages:
            number_and_length = self.said[message.role]
            number_and_length[0] += 1
            number_and_length[1] += next(lengths)

    def add_example(self, example: Rendered | None) -> None:
        """Count what a conversation becomes; None is one that cannot be rendered."""
        if example is None:
            self.rejected += 1
            return
        self.lengths[bisect_left(EDGES, len(example.ids) + example.truncated)] += 1
        supervised = int(np.count_nonzero(example.supervised))
        if not supervised:
            self.dropped += 1
            return
        self.examples += 1
        self.tokens += len(example.ids)
        self.supervised += supervised
        self.truncated += example.truncated > 0
        self.cut += example.truncated
        self.split += example.split

    def frozen(self) -> Statistics:
        """The numbers as they stand."""
        (users, prompt_length), (assistants, completion_length) = self.said["user"], self.said["assistant"]
        return Statistics(
            instances=self.instances,
            messages=sum(number for number, _ in self.said.values()),
            users=users,
            assistants=assistants,
            prompt_length=prompt_length,
            completion_length=completion_length,
            count=Count(
                examples=self.examples,
                tokens=self.tokens,
                supervised=self.supervised,
                dropped=self.dropped,
                truncated=self.truncated,
                cut=self.cut,
                split=self.split,
            ),
            lengths=tuple(self.lengths),
            rejected=self.rejected,
        )


def _render(
    lines: Sequence[Line], conversations: Sequence[Conversation], renderer: Renderer, told: list[str]
) -> list[Rendered | None]:
    """Render all at once, or where that fails one by one, to find those at fault."""
    try:
        return list(renderer.render_batch(conversations))
    except DataError:
        made: list[Rendered | None] = []
        for line, one in zip(lines, conversations, strict=True):
            try:
                made.append(renderer.render(one))
            except DataError as error:
                told.append(f"{line.where}: {error}")
                made.append(None)
        return made
