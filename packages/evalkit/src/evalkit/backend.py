"""What answers requests: the contract of a model backend and of its tokenizer."""

from __future__ import annotations

from abc import ABC
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, ClassVar, Protocol, TypeAlias, TypeVar, runtime_checkable

from evalkit.errors import ModelError
from evalkit.types import GenerateRequest, Generation, Likelihood, LikelihoodRequest

if TYPE_CHECKING:
    from evalkit.load import Model
    from evalkit.types import Finding, Request

T = TypeVar("T")
#: A value with the position that its request has in the run.
Indexed: TypeAlias = tuple[int, T]


class Tokenizer(Protocol):
    """The model's own tokenizer, there before any weights are loaded."""

    @property
    def has_chat_template(self) -> bool:
        """Whether prompts can be rendered as a chat."""

    def prompt_ids(self, request: Request) -> list[int]:
        """The ids that the model sees before its answer: template, BOS and answer prefix included."""

    def render(self, request: Request) -> str:
        """The text behind ``prompt_ids``, for people."""

    def count(self, text: str) -> int:
        """Tokens of a bare text, without special tokens."""

    def cut(self, text: str, tokens: int) -> str:
        """The beginning of a text that has at most this many tokens, never ending inside a character."""


@runtime_checkable
class Continues(Tokenizer, Protocol):
    """A tokenizer that can also say which tokens are compared where continuations are."""

    def continuation_ids(self, request: LikelihoodRequest) -> tuple[list[int], list[list[int]]]:
        """The ids of the context, and those of each continuation behind it, in the request's order."""


class Backend(ABC):
    """Answers requests with one model.

    The parameters of ``__init__`` behind ``model`` are the options of ``-M key=value``. ``chat_template`` and
    ``batch_size`` are the names that ``--chat-template`` and ``--batch-size`` set. ``__init__`` is cheap:
    weights load in ``open``.
    """

    #: What it answers: ``generate``, ``likelihood``.
    can: ClassVar[frozenset[str]]
    #: Options that make answers faster or slower but not different: they do not bind a run.
    speed_options: ClassVar[frozenset[str]] = frozenset({"batch_size"})
    #: Takes requests from its iterator as it can work on them, and works on while the iterator keeps it waiting for the
    #: next one. False: it reads ahead, or stands still meanwhile, and is best given all that there is to do at once.
    streams: ClassVar[bool] = False
    #: Set by a backend that has others do the work: the model whose answers it gives. A run is bound to that model, so
    #: that it may go on with or without this backend.
    inner: Model | None = None

    def tokenizer(self) -> Tokenizer | None:
        """The model's tokenizer, or None where there is none to show; works before ``open``.

        Raises ModelError where the model should have one and has not.
        """
        return None

    @property
    def has_chat_template(self) -> bool:
        """Whether prompts can be rendered as a chat; by default where the tokenizer has a template."""
        tokenizer = self.tokenizer()
        return tokenizer is not None and tokenizer.has_chat_template

    def answers(self, kind: str) -> bool:
        """Whether it answers a kind of request; for a backend that must ask its server what of ``can`` it can."""
        return kind in self.can

    def fingerprint(self) -> Mapping[str, str]:
        """What tells this model from another one of the same name: hashes of config, tokenizer, weights."""
        return {}

    def context(self) -> int | None:
        """The longest prompt and answer together, in tokens; None where that is not known before ``open``."""
        return None

    def findings(self, *, tokens: int) -> Sequence[Finding]:
        """What a dry run should say of the model, found without ``open`` and without asking a server.

        ``tokens`` is the longest prompt with its answer; 0 where that is not known.
        """
        return ()

    def open(self) -> None:
        """Load the model."""

    def generate(self, requests: Iterable[Indexed[GenerateRequest]]) -> Iterator[Indexed[Generation]]:
        """Yield each generation with its request's position as soon as it is complete, in any order.

        What goes wrong with one request is that response's ``error``; only what ends the run is raised.
        """
        raise ModelError(f"{type(self).__name__} cannot generate.")

    def likelihood(self, requests: Iterable[Indexed[LikelihoodRequest]]) -> Iterator[Indexed[Likelihood]]:
        """Yield each likelihood with its request's position as soon as it is complete, in any order."""
        raise ModelError(f"{type(self).__name__} cannot give likelihoods.")

    def account(self) -> str:
        """What the user should know when a run has been asked: calls, retries, costs; in one line, or nothing."""
        return ""

    def remarks(self) -> Sequence[str]:
        """What was sent otherwise than asked, because the model wants it so; it becomes a note of the run."""
        return ()

    def close(self) -> None:
        """Let go of the model; called once, also after an error."""
