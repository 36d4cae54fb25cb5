"""The values that travel down the line: example, request, response, record, summary."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, TypeAlias

#: What a reading found in a response; None in its place means that it found nothing.
Answer: TypeAlias = str | tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Example:
    """One question with its target, made from one published row."""

    #: Stable and readable: the row number in the published file, ``subject/row``, the publisher's own id.
    id: str
    question: str
    target: str
    #: Other right answers, for benchmarks that publish several.
    aliases: tuple[str, ...] = ()
    #: The worked answer of a shot, or the reasoning that was published with a question.
    solution: str = ""
    choices: tuple[str, ...] = ()
    #: The part that is reported apart: an MMLU subject, a BBH task, a language.
    subset: str = ""
    #: Examples that share a group (a passage) are one unit of evidence: standard errors are clustered by it.
    group: str = ""
    #: What else of the row a benchmark's own functions need; JSON values only.
    meta: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class GenerateRequest:
    """Ask for ``n`` continuations of a prompt."""

    #: The whole prompt; with ``chat`` the text of the user's turn.
    prompt: str
    #: What the model's turn begins with; sent after the prompt, not part of the response.
    answer_prefix: str = ""
    #: Render the prompt with the model's chat template.
    chat: bool = False
    #: The longest answer, in tokens.
    max_tokens: int
    #: The text ends before the first of these.
    stop: tuple[str, ...] = ()
    #: 0 is greedy.
    temperature: float = 0.0
    top_p: float = 1.0
    n: int = 1
    seed: int = 0
    #: False leaves out the BOS token that the tokenizer would add, as the Tülu 1 evaluation code did.
    bos: bool = True
    #: How many solved examples the prompt shows.
    shots: int = 0
    #: The example's id, set by core; no part of what is asked.
    id: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class LikelihoodRequest:
    """Ask how likely each continuation of a prompt is."""

    prompt: str
    continuations: tuple[str, ...]
    answer_prefix: str = ""
    chat: bool = False
    bos: bool = True
    #: True: a continuation's tokens are those it has when written behind the prompt. False: it is encoded by
    #: itself and only its first token counts, as the Tülu 1 evaluation code did.
    joint: bool = True
    shots: int = 0
    id: str = ""


Request: TypeAlias = GenerateRequest | LikelihoodRequest


@dataclass(frozen=True, slots=True, kw_only=True)
class Usage:
    """Tokens that a response cost, as the backend counted them."""

    prompt_tokens: int = 0
    completion_tokens: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Text:
    """One generated text, or the reason why there is none."""

    text: str = ""
    #: Reasoning that the model kept apart from its answer.
    thought: str = ""
    #: ``stop`` (end of text or a stop string) or ``length`` (cut by ``max_tokens``).
    finish: str = "stop"
    #: One sentence; not empty means that this text failed and is never scored.
    error: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Generation:
    """The ``n`` texts that answer one GenerateRequest."""

    texts: tuple[Text, ...]
    usage: Usage = Usage()

    @property
    def error(self) -> str:
        """The first error among the texts; one failed text makes the example failed."""
        return next((text.error for text in self.texts if text.error), "")


@dataclass(frozen=True, slots=True, kw_only=True)
class Likelihood:
    """The log-probabilities that answer one LikelihoodRequest."""

    #: Natural logarithm of each continuation's probability, summed over its tokens, in the request's order.
    logprobs: tuple[float, ...] = ()
    #: Tokens of each continuation.
    lengths: tuple[int, ...] = ()
    error: str = ""
    usage: Usage = Usage()


Response: TypeAlias = Generation | Likelihood


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    """What became of an answer that had to be run, one entry for each of the response's texts."""

    passed: tuple[bool, ...]
    #: Why not, from the verifier's closed list; ``passed`` for those that did.
    reasons: tuple[str, ...]
    #: Seconds, bytes and the like, by name: measured, so not the same when it is done again.
    measured: Mapping[str, tuple[float, ...]] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class Record:
    """One example's whole way down the line."""

    example: Example
    request: Request
    response: Response
    #: Reading name -> answer; None where the reading found nothing. Empty when the response failed.
    answers: Mapping[str, Answer | None]
    #: What became of the headline reading's answer, in a benchmark that verifies.
    verdict: Verdict | None = None
    #: Metric name -> score. Empty when the response failed.
    scores: Mapping[str, float]


@dataclass(frozen=True, slots=True, kw_only=True)
class Estimate:
    """A number with its standard error and 95 % interval; None where one example cannot tell."""

    value: float
    stderr: float | None
    low: float | None
    high: float | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Part:
    """The numbers of a subset or of a group of subsets."""

    n: int
    metrics: Mapping[str, Estimate]


@dataclass(frozen=True, slots=True, kw_only=True)
class Summary:
    """A run's numbers. ``n`` counts what was scored: unanswered included, failed excluded."""

    benchmark: str
    setting: str
    model: str
    n: int
    unanswered: int
    failed: int
    #: Headline first.
    metrics: Mapping[str, Estimate]
    #: What each metric would be if all failed examples had scored 0, and 1; empty when nothing failed.
    bounds: Mapping[str, tuple[float, float]]
    subsets: Mapping[str, Part]
    #: Grouping -> group -> numbers, e.g. ``category`` -> ``STEM``.
    groups: Mapping[str, Mapping[str, Part]]
    #: What a reader must know to not misread the numbers: sample rows, a limit, own shots.
    notes: tuple[str, ...]
    #: SHA-256 over the hashes of all requests, in example order: equal when two runs asked the same.
    requests: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """What a dry run has found that may spoil a run."""

    #: ``error``: the run fails, or some of its responses do. ``warning``: its numbers may mislead. ``note``: the rest.
    level: Literal["error", "warning", "note"]
    #: One sentence.
    text: str
    #: What to do about it, one sentence; empty where ``text`` says it.
    remedy: str = ""
