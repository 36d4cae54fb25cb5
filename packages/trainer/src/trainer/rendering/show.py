"""One example from its row to its labels, in pieces that people can read."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path
from typing import NamedTuple

from trainer.conversation import Conversation, parse
from trainer.errors import DataError
from trainer.rendering.render import Renderer
from trainer.rendering.rendered import IGNORED, Reason, Rendered
from trainer.rendering.tokenizer import Tokenizer

#: The bytes of one character may be spread over so many tokens.
MOST = 4


class Piece(NamedTuple):
    """A token, or the few that make one character: their text and why they are there."""

    text: str
    ids: tuple[int, ...]
    #: As the vocabulary writes them, ``Ġthe``.
    tokens: tuple[str, ...]
    reason: Reason
    learnt: bool
    #: Whether the length limit cuts it off.
    cut: bool

    @property
    def labels(self) -> tuple[int, ...]:
        """What the loss compares with."""
        return self.ids if self.learnt else (IGNORED,) * len(self.ids)


@dataclass(frozen=True, slots=True, kw_only=True)
class Shown:
    """An example with everything that became of it."""

    #: ``data.jsonl:17``
    where: str
    #: The raw files that the conversation was converted from, where a report beside the file names them.
    raw: tuple[str, ...]
    row: str
    conversation: Conversation
    rendered: Rendered
    pieces: tuple[Piece, ...]
    tokenizer: str
    template: str
    max_length: int | None

    def counts(self) -> list[tuple[Reason, int, int]]:
        """For each reason that occurs: its tokens, and how many of them are learnt; what is cut is left out."""
        kept = [one for one in self.pieces if not one.cut]
        return [
            (reason, sum(len(one.ids) for one in found), sum(len(one.ids) for one in found if one.learnt))
            for reason in Reason
            if (found := [one for one in kept if one.reason is reason])
        ]

    def runs(self) -> Iterator[tuple[tuple[Reason, bool, bool], list[Piece]]]:
        """Neighbours with one reason, learnt or not, cut or not."""
        for key, pieces in groupby(self.pieces, key=lambda one: (one.reason, one.learnt, one.cut)):
            yield key, list(pieces)


def show(path: Path, which: str, renderer: Renderer, *, max_length: int | None = None) -> Shown:
    """The example of a file of conversations with this id, or at this line if it is a number that no id is.

    Raises DataError where there is none. ``renderer`` must not cut; what is behind ``max_length`` is marked.
    """
    number, line, conversation = _found(path, which)
    rendered = renderer.render(conversation)
    return Shown(
        where=f"{path.name}:{number}",
        raw=_raw(path),
        row=line,
        conversation=conversation,
        rendered=rendered,
        pieces=tuple(pieces(rendered, renderer.tokenizer, max_length)),
        tokenizer=renderer.tokenizer.source,
        template=renderer.template.name,
        max_length=max_length,
    )


def pieces(rendered: Rendered, tokenizer: Tokenizer, max_length: int | None = None) -> Iterator[Piece]:
    """The tokens of an example with their texts; those that share a character stay together."""
    ids = rendered.ids.tolist()
    limit = len(ids) if max_length is None else max_length
    start, before = 0, list[int]()
    while start < len(ids):
        end = limit if start < limit else len(ids)
        for size in range(1, MOST + 1):
            some = ids[start : min(start + size, end)]
            # Decoded behind what stands before: some decoders drop the blank at the beginning.
            text = tokenizer.decode([*before, *some]).removeprefix(tokenizer.decode(before))
            if not text.endswith("\ufffd"):
                break
        yield Piece(
            text=text,
            ids=tuple(some),
            tokens=tuple(str(tokenizer.fast.id_to_token(one)) for one in some),
            reason=Reason(int(rendered.reasons[start])),
            learnt=bool(rendered.supervised[start]),
            cut=start >= limit,
        )
        start, before = start + len(some), some


def _found(path: Path, which: str) -> tuple[int, str, Conversation]:
    numbered, number = None, 0
    spelt = (which.encode(), json.dumps(which)[1:-1].encode())
    try:
        with path.open("rb") as file:
            for number, line in enumerate(file, start=1):
                if not line.strip():
                    continue
                # Most lines can be told not to be the one without parsing them.
                if str(number) == which or which == f"{path.stem}_{number}" or any(one in line for one in spelt):
                    one = parse(line, where=f"{path.name}:{number}", dataset=path.stem, number=number)
                    if one.id == which:
                        return number, line.decode(), one
                    if str(number) == which:
                        numbered = number, line.decode(), one
    except OSError as error:
        raise DataError(f"{path} cannot be read: {error.strerror}.") from None
    if numbered is None:
        raise DataError(
            f"{path.name} has no conversation with the id {which!r}, nor on such a line; it has {number:,} lines."
        )
    return numbered


def _raw(path: Path) -> tuple[str, ...]:
    """The raw files that the report of a conversion names; none where there is no report or another's."""
    try:
        report = json.loads(path.with_name(f"{path.stem}.report.json").read_text(encoding="utf-8"))
        return tuple(str(one["name"]) for one in report["files"])
    except (OSError, ValueError, KeyError, TypeError):
        return ()
