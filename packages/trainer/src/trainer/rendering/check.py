"""Proves of a file of conversations that exactly what the assistant says is learnt, by reading the tokens back."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from itertools import groupby, islice
from pathlib import Path
from typing import NamedTuple

from trainer.conversation import Conversation, parse
from trainer.errors import DataError
from trainer.rendering import tulu1
from trainer.rendering.render import Renderer
from trainer.rendering.rendered import Reason, Rendered
from trainer.rendering.template import Tulu
from trainer.rendering.tokenizer import Tokenizer

#: Conversations that are encoded together: enough for all cores, few enough to be forgotten soon.
BATCH = 512

#: Tokens in front of a span that are decoded with it: a decoder may drop the blank before its first word.
TAIL = 8


class Failure(NamedTuple):
    """One thing that is wrong with one conversation."""

    #: ``data.jsonl:17``
    where: str
    reason: str

    def __str__(self) -> str:
        return f"{self.where}: {self.reason}"


@dataclass(slots=True, kw_only=True)
class Findings:
    """What was found in a file; the lists hold ids of conversations."""

    conversations: int = 0
    tokens: int = 0
    learnt: int = 0
    #: Pieces of learnt text that were read back and compared.
    spans: int = 0
    failures: list[Failure] = field(default_factory=list)
    #: Encoded in two parts, because a token would have reached across the edge of what is learnt.
    split: list[str] = field(default_factory=list)
    #: A message holds the text of a special token, which is encoded as that token.
    special: list[str] = field(default_factory=list)
    #: Longer than the limit; and so long that nothing learnt is left.
    cut: list[str] = field(default_factory=list)
    emptied: list[str] = field(default_factory=list)
    #: The assistant says nothing in it.
    silent: list[str] = field(default_factory=list)


class _Span(NamedTuple):
    """A range of tokens that are learnt, and the text that they should be."""

    where: str
    ids: list[int]
    #: The few tokens in front of it.
    before: list[int]
    wanted: str


def check(
    path: Path,
    renderer: Renderer,
    *,
    max_length: int | None = None,
    progress: Callable[[int], object] = lambda _: None,
) -> Findings:
    """Check every line of a file of conversations; ``progress`` is told how many bytes were read.

    ``renderer`` must not cut; what is longer than ``max_length`` is counted. Encoding and decoding use all cores,
    unless TOKENIZERS_PARALLELISM is ``false``. Raises DataError where the file cannot be read.
    """
    found = Findings()
    lines = _lines(path)
    while batch := list(islice(lines, BATCH)):
        read = [one for number, line in batch for one in _parsed(line, path, number, found)]
        spans: list[_Span] = []
        for (where, conversation), rendered in _rendered(read, renderer, found):
            _count(conversation, rendered, renderer.tokenizer, max_length, found)
            spans += _spans(where, conversation, rendered, renderer, found)
        _compare(spans, renderer, found)
        progress(sum(len(line) for _, line in batch))
    return found


def _lines(path: Path) -> Iterator[tuple[int, bytes]]:
    try:
        with path.open("rb") as file:
            yield from enumerate(file, start=1)
    except OSError as error:
        raise DataError(f"{path} cannot be read: {error.strerror}.") from None


def _parsed(line: bytes, path: Path, number: int, found: Findings) -> Iterator[tuple[str, Conversation]]:
    where = f"{path.name}:{number}"
    try:
        if line.strip():
            yield where, parse(line, where=where, dataset=path.stem, number=number)
    except DataError as error:
        found.failures.append(Failure(where, str(error).removeprefix(f"{where}: ")))


def _rendered(
    read: list[tuple[str, Conversation]], renderer: Renderer, found: Findings
) -> Iterator[tuple[tuple[str, Conversation], Rendered]]:
    """The lines with what they become; where a batch fails, each for itself."""
    try:
        yield from zip(read, renderer.render_batch([one for _, one in read]), strict=True)
    except DataError:
        for where, one in read:
            try:
                yield (where, one), renderer.render(one)
            except DataError as error:
                found.failures.append(Failure(where, str(error)))


def _count(
    conversation: Conversation, rendered: Rendered, tokenizer: Tokenizer, max_length: int | None, found: Findings
) -> None:
    import numpy as np

    learnt = int(np.count_nonzero(rendered.supervised))
    found.conversations += 1
    found.tokens += len(rendered.ids)
    found.learnt += learnt
    contents = (rendered.reasons >= Reason.SYSTEM) & (rendered.reasons <= Reason.ASSISTANT)
    if np.isin(rendered.ids[contents], tokenizer.special_ids).any():
        found.special.append(conversation.id)
    if rendered.split:
        found.split.append(conversation.id)
    if max_length is not None and len(rendered.ids) > max_length:
        found.cut.append(conversation.id)
        if learnt and not rendered.supervised[:max_length].any():
            found.emptied.append(conversation.id)
    if not learnt:
        found.silent.append(conversation.id)


def _spans(
    where: str, conversation: Conversation, rendered: Rendered, renderer: Renderer, found: Findings
) -> list[_Span]:
    """The learnt ranges of an example beside the texts of its assistant, as many of one as of the other."""
    ranges = _ranges(rendered, apart=renderer.template.name != tulu1.NAME)
    wanted = _wanted(conversation, renderer)
    if len(ranges) != len(wanted):
        found.failures.append(
            Failure(where, f"{len(wanted)} pieces of text are to be learnt, but the mask has {len(ranges)}.")
        )
        return []
    ids = rendered.ids.tolist()
    return [
        _Span(where, ids[start:end], ids[max(0, start - TAIL) : start], text)
        for (start, end), text in zip(ranges, wanted, strict=True)
    ]


def _ranges(rendered: Rendered, *, apart: bool) -> list[tuple[int, int]]:
    """The half-open ranges of learnt tokens; what follows an EOS begins a new one if they are to be kept apart."""
    import numpy as np

    learnt = rendered.supervised & (rendered.reasons != Reason.BOS)
    edges = np.flatnonzero(np.diff(learnt.astype(np.int8), prepend=0, append=0))
    if apart:
        ended = learnt[1:] & learnt[:-1] & (rendered.reasons[:-1] == Reason.EOS) & (rendered.reasons[1:] != Reason.EOS)
        edges = np.sort(np.concatenate([edges, np.repeat(np.flatnonzero(ended) + 1, 2)]))
    return list(zip(edges[::2].tolist(), edges[1::2].tolist(), strict=True))


def _wanted(conversation: Conversation, renderer: Renderer) -> list[str]:
    """What the assistant says, each with the EOS that has to be learnt where the template is ours."""
    eos = renderer.tokenizer.eos
    if renderer.template.name == tulu1.NAME:
        return _wanted_of_2023(conversation, eos)
    ending = eos if isinstance(renderer.template, Tulu) else ""
    return [one.content.strip() + ending for one in conversation.messages if one.role == "assistant"]


def _wanted_of_2023(conversation: Conversation, eos: str) -> list[str]:
    """Runs of assistant messages with their newlines, and with all markers but the one behind another's message."""
    runs: list[str] = []
    first = True
    for is_assistant, messages in groupby(conversation.messages, key=lambda one: one.role == "assistant"):
        if is_assistant:
            text = "".join(f"<|assistant|>\n{one.content.strip()}{eos}\n" for one in messages)
            runs.append(text if first else text.removeprefix("<|assistant|>\n"))
        first = False
    if runs and conversation.messages[-1].role == "assistant":
        runs[-1] = runs[-1].rstrip()
    return runs


def _compare(spans: list[_Span], renderer: Renderer, found: Findings) -> None:
    """Decode what is learnt and hold it against what should be."""
    tokenizer = renderer.tokenizer
    texts = _decoded(spans, tokenizer)
    own = not isinstance(renderer.template, Tulu)
    for span, text in zip(spans, texts, strict=True):
        found.spans += 1
        ending = tokenizer.decode(span.ids[-1:]) if own else tokenizer.eos
        ids = span.ids[:-1] if text.endswith("\n") and renderer.template.name == tulu1.NAME else span.ids
        if ids[-1] not in (tokenizer.special_ids if own else (tokenizer.eos_id,)):
            found.failures.append(
                Failure(span.where, f"what is learnt ends with {text[-20:]!r} and not with {ending!r}.")
            )
        got = text.removesuffix(ending).strip() if own else text
        if not _same(got, span.wanted, tokenizer):
            found.failures.append(Failure(span.where, _difference(span.wanted, got)))


def _decoded(spans: list[_Span], tokenizer: Tokenizer) -> list[str]:
    """The texts of spans, with the blanks that a decoder drops at the beginning of all that it is given."""
    decode = tokenizer.fast.decode_batch
    before = decode([one.before for one in spans], skip_special_tokens=False)
    both = decode([one.before + one.ids for one in spans], skip_special_tokens=False)
    return [whole.removeprefix(head) for whole, head in zip(both, before, strict=True)]


def _same(got: str, wanted: str, tokenizer: Tokenizer) -> bool:
    """Whether texts are equal, but for what the tokenizer itself changes in a text."""
    if got == wanted:
        return True
    wanted = tokenizer.seen(wanted)
    # LLaMA's published tokenizer puts a blank behind a special token, also behind one in the midst of a message.
    blank = re.compile(rf"({'|'.join(map(re.escape, tokenizer.added)) or '(?!)'}) ")
    return wanted in (got, blank.sub(r"\1", got))


def _difference(wanted: str, got: str) -> str:
    """Where two texts part."""
    place = next(
        (place for place, (a, b) in enumerate(zip(wanted, got, strict=False)) if a != b), min(len(wanted), len(got))
    )
    start = max(0, place - 20)
    return (
        f"at character {place} of what the assistant says expected {wanted[start : place + 20]!r},"
        f" but what is learnt reads {got[start : place + 20]!r}."
    )
