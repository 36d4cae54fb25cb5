"""What a plugin registers: a benchmark is a frozen value made of data and functions."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Generic, Literal, Protocol, TypeVar, runtime_checkable

from evalkit.types import Answer, Example, Finding, Generation, Likelihood, Request, Response, Verdict

if TYPE_CHECKING:
    from evalkit.backend import Tokenizer
    from evalkit.datasets import Row, Source

R = TypeVar("R", Generation, Likelihood)


class Verifier(Protocol):
    """Finds out about answers what cannot be read off them: runs the code they are, for instance."""

    def ready(self, *, unsafe_code: bool) -> Mapping[str, Any]:
        """What the run folder records of how verification is done; called before any request is asked.

        Its ``notes``, if it has any, stand with the run's numbers.
        ``unsafe_code`` is the user's ``--unsafe-code``. Raises EvalkitError where verification is not possible.
        """

    def verdicts(self, answers: Iterable[tuple[int, Example, Answer]]) -> Iterator[tuple[int, Verdict]]:
        """Yield each answer's verdict with its position as soon as it is complete, in any order."""


@runtime_checkable
class Examinable(Protocol):
    """A verifier that can also say what a dry run should say of it."""

    def findings(self) -> Sequence[Finding]:
        """What of this machine may spoil verification, though it is possible; called after ``ready``."""


#: Gives the score of an answer, or of its Verdict where the benchmark verifies; asked only where a reading found an
#: answer, since silence scores 0.
Metric = Callable[[Any, Example], float]


@dataclass(frozen=True, slots=True, kw_only=True)
class File:
    """A published file that a run can read, pinned by its content."""

    #: Where it lies in a data folder, such that ``--data FOLDER`` finds it.
    path: str
    #: Of the file as it lies there; a gzipped copy beside the name (``path.gz``) counts by what it unpacks to.
    sha256: str
    #: A pinned revision; empty where it has to be fetched by hand.
    url: str = ""
    #: The page that has it, for people, where that is not the data's own.
    page: str = ""
    #: Where it is not the data's own.
    licence: str = ""
    #: Makes the file of what the URL gives, where that has another form.
    made: Callable[[bytes], bytes] | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Data:
    """Where the rows come from, and how a publisher's file is read."""

    #: The publisher's page, for people.
    home: str
    licence: str
    #: Examples in the published test set; 0 where that is not known or for the user to choose.
    n: int = 0
    #: What to pass to ``--data``, e.g. ``test.jsonl``; said when no data is found.
    file: str
    #: Yields the rows of the test set from a file, a folder, an archive or, by ``source.dataset``, the hub.
    rows: Callable[[Source], Iterable[Row]]
    #: Self-written rows in the publisher's form, for a try with nothing at hand (``--data sample``).
    sample: tuple[Mapping[str, Any], ...] = ()
    #: The pinned dataset on the Hugging Face hub, ``hub:ID?config=C&split=S&revision=SHA``.
    hub: str = ""
    #: The published files, the shots' included, for ``evalkit data``.
    files: tuple[File, ...] = ()
    #: For a judge: what the manifest says of the answers that are its rows, such as ``model``, whose they are, and
    #: ``notes``. Where a benchmark has none, a source that is the folder of a run is asked for its model.
    judged: Callable[[Source], Mapping[str, Any]] | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Shots:
    """The solved examples that prompts show."""

    #: Subset -> its shots, in prompt order; the key "" serves every subset that has none of its own.
    by_subset: Mapping[str, tuple[Example, ...]] = field(default_factory=dict)
    #: ``published``, or ``own`` where the publisher's were not at hand and self-written ones stand in; anything else is
    #: a note on the run's numbers.
    origin: str = "published"

    def of(self, example: Example) -> tuple[Example, ...]:
        """The shots for an example's prompt."""
        return self.by_subset.get(example.subset, self.by_subset.get("", ()))


def no_shots(source: Source, wanted: int, seed: int) -> Shots:
    """The shots of a benchmark that shows none."""
    return Shots()


@dataclass(frozen=True, slots=True, kw_only=True)
class Context:
    """What is the same for every example of a run."""

    shots: Shots
    #: Prompts are for the user's turn of a chat; the backend renders them.
    chat: bool
    #: The model's own; None where the backend has none to show.
    tokenizer: Tokenizer | None
    seed: int


@dataclass(frozen=True, kw_only=True)  # no slots: with them Python 3.11 cannot make ``Reading[Generation](...)``
class Reading(Generic[R]):
    """One way to read an output: how the answer is found, and the metrics that judge it."""

    name: str
    #: Gives None where the output holds no answer.
    extract: Callable[[R, Example], Answer | None]
    #: Metric name -> function, headline first; names of the strict reading end in ``_strict``.
    metrics: Mapping[str, Metric]


def _one(example: Example) -> int:
    return 1


@dataclass(frozen=True, kw_only=True)  # no slots: with them Python 3.11 cannot make ``Benchmark[Generation](...)``
class Benchmark(Generic[R]):
    """A benchmark in one setting; its fields stand in the order in which the data meets them."""

    name: str
    #: The part of the setting's name behind the colon: ``direct`` for ``gsm:direct``.
    variant: str = ""
    #: Goes up when the benchmark's numbers can change.
    version: int
    #: One sentence.
    doc: str
    #: The ability it measures: knowledge, reasoning, multilinguality, coding, open-ended.
    facet: str
    data: Data
    #: Makes the example of a row; a missing or odd field raises through ``Row``.
    example: Callable[[Row], Example]
    #: How many shots a prompt shows unless ``--shots`` says otherwise.
    n_shots: int = 0
    #: Finds the shots: (source of --shots-data or --data, how many, seed).
    shots: Callable[[Source, int, int], Shots] = no_shots
    #: The rules in which protocols differ, each by its name, with their values in this setting: for the manifest.
    rules: Mapping[str, Any] = field(default_factory=dict)
    #: False where the benchmark asks for raw text even of a chat model.
    chat: bool = True
    #: ``generate`` or ``likelihood``.
    asks: str = "generate"
    request: Callable[[Example, Context], Request]
    #: The response to an example that no model need be asked, such as a judge's to two equal outputs; else None.
    settled: Callable[[Example], Response | None] | None = None
    #: How to ask once more what was answered but could not be read, where silence fails: (request, attempt from 2).
    #: A request that is greedy would get the same answer again. None asks the same way.
    again: Callable[[Any, int], Request] | None = None
    #: How many questions of equal weight an example holds (the pairs in a judge's prompt); its scores are their means.
    items: Callable[[Example], int] = _one
    #: The variant to use for a backend that cannot answer likelihoods.
    generated: str = ""
    #: Headline reading first; the strict one last.
    readings: tuple[Reading[R], ...]
    #: What no answer means: ``scores 0``, or ``fails`` for a judge, whose silence says nothing about the model.
    silence: Literal["scores 0", "fails"] = "scores 0"
    #: Makes verdicts of the headline reading's answers; metrics then judge those.
    verify: Verifier | None = None
    #: The variant that judges this benchmark's records with a second model (``--judge``).
    judged: str = ""
    #: Grouping -> subset -> group, for tables above the subsets.
    groups: Mapping[str, Mapping[str, str]] = field(default_factory=lambda: MappingProxyType({}))
    #: How scores become a metric: ``micro`` over examples, ``macro`` over subsets. The first bears the metric's name;
    #: another one is added to it, as in ``accuracy_macro``.
    averages: tuple[Literal["micro", "macro"], ...] = ("micro",)

    @property
    def setting(self) -> str:
        """The full name: ``gsm``, ``gsm:direct``."""
        return f"{self.name}:{self.variant}" if self.variant else self.name

    @property
    def headline(self) -> str:
        """The first metric's name."""
        return next(iter(self.readings[0].metrics))
