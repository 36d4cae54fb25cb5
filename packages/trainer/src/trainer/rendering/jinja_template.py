"""Any tokenizer's Jinja template, taken apart into segments, or refused where that cannot be done exactly."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterator, Sequence
from typing import NamedTuple

from trainer.conversation import Conversation
from trainer.errors import DataError, TrainerError
from trainer.rendering.rendered import Reason
from trainer.rendering.template import CONTENT, Segment
from trainer.rendering.tokenizer import Tokenizer

#: What templates do to the white space around a content; tried in this order.
TRIMS = (
    lambda text: text,
    str.strip,
    str.rstrip,
    str.lstrip,
    lambda text: text.strip("\n"),
    lambda text: text.rstrip("\n"),
    lambda text: text.lstrip("\n"),
)


class _Turn(NamedTuple):
    """What a template writes in front of a content, in segments, and behind an assistant's to end it."""

    before: tuple[Segment, ...]
    role: str
    ending: tuple[Segment, ...]


class _Skeleton(NamedTuple):
    """What a template writes around the contents of a conversation with these roles."""

    turns: tuple[_Turn, ...]
    rest: tuple[Segment, ...]


class JinjaTemplate:
    """A template that is a Jinja program, as checkpoints carry it.

    It is run twice: once for each sequence of roles with marks in place of the contents, which shows what it writes
    around them; and once for each conversation. Both must agree to the letter, so the joined segments are exactly the
    text of ``apply_chat_template``. What is learnt is an assistant's content and the special token behind it, with the
    blanks between the two, and the blanks in front that a prompt for generation lacks.
    """

    def __init__(self, *, name: str, source: str, tokenizer: Tokenizer) -> None:
        if "strftime_now" in source:
            raise TrainerError(
                f"The {name} writes today's date, so the same data would be another text tomorrow:"
                " give a copy with a fixed date (--template FILE.jinja)."
            )
        self.name = name
        self._source = source
        self._special = tokenizer.special
        self._opening = tokenizer.decode(tokenizer.leading)
        ends = sorted(map(re.escape, tokenizer.added), key=len, reverse=True)
        self._ending = re.compile(rf"(\s*)({'|'.join(ends) or '(?!)'})")
        self._skeletons: dict[tuple[str, ...], _Skeleton] = {}

    @property
    def fingerprint(self) -> str:
        """SHA-256 of the program and of the special tokens that it may write."""
        return hashlib.sha256(repr(("jinja 1", self._source, sorted(self._special.items()))).encode()).hexdigest()

    def segments(self, conversation: Conversation) -> list[Segment]:
        """The segments, verified against the template's own text; raises DataError where they are not the same."""
        where = f"conversation {conversation.id} of {conversation.dataset}"
        roles = tuple(one.role for one in conversation.messages)
        contents = [one.content for one in conversation.messages]
        if not roles:
            raise DataError(f"The {where} has no messages.")
        if roles not in self._skeletons:
            self._skeletons[roles] = self._skeleton(roles, where)
        return self._filled(self._skeletons[roles], contents, self._run(roles, contents, where), where)

    def _run(self, roles: Sequence[str], contents: Sequence[str], where: str, *, prompt: bool = False) -> str:
        from transformers.utils.chat_template_utils import render_jinja_template

        messages = [{"role": role, "content": content} for role, content in zip(roles, contents, strict=True)]
        try:
            texts, _ = render_jinja_template(
                conversations=[messages], chat_template=self._source, add_generation_prompt=prompt, **self._special
            )
        except Exception as error:  # a template is a program of the checkpoint's author
            raise DataError(f"The {self.name} refuses {where}: {str(error).rstrip('.')}.") from error
        return str(texts[0])

    def _skeleton(self, roles: tuple[str, ...], where: str) -> _Skeleton:
        marks = [f"\ue000{place}\ue001" for place in range(len(roles))]
        text = self._run(roles, marks, where)
        turns: list[_Turn] = []
        position = 0
        for place, (role, mark) in enumerate(zip(roles, marks, strict=True)):
            if text.count(mark) != 1 or (start := text.index(mark)) < position:
                raise DataError(
                    f"The {self.name} writes the messages of {where} not once each and in their order (message"
                    f" {place + 1}, {role}), so they cannot be masked exactly."
                )
            header = self._header(text[:start], roles[:place], marks, role, where)
            before = self._around(text[position : start - len(header)], first=place == 0)
            learnt = (Segment(header, Reason.ASSISTANT, True),) if header else ()
            position = start + len(mark)
            ending = self._end(text, position, where) if role == "assistant" else ()
            position += sum(len(one.text) for one in ending)
            turns.append(_Turn((*before, *learnt), role, ending))
        return _Skeleton(tuple(turns), self._around(text[position:], first=False))

    def _header(self, before: str, roles: Sequence[str], marks: Sequence[str], role: str, where: str) -> str:
        """The blanks in front of an assistant's content that a model has to write itself."""
        if role != "assistant" or not roles:
            return ""
        try:
            prompt = self._run(roles, marks[: len(roles)], where, prompt=True)
        except DataError:  # not every beginning of a conversation can be answered
            return ""
        rest = before.removeprefix(prompt)
        return rest if before.startswith(prompt) and rest.isspace() else ""

    def _around(self, text: str, *, first: bool) -> tuple[Segment, ...]:
        """What is written between contents: BOS at the very beginning, a newline behind a message, else markers."""
        head = ""
        if first and self._opening and text.startswith(self._opening):
            head, reason = self._opening, Reason.BOS
        elif not first and text.startswith("\n"):
            head, reason = "\n", Reason.NEWLINE
        found = [Segment(head, reason)] if head else []
        if text[len(head) :]:
            found.append(Segment(text[len(head) :], Reason.MARKER))
        return tuple(found)

    def _end(self, text: str, position: int, where: str) -> tuple[Segment, ...]:
        found = self._ending.match(text, position)
        if found is None:
            raise DataError(
                f"The {self.name} writes no special token behind what the assistant says in {where}"
                f" but {text[position : position + 20]!r}, so a model could not learn to stop: write EOS there."
            )
        blanks, token = found.groups()
        ending = Segment(token, Reason.EOS, True)
        return (Segment(blanks, Reason.NEWLINE, True), ending) if blanks else (ending,)

    def _filled(self, skeleton: _Skeleton, contents: Sequence[str], text: str, where: str) -> list[Segment]:
        found: list[Segment] = []
        position = 0
        followers = [*(turn.before for turn in skeleton.turns[1:]), skeleton.rest]
        for turn, content, follower in zip(skeleton.turns, contents, followers, strict=True):
            position = self._expect(turn.before, text, position, where)
            behind = "".join(one.text for one in (*turn.ending, *follower))
            shown = next((one for one in _forms(content) if text.startswith(one + behind, position)), None)
            if shown is None:
                raise self._changed(content + behind, text, position, where)
            found += (*turn.before, Segment(shown, CONTENT[turn.role], turn.role == "assistant"), *turn.ending)
            position += len(shown) + sum(len(one.text) for one in turn.ending)
        if self._expect(skeleton.rest, text, position, where) != len(text):
            raise self._changed("", text, position, where)
        return [*found, *skeleton.rest]

    def _expect(self, segments: Sequence[Segment], text: str, position: int, where: str) -> int:
        wanted = "".join(one.text for one in segments)
        if not text.startswith(wanted, position):
            raise self._changed(wanted, text, position, where)
        return position + len(wanted)

    def _changed(self, wanted: str, text: str, position: int, where: str) -> DataError:
        return DataError(
            f"The {self.name} does not write the messages of {where} as they are (at character {position} stands"
            f" {text[position : position + 30]!r}, not {wanted[:30]!r}), so they cannot be masked exactly:"
            " give a copy of it without that rule (--template FILE.jinja)."
        )


def _forms(content: str) -> Iterator[str]:
    for trim in TRIMS:
        yield trim(content)
