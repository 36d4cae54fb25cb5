"""What a dry run looks for in the prompts of a run: each check sees all of them once and folds what it finds."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import Protocol

from evalkit.backend import Tokenizer
from evalkit.types import Example, Finding, GenerateRequest, Request

#: Examples that a finding names.
NAMED = 3


@dataclass(frozen=True, slots=True, kw_only=True)
class Sight:
    """A request with what the model would see of it."""

    example: Example
    request: Request
    #: With the chat template where there is one, and with the answer prefix.
    text: str
    #: Tokens; None where the backend has no tokenizer to show.
    ids: Sequence[int] | None
    #: The longest answer, in tokens; 0 where it is not known.
    answer: int


class Check(Protocol):
    """Looks for one thing."""

    def see(self, sight: Sight) -> None:
        """Look at one prompt."""

    def findings(self, seen: int) -> Iterator[Finding]:
        """What has been found in all prompts that were seen."""


@dataclass(slots=True)
class Cases:
    """The prompts in which a check has found something."""

    count: int = 0
    first: list[str] = field(default_factory=list)

    def add(self, example: Example) -> None:
        """Count an example."""
        self.count += 1
        if len(self.first) < NAMED:
            self.first.append(example.id)

    def of(self, seen: int, what: str = "prompts") -> str:
        """``12 of 1,319 prompts (first 17, 23, 41)``; ``all 20 prompts``; ``the one prompt``."""
        if self.count == seen:
            return f"all {seen:,} {what}" if seen > 1 else f"the one {what.removesuffix('s')}"
        return f"{self.count:,} of {seen:,} {what} ({'first ' if self.count > NAMED else ''}{', '.join(self.first)})"


class Room:
    """Whether prompts and answers fit into the model's context."""

    def __init__(self, context: int | None) -> None:
        self._context = context
        self._shots = 0
        self._over, self._cut = Cases(), Cases()
        self._longest, self._least = 0, 0

    def see(self, sight: Sight) -> None:
        """Compare a prompt's tokens, and then its answer's, with the context."""
        if self._context is None or sight.ids is None:
            return
        written = isinstance(sight.request, GenerateRequest)
        room = self._context - len(sight.ids)
        if room < (1 if written else sight.answer):
            self._over.add(sight.example)
            self._longest = max(self._longest, len(sight.ids))
        elif room < sight.answer:
            self._cut.add(sight.example)
            self._least = min(self._least or room, room)
        else:
            return
        self._shots = max(self._shots, sight.request.shots)

    def findings(self, seen: int) -> Iterator[Finding]:
        """An error for prompts that cannot be answered, a warning for those whose answers may be cut."""
        fewer = f"Show fewer solved examples (--shots below {self._shots})" if self._shots else ""
        remedy = f"{fewer or 'Shorten the prompts'}, or ask a model with a longer context."
        if self._over.count:
            yield Finding(
                level="error",
                text=f"In {self._over.of(seen)} there is no room for an answer within the model's {self._context:,} "
                f"tokens (the longest has {self._longest:,}): each of them will fail.",
                remedy=remedy,
            )
        if self._cut.count:
            yield Finding(
                level="warning",
                text=f"In {self._cut.of(seen)} an answer has less room within the model's {self._context:,} tokens "
                f"than it may take (the least is {self._least:,}): a long one will be cut there.",
                remedy=remedy,
            )


class Template:
    """Whether the chat template leaves the text of a prompt as it is."""

    def __init__(self) -> None:
        self._changed, self._stripped = Cases(), Cases()

    def see(self, sight: Sight) -> None:
        """Look for a prompt in what the template made of it."""
        if sight.ids is None or not sight.request.chat or sight.request.prompt in sight.text:
            return
        (self._stripped if sight.request.prompt.strip() in sight.text else self._changed).add(sight.example)

    def findings(self, seen: int) -> Iterator[Finding]:
        """A warning for words that change, a note for blanks that go."""
        if self._changed.count:
            yield Finding(
                level="warning",
                text=f"In {self._changed.of(seen)} the chat template changes the text: it is not found in what the "
                "model sees.",
                remedy="Compare them above; give the template that the model was trained with by --chat-template FILE.",
            )
        if self._stripped.count:
            yield Finding(
                level="note",
                text=f"In {self._stripped.of(seen)} the chat template strips blanks at the ends.",
                remedy="Nothing to do if the model was trained with this template.",
            )


class Bos:
    """Whether the token that begins a text stands there once."""

    def __init__(self, tokenizer: Tokenizer | None) -> None:
        self._tokenizer = tokenizer
        self._leading: tuple[list[int], str] | None = None
        self._doubled, self._own, self._without = Cases(), Cases(), Cases()

    def see(self, sight: Sight) -> None:
        """Look at a prompt's first tokens and first characters."""
        if self._tokenizer is None or sight.ids is None:
            return
        if self._leading is None:
            self._leading = _leading(self._tokenizer, sight.request)
        ids, text = self._leading
        if not ids:
            return
        size = len(ids)
        if text and sight.request.prompt.startswith(text):
            self._own.add(sight.example)
        elif list(sight.ids[: 2 * size]) == ids * 2:
            self._doubled.add(sight.example)
        if not sight.request.bos:
            self._without.add(sight.example)

    def findings(self, seen: int) -> Iterator[Finding]:
        """A warning where it stands twice or in a prompt's own text, a note where it was to be left out."""
        bos = repr(self._leading[1]) if self._leading else ""
        if self._doubled.count:
            yield Finding(
                level="warning",
                text=f"In {self._doubled.of(seen)} the BOS token {bos} stands twice at the beginning.",
                remedy="Take bos_token out of the chat template (--chat-template FILE): the tokenizer adds it.",
            )
        if self._own.count:
            yield Finding(
                level="warning",
                text=f"In {self._own.of(seen)} the text itself begins with {bos}, which the model reads as its BOS.",
                remedy="Take it out of the data: the tokenizer adds it.",
            )
        if self._without.count:
            yield Finding(
                level="note",
                text=f"In {self._without.of(seen)} the BOS token {bos} that the tokenizer would add is left out.",
                remedy="Leave out the -B option that asks for this protocol, unless its bugs are wanted.",
            )


def _leading(tokenizer: Tokenizer, request: Request) -> tuple[list[int], str]:
    """The ids that the tokenizer puts before a prompt, and their text."""
    marked, bare = replace(request, bos=True), replace(request, bos=False)
    added = len(tokenizer.prompt_ids(marked)) - len(tokenizer.prompt_ids(bare))
    text = tokenizer.render(marked).removesuffix(tokenizer.render(bare))
    return tokenizer.prompt_ids(marked)[: max(added, 0)], text if added > 0 else ""
