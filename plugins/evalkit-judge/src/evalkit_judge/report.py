"""From judged runs to one document: everything that ``evalkit judge report`` tells."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from evalkit import EvalkitError, GenerateRequest
from evalkit.plugins import Plugins
from evalkit.types import Estimate
from evalkit_judge import measures
from evalkit_judge.gather import judged as labelled
from evalkit_judge.gather import of_file
from evalkit_judge.pairs import Pair
from evalkit_judge.verdicts import Judged, JudgedPair, read

#: Counts a text's distinct tokens.
Unique = Callable[[str], int]


def report(paths: Sequence[Path], *, tokenizer: str | None = None, human: Path | None = None) -> dict[str, Any]:
    """What the judges' runs at these paths say, and whether to believe it; raises EvalkitError for what is no such run.

    ``tokenizer`` names a model whose tokens are counted, words and marks otherwise. ``human`` is a judge's run or a
    file of pairs with people's opinions.
    """
    unique = unique_tokens(tokenizer) if tokenizer else measures.unique_words
    runs = [read(path) for path in paths]
    if human is not None:
        runs = [_labelled(run, human) for run in runs]
    found = [about(run, unique) for run in runs]
    counted = f"distinct tokens of {tokenizer}" if tokenizer else "distinct words and marks"
    return {"counted": counted, "runs": found, "correlation": _correlation(found)}


def about(run: Judged, unique: Unique) -> dict[str, Any]:
    """Everything about one run."""
    scored = [one for one in run.pairs if one.score is not None]
    length = measures.length_controlled(run.pairs)
    first, same = measures.first_preferred(run.pairs), measures.consistency(run.pairs)
    baselines = {
        "longer": [measures.preferred(len(one.pair.said), len(one.pair.reference)) for one in scored],
        "unique": [measures.preferred(unique(one.pair.said), unique(one.pair.reference)) for one in scored],
    }
    return {
        "run": str(run.path),
        "setting": run.setting,
        "model": run.model,
        "reference": run.reference,
        "judge": run.judge,
        "comparable": run.is_comparable,
        "notes": list(run.notes),
        "pairs": len(run.pairs),
        **_failures(run),
        "win_rate": _out(measures.win_rate(scored)),
        **_counts(scored),
        "length_controlled": None if length is None else {**asdict(length.estimate), "slope": length.slope},
        "first_preferred": None if first is None else {**asdict(first[0]), "n": first[1]},
        "consistency": None if same is None else {**asdict(same[0]), "n": same[1]},
        "length": _means(scored, len),
        "unique": _means(scored, unique),
        "baselines": {name: _baseline(scored, verdicts) for name, verdicts in baselines.items()},
        "labels": run.labels,
        "human": _human(scored, baselines),
        "sources": _sources(scored),
    }


def unique_tokens(model: str) -> Unique:
    """Counts the distinct token ids of a model's own tokenizer, without BOS; raises EvalkitError where it has none."""
    backend, _, name = model.partition(":")
    found = Plugins().backend(backend)(name).tokenizer()  # type: ignore[call-arg]
    if found is None:
        raise EvalkitError(f"{model} has no tokenizer to count with; name one as hf:ID_OR_PATH.")
    return lambda text: len(set(found.prompt_ids(GenerateRequest(prompt=text, max_tokens=1, bos=False))))


def _failures(run: Judged) -> dict[str, Any]:
    """How many verdicts failed, and what the win rate would be if all of them were losses, and wins."""
    failed = sum(verdict.score is None for one in run.pairs for verdict in one.verdicts)
    bounds = None
    if failed:
        sides = [[_bound(one, score) for one in run.pairs] for score in (0.0, 1.0)]
        bounds = [math.fsum(side) / len(side) for side in sides]
    return {
        "verdicts": sum(len(one.verdicts) for one in run.pairs),
        "failed": failed,
        "asked_again": run.asked_again,
        "bounds": bounds,
    }


def _bound(one: JudgedPair, score: float) -> float:
    scores = [score if verdict.score is None else verdict.score for verdict in one.verdicts]
    return math.fsum(scores) / len(scores)


def _counts(scored: Sequence[JudgedPair]) -> dict[str, Any]:
    """Wins, losses, and ties by their reason."""
    ties = [one for one in scored if one.score == 0.5]
    equal = sum(one.pair.is_tie for one in ties)
    undecided = sum(not one.pair.is_tie and set(one.scores) != {0.5} for one in ties)
    wins = sum(one.score is not None and one.score > 0.5 for one in scored)
    return {
        "wins": wins,
        "losses": len(scored) - len(ties) - wins,
        "ties": {"equal outputs": equal, "orders disagree": undecided, "judge": len(ties) - equal - undecided},
    }


def _means(scored: Sequence[JudgedPair], count: Unique) -> dict[str, float] | None:
    if not scored:
        return None
    return {
        "model": sum(count(one.pair.said) for one in scored) / len(scored),
        "reference": sum(count(one.pair.reference) for one in scored) / len(scored),
    }


def _baseline(scored: Sequence[JudgedPair], verdicts: Sequence[float]) -> dict[str, Any]:
    """The win rate by a judge that only counts, and how far the real one agrees with it."""
    dummies = [
        replace(one, verdicts=(replace(one.verdicts[0], score=verdict),))
        for one, verdict in zip(scored, verdicts, strict=True)
    ]
    agreed = measures.agreement(
        (one.score, (verdict,)) for one, verdict in zip(scored, verdicts, strict=True) if one.score is not None
    )
    return {"win_rate": _out(measures.win_rate(dummies)), "agreement": _agreement(agreed)}


def _human(scored: Sequence[JudgedPair], baselines: Mapping[str, Sequence[float]]) -> dict[str, Any] | None:
    """The judge's agreement with people's labels, that of the judges that only count, and that of people."""
    if not any(one.pair.labels for one in scored):
        return None
    labels = [one.pair.labels for one in scored]
    opinions = {"judge": [one.score or 0.0 for one in scored], **baselines}
    found = {name: _agreement(measures.agreement(zip(some, labels, strict=True))) for name, some in opinions.items()}
    return {**found, "people": _agreement(measures.mutual(labels))}


def _sources(scored: Iterable[JudgedPair]) -> dict[str, Any]:
    """The win rate by the source of the instruction, where that is known."""
    parts: dict[str, list[JudgedPair]] = {}
    for one in scored:
        parts.setdefault(one.pair.subset, []).append(one)
    if list(parts) == [""]:
        return {}
    return {name: {"n": len(some), "win_rate": _out(measures.win_rate(some))} for name, some in sorted(parts.items())}


def _correlation(found: Sequence[Mapping[str, Any]]) -> dict[str, Any] | None:
    """The paper's figure: unique tokens and win rate, a point a run."""
    points = [
        {
            "run": one["run"],
            "model": one["model"],
            "unique": one["unique"]["model"],
            "win_rate": one["win_rate"]["value"],
        }
        for one in found
        if one["win_rate"]
    ]
    if len(points) < 2:
        return None
    r = measures.pearson([point["unique"] for point in points], [point["win_rate"] for point in points])
    return {"points": points, "r": _out(r)}


def _labelled(run: Judged, human: Path) -> Judged:
    """The run with people's labels on the pairs that they saw, in whichever order."""
    known: dict[tuple[str, str, str], tuple[float, ...]] = {}
    found = labelled(human) if human.is_dir() else of_file(human)
    for pair in found.pairs:
        question, said, reference = _texts(pair)
        known[question, said, reference] = pair.labels
        known[question, reference, said] = tuple(1.0 - label for label in pair.labels)
    pairs = tuple(
        replace(one, pair=replace(one.pair, labels=known.get(_texts(one.pair), one.pair.labels))) for one in run.pairs
    )
    if not any(one.pair.labels for one in pairs):
        raise EvalkitError(
            f"{human} has no opinion of any pair in {run.path}: instruction and outputs must be the same."
        )
    return replace(run, pairs=pairs, labels=found.labels)


def _texts(pair: Pair) -> tuple[str, str, str]:
    return pair.question.strip(), pair.said.strip(), pair.reference.strip()


def _agreement(found: measures.Agreement | None) -> dict[str, Any] | None:
    return None if found is None else asdict(found)


def _out(estimate: Estimate | None) -> dict[str, Any] | None:
    return None if estimate is None else asdict(estimate)
