"""Rendering: ids, reasons and what is learnt, made together from a template's segments."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import replace
from itertools import pairwise
from typing import TYPE_CHECKING, Any, NamedTuple

import trainer.rendering.template
import trainer.rendering.tokenizer
from trainer.conversation import Conversation
from trainer.errors import DataError
from trainer.rendering import bytewise, tulu1
from trainer.rendering.rendered import Reason, Rendered
from trainer.rendering.template import Pair, Segment, Template
from trainer.rendering.tokenizer import Tokenizer

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

#: Raised whenever the same segments could become other ids, reasons or labels.
VERSION = 1

#: The bit that joins a Reason where its tokens are learnt; reasons themselves need three.
LEARNT = 128


class Renderer:
    """Turns conversations into what a model reads; pickles cheaply, so that worker processes can be given one.

    The whole text is encoded once; offsets tell which segment a token comes from. No marker string is ever searched
    for, so nothing that stands in a message can move the mask. Where a token would reach across the edge of what is
    learnt, the text is encoded in two parts there, and the example says so (``Rendered.split``).
    """

    def __init__(self, tokenizer: Tokenizer, template: Template, *, max_length: int | None = None) -> None:
        self.tokenizer = tokenizer
        self.template = template
        self.max_length = max_length
        #: None where offsets must tell to which segment a token belongs.
        self._sizes = bytewise.lengths(tokenizer.fast)

    @property
    def fingerprint(self) -> str:
        """SHA-256 of all that decides what an example becomes: tokenizer, template, length limit, this code."""
        parts = (self.tokenizer.fingerprint, self.template.fingerprint, str(self.max_length), str(VERSION))
        return hashlib.sha256("\0".join(parts).encode()).hexdigest()

    def render(self, conversation: Conversation) -> Rendered:
        """One conversation."""
        return self.render_batch([conversation])[0]

    def render_batch(self, conversations: Sequence[Conversation]) -> list[Rendered]:
        """A batch, in order; raises DataError naming the conversation that cannot be rendered exactly."""
        examples = [self.template.segments(one) for one in conversations]
        made = self._render(examples, [f"Conversation {one.id} of {one.dataset}" for one in conversations])
        if self._is_tulu1:
            made = tulu1.masked(made, tulu1.spans(conversations, self.tokenizer))
        return [self._truncated(one) for one in made]

    def render_pairs(self, pairs: Sequence[Pair]) -> list[Rendered]:
        """A batch of prompts with their completions, which no template is put around."""
        made = self._render([one.segments(self.tokenizer.eos) for one in pairs], [f"Example {one.id}" for one in pairs])
        if self._is_tulu1:
            made = tulu1.masked(made, tulu1.spans_of_pairs(pairs, self.tokenizer))
        return [self._truncated(one) for one in made]

    @property
    def _is_tulu1(self) -> bool:
        return self.template.name == tulu1.NAME

    def _render(self, examples: list[list[Segment]], names: list[str]) -> list[Rendered]:
        import numpy as np

        examples = [[one for one in segments if one.text] for segments in examples]
        texts = ["".join([one.text for one in segments]) for segments in examples]
        ids: list[int] = []
        codes: list[int] = []
        counts: list[int] = []
        ends, splits = [0], []
        # Numbers are gathered in lists and become arrays once a batch: arrays by the example cost more than encoding.
        for segments, parts in zip(examples, self._parts_of_all(examples, texts, names), strict=True):
            leading = self._leading(segments)
            ids += leading
            codes.append(Reason.BOS)
            counts.append(len(leading))
            for part in parts:
                ids += part.ids
                codes += part.codes
                counts += part.counts
            ends.append(len(ids))
            splits.append(len(parts) > 1)
        every = np.asarray(ids, np.int32)
        coded: NDArray[np.uint8] = np.repeat(np.asarray(codes, np.uint8), counts)
        reasons, supervised = coded & (LEARNT - 1), coded >= LEARNT
        return [
            Rendered(ids=every[a:b], reasons=reasons[a:b], supervised=supervised[a:b], split=split)
            for (a, b), split in zip(pairwise(ends), splits, strict=True)
        ]

    def _parts_of_all(self, examples: list[list[Segment]], texts: list[str], names: list[str]) -> Iterator[list[_Part]]:
        encodings = self._encode(texts, names)
        if self._sizes is None:
            yield from map(self._parts, examples, encodings)
            return
        ids = [one.ids for one in encodings]
        normalizes = self.tokenizer.fast.normalizer is not None
        counted = bytewise.counts(examples, texts, ids, self._sizes, normalizes=normalizes)
        for place, counts in enumerate(counted):
            if counts is None:
                encoding = self.tokenizer.fast.encode(texts[place], add_special_tokens=False)
                yield self._parts(examples[place], encoding)
            else:
                yield [_Part(ids[place], _codes(examples[place]), counts)]

    def _encode(self, texts: list[str], names: list[str]) -> list[Any]:
        """The encodings of a batch; without offsets where the bytes of tokens stand for them."""
        fast = self.tokenizer.fast
        encode = fast.encode_batch if self._sizes is None else fast.encode_batch_fast
        try:
            return list(encode(texts, add_special_tokens=False))
        except Exception:  # what a tokenizer raises says nothing about which text it was
            for text, name in zip(texts, names, strict=True):
                _refuse_halves(text, name)
            raise

    def _parts(self, segments: list[Segment], encoding: Any) -> list[_Part]:
        """The example in one part, or in as many as keep what is learnt apart from what is not."""
        part, crossed = _aligned(segments, encoding)
        if not crossed or self._is_tulu1:
            return [part]
        cuts = {0, len(segments)}
        while crossed:
            cuts.update(crossed)
            parts, crossed = [], []
            for start, end in pairwise(sorted(cuts)):
                fast = self.tokenizer.inner if start else self.tokenizer.fast
                text = "".join(one.text for one in segments[start:end])
                part, more = _aligned(segments[start:end], fast.encode(text, add_special_tokens=False))
                parts.append(part)
                crossed += [start + place for place in more]
        return parts

    def _leading(self, segments: list[Segment]) -> tuple[int, ...]:
        """The BOS to put in front: none where the template wrote it already; a message cannot write it."""
        return () if segments and segments[0].reason is Reason.BOS else self.tokenizer.leading

    def _truncated(self, one: Rendered) -> Rendered:
        limit = self.max_length
        if limit is None or len(one.ids) <= limit:
            return one
        return replace(
            one,
            ids=one.ids[:limit],
            reasons=one.reasons[:limit],
            supervised=one.supervised[:limit],
            truncated=len(one.ids) - limit,
            truncated_supervised=int(one.supervised[limit:].sum()),
        )


def load(tokenizer: str, *, template: str = "tulu", max_length: int | None = None) -> Renderer:
    """A renderer for a tokenizer's folder or hub id; raises TokenizerError, UnknownName or TrainerError."""
    loaded = trainer.rendering.tokenizer.load(tokenizer)
    return Renderer(loaded, trainer.rendering.template.load(template, loaded), max_length=max_length)


class _Part(NamedTuple):
    """Text that is encoded at once: its ids, and for each of its segments the code and the number of tokens."""

    ids: list[int]
    codes: list[int]
    counts: list[int]


def _aligned(segments: list[Segment], encoding: Any) -> tuple[_Part, list[int]]:
    """The tokens of each segment, and the places of segments into which a token reaches across the edge of the learnt.

    A token belongs to the segment in which it begins.
    """
    ids = encoding.ids
    bounds = [0]
    crossed: list[int] = []
    position = 0
    for place, (before, segment) in enumerate(pairwise(segments), start=1):
        position += len(before.text)
        first, across = _first_token(encoding, position, position + len(segment.text), len(ids))
        # A segment that the normalizer drops whole has no token, and begins where the one before it began at least.
        bounds.append(max(first, bounds[-1]))
        if across and before.learnt != segment.learnt:
            crossed.append(place)
    bounds.append(len(ids))
    return _Part(ids, _codes(segments), [b - a for a, b in pairwise(bounds)][: len(segments)]), crossed


def _codes(segments: list[Segment]) -> list[int]:
    return [int(one.reason) | LEARNT if one.learnt else int(one.reason) for one in segments]


def _first_token(encoding: Any, start: int, end: int, size: int) -> tuple[int, bool]:
    """The first token that begins at or behind a character, and whether one that began before reaches across it."""
    token = encoding.char_to_token(start)
    position = start
    while token is None and position < end:  # characters that the tokenizer's normalizer drops
        position += 1
        token = encoding.char_to_token(position)
    if token is None:
        return size, False
    across = encoding.token_to_chars(token)[0] < start
    while token < size and encoding.token_to_chars(token)[0] < start:
        token += 1
    return token, across


def _refuse_halves(text: str, name: str) -> None:
    """Raise DataError where a text holds half a surrogate pair, which is no character."""
    try:
        text.encode()
    except UnicodeEncodeError as error:
        before = text[max(0, error.start - 20) : error.start]
        raise DataError(
            f"{name} holds half a character, {text[error.start]!a}, behind {before!a}:"
            " it was cut apart in UTF-16 before it came here; convert its source anew."
        ) from None
