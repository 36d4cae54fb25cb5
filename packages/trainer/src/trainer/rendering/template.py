"""Templates: what text a conversation becomes, in segments that say why each is there and whether it is learnt."""

from __future__ import annotations

from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from typing import NamedTuple, Protocol

from trainer.conversation import Conversation
from trainer.errors import DataError, TrainerError, UnknownName
from trainer.rendering.rendered import Reason
from trainer.rendering.tokenizer import Tokenizer

#: ``own`` is the template that a tokenizer carries; a path with a dot or a slash is a Jinja file.
NAMES = ("tulu", "tulu1", "own")


class Segment(NamedTuple):
    """A piece of text with one reason; an example's segments, joined, are the text that is encoded."""

    text: str
    reason: Reason
    learnt: bool = False


class Template(Protocol):
    """Turns conversations into segments; raises DataError for one that it cannot show, or cannot mask exactly."""

    @property
    def name(self) -> str:
        """What the user calls it."""

    @property
    def fingerprint(self) -> str:
        """Changes whenever the same conversation could become other segments."""

    def segments(self, conversation: Conversation) -> list[Segment]:
        """The segments of a conversation, in order; without the BOS, which is the tokenizer's."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Tulu:
    """The template of "How Far Can Camels Go?" (section 3.2 and Figure 1), as the code of 2023 wrote it.

    The markers are plain text, not tokens. Contents are stripped, an assistant's is followed by EOS, every message
    ends with a newline, and the last newline goes. The model learns what the assistant says, and EOS.
    """

    eos: str
    #: With ``tulu1`` the mask is that of the 2023 code, see ``prefixes``.
    name: str = "tulu"

    @property
    def fingerprint(self) -> str:
        """A version by hand: the template is code."""
        return f"{self.name} 1 {self.eos}"

    def segments(self, conversation: Conversation) -> list[Segment]:
        """Marker, content, EOS and newline of every message."""
        found: list[Segment] = []
        for role, content in _turns(conversation):
            learnt = role == "assistant"
            found.append(Segment(f"<|{role}|>\n", Reason.MARKER))
            found.append(Segment(content.strip(), CONTENT[role], learnt))
            if learnt:
                found.append(Segment(self.eos, Reason.EOS, True))
            found.append(Segment("\n", Reason.NEWLINE))
        return _without_last_blanks(found)


@dataclass(frozen=True, slots=True, kw_only=True)
class Pair:
    """An example of the older form: a text, and how it goes on."""

    id: str
    prompt: str
    completion: str

    def segments(self, eos: str) -> list[Segment]:
        """Prompt, completion and EOS, with a blank between the first two unless there is white space already.

        That blank is learnt: most tokenizers make it part of the completion's first token.
        """
        gap = "" if self.prompt.endswith((" ", "\n", "\t")) or self.completion.startswith((" ", "\n", "\t")) else " "
        return [
            Segment(self.prompt, Reason.USER),
            Segment(gap + self.completion, Reason.ASSISTANT, True),
            Segment(eos, Reason.EOS, True),
        ]


CONTENT = {"system": Reason.SYSTEM, "user": Reason.USER, "assistant": Reason.ASSISTANT}


def load(name: str, tokenizer: Tokenizer) -> Template:
    """The template of this name (``tulu``, ``tulu1``, ``own``) or Jinja file, for a tokenizer.

    Raises UnknownName, or TrainerError where there is no template to read or it cannot be masked.
    """
    if name in {"tulu", "tulu1"}:
        return Tulu(eos=tokenizer.eos, name=name)
    from trainer.rendering.jinja_template import JinjaTemplate

    if name == "own":
        if tokenizer.chat_template is None:
            raise TrainerError(
                f"The tokenizer of {tokenizer.source} has no chat template of its own: use --template tulu or a file."
            )
        return JinjaTemplate(
            name=f"own template of {tokenizer.source}", source=tokenizer.chat_template, tokenizer=tokenizer
        )
    if not {".", "/"} & set(name):
        raise UnknownName("template", name, NAMES)
    try:
        source = Path(name).read_text(encoding="utf-8")
    except (OSError, UnicodeError) as error:
        why = getattr(error, "strerror", None) or error
        raise TrainerError(
            f"No chat template can be read from {name!r} ({why}): give {', '.join(NAMES)} or a Jinja file."
        ) from None
    return JinjaTemplate(name=name, source=source, tokenizer=tokenizer)


def tulu_jinja() -> str:
    """The Tülu template as the Jinja text that goes into a checkpoint."""
    return resources.files("trainer.rendering").joinpath("tulu.jinja").read_text(encoding="utf-8")


def _turns(conversation: Conversation) -> list[tuple[str, str]]:
    if not conversation.messages:
        raise DataError(f"Conversation {conversation.id} of {conversation.dataset} has no messages.")
    return [(one.role, one.content) for one in conversation.messages]


def _without_last_blanks(segments: list[Segment]) -> list[Segment]:
    """Segments whose joined text does not end with white space."""
    while segments:
        last = segments.pop()
        text = last.text.rstrip()
        if text:
            segments.append(last._replace(text=text))
            break
    return segments
