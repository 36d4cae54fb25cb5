"""From responses to records, and from records to a summary; no model is asked here."""

from __future__ import annotations

from array import array
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from evalkit import stats
from evalkit.benchmark import Benchmark
from evalkit.errors import EvalkitError, PluginError
from evalkit.types import Answer, Estimate, Example, Part, Record, Request, Response, Summary, Verdict


def record(
    benchmark: Benchmark[Any],
    example: Example,
    request: Request,
    response: Response,
    verdict: Verdict | None = None,
) -> Record:
    """Read a response in every way the benchmark knows and judge what was found; silence scores 0.

    Where the benchmark verifies, metrics judge the verdict; while there is none, there are no scores.
    """
    answers: dict[str, Answer | None] = {}
    scores: dict[str, float] = {}
    if not response.error:
        try:
            for reading in benchmark.readings:
                answer = answers[reading.name] = reading.extract(response, example)
                if _says_nothing(benchmark, answer, verdict):
                    continue
                for name, metric in reading.metrics.items():
                    scores[name] = 0.0 if answer is None else float(metric(verdict or answer, example))
        except EvalkitError:  # already says what to do
            raise
        except Exception as error:  # a plugin's code: the fault is named with its example
            raise PluginError(
                f"{benchmark.setting} cannot score example {example.id!r}: {type(error).__name__}: {error}. "
                "The responses are kept; once the plugin is mended, `evalkit score` reads them again."
            ) from error
    return Record(example=example, request=request, response=response, answers=answers, verdict=verdict, scores=scores)


def is_unreadable(benchmark: Benchmark[Any], example: Example, response: Response) -> bool:
    """Whether a response came but counts as failed, because the benchmark's silence fails and no reading finds more."""
    if response.error or benchmark.silence != "fails":
        return False
    return all(reading.extract(response, example) is None for reading in benchmark.readings)


def _says_nothing(benchmark: Benchmark[Any], answer: Answer | None, verdict: Verdict | None) -> bool:
    """Whether an answer is no ground for a score: it is not verified yet, or it is a judge's silence."""
    if answer is None:
        return benchmark.silence == "fails"
    return benchmark.verify is not None and verdict is None


class Tally:
    """Collects the scores of records, a few bytes each, and sums them up."""

    def __init__(self, benchmark: Benchmark[Any]) -> None:
        self._benchmark = benchmark
        self._scores = {name: array("d") for reading in benchmark.readings for name in reading.metrics}
        self._subsets: dict[str, int] = {}
        self._subset_of = array("I")
        self._group_codes: dict[str, int] = {}
        self._groups = array("I")
        self._unanswered = 0
        #: Examples whose response failed, counted like ``n``.
        self.failed = 0

    @property
    def n(self) -> int:
        """Examples that were scored; one that holds several items counts as many."""
        return len(self._subset_of)

    def add(self, record: Record) -> None:
        """Count one record."""
        items = self._benchmark.items(record.example)
        if not record.scores:
            self.failed += items
            return
        # Items that are answered together are one unit of evidence, as a group is.
        group, place = record.example.group or (f" {record.example.id}" if items > 1 else ""), len(self._groups)
        #: A group's code is the place of its first example; one without a group is a group of its own.
        code = self._group_codes.setdefault(group, place) if group else place
        subset = self._subsets.setdefault(record.example.subset, len(self._subsets))
        self._unanswered += items * (record.answers[self._benchmark.readings[-1].name] is None)
        for _ in range(items):
            self._groups.append(code)
            self._subset_of.append(subset)
            for name, score in record.scores.items():
                self._scores[name].append(score)

    def summary(self, *, model: str, notes: Sequence[str], requests: str) -> Summary:
        """The run's numbers."""
        subsets = self._parts({name: name for name in self._subsets})
        if list(subsets) == [""]:
            subsets = {}
        metrics = dict(self._averages(subsets)) if self.n else {}
        return Summary(
            benchmark=self._benchmark.name,
            setting=self._benchmark.setting,
            model=model,
            n=self.n,
            unanswered=self._unanswered,
            failed=self.failed,
            metrics=metrics,
            bounds=dict(self._bounds()),
            subsets=subsets,
            groups={name: self._parts(group_of) for name, group_of in self._benchmark.groups.items()},
            notes=tuple(notes),
            requests=requests,
        )

    def _averages(self, subsets: Mapping[str, Part]) -> Iterator[tuple[str, Estimate]]:
        averages = self._benchmark.averages
        for average in averages if subsets else ("micro",):
            more = f"_{average}" if subsets and average != averages[0] else ""
            for metric, scores in self._scores.items():
                plain = metric.removesuffix("_strict")
                name = f"{plain}{more}{metric.removeprefix(plain)}"
                if average == "macro":
                    yield name, stats.macro(part.metrics[metric] for part in subsets.values())
                else:
                    yield name, stats.mean(scores, self._groups if self._group_codes else None)

    def _parts(self, part_of: Mapping[str, str]) -> dict[str, Part]:
        """The numbers of each part, by name, where ``part_of`` says to which part a subset belongs."""
        members: dict[str, array[int]] = {}
        part_by_code = {code: part_of.get(subset) for subset, code in self._subsets.items()}
        for position, code in enumerate(self._subset_of):
            if (part := part_by_code[code]) is not None:
                members.setdefault(part, array("Q")).append(position)
        return {
            part: Part(n=len(positions), metrics=dict(self._means(positions)))
            for part, positions in sorted(members.items())
        }

    def _means(self, positions: array[int]) -> Iterator[tuple[str, Estimate]]:
        for name, scores in self._scores.items():
            groups = array("I", (self._groups[position] for position in positions)) if self._group_codes else None
            yield name, stats.mean(array("d", (scores[position] for position in positions)), groups)

    def _bounds(self) -> Iterator[tuple[str, tuple[float, float]]]:
        if self.failed:
            for name, scores in self._scores.items():
                n = len(scores) + self.failed
                yield name, (sum(scores) / n, (sum(scores) + self.failed) / n)
