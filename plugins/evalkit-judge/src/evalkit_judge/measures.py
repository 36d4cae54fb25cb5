"""The statistics of a judge's verdicts, each with its uncertainty."""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import combinations

from evalkit import stats
from evalkit.types import Estimate
from evalkit_judge.verdicts import JudgedPair, decided

_TOKEN = re.compile(r"\w+|[^\w\s]")
#: Fewer points have no interval.
_FEWEST = 4


def unique_words(text: str) -> int:
    """Distinct words and marks; capitals count."""
    return len(set(_TOKEN.findall(text)))


@dataclass(frozen=True, slots=True, kw_only=True)
class LengthControlled:
    """The win rate that there would be between outputs of equal length."""

    estimate: Estimate
    #: The logit of a win grows by this much per unit of tanh(Δ length / standard deviation of Δ length).
    slope: float


def win_rate(pairs: Iterable[JudgedPair]) -> Estimate | None:
    """The mean over pairs; its standard error is the sample's standard deviation / √n, as on AlpacaEval's board."""
    scores = [one.score for one in pairs if one.score is not None]
    return stats.mean(scores) if scores else None


def first_preferred(pairs: Iterable[JudgedPair]) -> tuple[Estimate, int] | None:
    """How often the output that stood first is preferred, of the verdicts that are no tie, and how many those are.

    One half is no bias, where each pair is shown in both orders or in one that a coin decides.
    """
    scores, groups = [], []
    for number, one in enumerate(pairs):
        for verdict in one.verdicts:
            if verdict.first is not None and verdict.score in (0.0, 1.0):
                scores.append(float((verdict.score == 1.0) is verdict.first))
                groups.append(number)
    clustered = len(set(groups)) < len(groups)
    return (stats.mean(scores, groups if clustered else None), len(scores)) if scores else None


def consistency(pairs: Iterable[JudgedPair]) -> tuple[Estimate, int] | None:
    """How often both orders get the same verdict, of the pairs that have both and are not equal, and how many."""
    both = [one.scores for one in pairs if len(one.scores) == 2 and not one.pair.is_tie]
    return (stats.mean([float(one == other) for one, other in both]), len(both)) if both else None


def length_controlled(pairs: Iterable[JudgedPair]) -> LengthControlled | None:
    """A logistic regression of the score on tanh(Δ / sd(Δ)), where Δ is how many characters longer the answer is.

    The estimate is the fitted win rate at Δ = 0, with a standard error that allows for any variance (sandwich) and an
    interval on the scale of the logit. None where it cannot be told: lengths that do not differ, or that separate wins
    from losses.
    """
    known = [(one.score, len(one.pair.said) - len(one.pair.reference)) for one in pairs if one.score is not None]
    deltas = [delta for _, delta in known]
    spread = _deviation(deltas)
    if not spread:
        return None
    fitted = _logistic([math.tanh(delta / spread) for delta in deltas], [score for score, _ in known])
    if fitted is None:
        return None
    intercept, slope, error = fitted
    value, low, high = (_sigmoid(intercept + z * error) for z in (0.0, -stats.Z, stats.Z))
    stderr = value * (1 - value) * error
    return LengthControlled(estimate=Estimate(value=value, stderr=stderr, low=low, high=high), slope=slope)


@dataclass(frozen=True, slots=True, kw_only=True)
class Agreement:
    """How far opinions of the same pairs agree."""

    #: Win, loss and tie must be the same.
    exact: Estimate
    #: A tie against a win or a loss counts one half, as in the paper's human evaluation.
    relaxed: Estimate
    #: Comparisons, and the pairs that they are about.
    n: int
    pairs: int


def agreement(opinions: Iterable[tuple[float, Sequence[float]]]) -> Agreement | None:
    """Compare one opinion of each pair with others of it; standard errors are clustered by pair."""
    return _agreed((one, other, number) for number, (one, labels) in enumerate(opinions) for other in labels)


def mutual(labels: Iterable[Sequence[float]]) -> Agreement | None:
    """The agreement among those who gave labels, over all pairs of them that saw the same."""
    return _agreed((one, other, number) for number, some in enumerate(labels) for one, other in combinations(some, 2))


def _agreed(compared: Iterable[tuple[float, float, int]]) -> Agreement | None:
    found = [(decided(one), decided(other), number) for one, other, number in compared]
    if not found:
        return None
    groups = [number for _, _, number in found]
    exact = [float(one == other) for one, other, _ in found]
    relaxed = [1.0 - abs(one - other) for one, other, _ in found]
    clusters = groups if len(set(groups)) < len(groups) else None
    return Agreement(
        exact=stats.mean(exact, clusters),
        relaxed=stats.mean(relaxed, clusters),
        n=len(found),
        pairs=len(set(groups)),
    )


def pearson(xs: Sequence[float], ys: Sequence[float]) -> Estimate | None:
    """Pearson's r with Fisher's 95 % interval, which takes four points or more; None where one side does not vary."""
    n = len(xs)
    if n < 2:
        return None
    mean_x, mean_y = math.fsum(xs) / n, math.fsum(ys) / n
    sum_x = math.fsum((x - mean_x) ** 2 for x in xs)
    sum_y = math.fsum((y - mean_y) ** 2 for y in ys)
    if not sum_x or not sum_y:
        return None
    both = math.fsum((x - mean_x) * (y - mean_y) for x, y in zip(xs, ys, strict=True))
    r = max(-1.0, min(1.0, both / math.sqrt(sum_x * sum_y)))
    if n < _FEWEST or abs(r) == 1.0:
        return Estimate(value=r, stderr=None, low=None, high=None)
    centre, error = math.atanh(r), 1 / math.sqrt(n - 3)
    low, high = math.tanh(centre - stats.Z * error), math.tanh(centre + stats.Z * error)
    return Estimate(value=r, stderr=None, low=low, high=high)


def preferred(mine: float, theirs: float) -> float:
    """1 where mine is more, 0 where it is less, one half for a tie."""
    return 0.5 if mine == theirs else float(mine > theirs)


def _deviation(values: Sequence[float]) -> float:
    """The sample's standard deviation; 0 for fewer than two."""
    n = len(values)
    mean = math.fsum(values) / n if n else 0.0
    return math.sqrt(math.fsum((one - mean) ** 2 for one in values) / (n - 1)) if n > 1 else 0.0


def _logistic(xs: Sequence[float], ys: Sequence[float]) -> tuple[float, float, float] | None:
    """Intercept, slope and the intercept's robust standard error, by Newton's method; None where there is no maximum.

    The scores may lie between 0 and 1: what is maximized is then a quasi-likelihood.
    """
    a = b = 0.0
    for _ in range(100):
        residuals = [y - _sigmoid(a + b * x) for x, y in zip(xs, ys, strict=True)]
        gradient = math.fsum(residuals), math.fsum(r * x for r, x in zip(residuals, xs, strict=True))
        h = _information(a, b, xs)
        determinant = h[0] * h[2] - h[1] ** 2
        if determinant < 1e-12:
            return None
        step = (
            (h[2] * gradient[0] - h[1] * gradient[1]) / determinant,
            (h[0] * gradient[1] - h[1] * gradient[0]) / determinant,
        )
        a, b = a + step[0], b + step[1]
        if max(abs(a), abs(b)) > 30:  # wins and losses are separated: the maximum lies at infinity
            return None
        if max(map(abs, step)) < 1e-10:
            weights = [(h[2] - h[1] * x) / determinant for x in xs]
            variance = math.fsum((w * r) ** 2 for w, r in zip(weights, residuals, strict=True))
            return a, b, math.sqrt(variance)
    return None


def _information(a: float, b: float, xs: Sequence[float]) -> tuple[float, float, float]:
    spread = [p * (1 - p) for p in (_sigmoid(a + b * x) for x in xs)]
    return (
        math.fsum(spread),
        math.fsum(w * x for w, x in zip(spread, xs, strict=True)),
        math.fsum(w * x * x for w, x in zip(spread, xs, strict=True)),
    )


def _sigmoid(x: float) -> float:
    return 1 / (1 + math.exp(-x)) if x >= 0 else math.exp(x) / (1 + math.exp(x))
