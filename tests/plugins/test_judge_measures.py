"""The statistics of verdicts against scipy and statsmodels, and against AlpacaEval's leaderboard."""

from __future__ import annotations

import csv
import gzip
import json
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from evalkit import stats
from evalkit_judge import measures
from evalkit_judge.pairs import Pair
from evalkit_judge.verdicts import JudgedPair, Verdict

#: Our win rate at equal length in percent, and how far it lies from the leaderboard's, whose model knows more.
LENGTH_CONTROLLED = {
    "alpaca-7b": (25.68, -0.62),
    "gpt4_0314": (79.22, -6.12),
    "llama-2-7b-chat-hf": (17.59, -11.71),
    "oasst-rlhf-llama-33b": (58.37, 2.56),
    "vicuna-13b": (50.00, 0.00),
    "wizardlm-13b": (65.79, 3.24),
}
SCORES = st.sampled_from([0.0, 0.25, 0.5, 0.75, 1.0])


def judged(*scores: float | None, first: bool | None = True, said: str = "x", reference: str = "y") -> JudgedPair:
    """A pair with a verdict for each score; the second of two is about the other order."""
    sides = (first, None if first is None else not first)
    verdicts = tuple(Verdict(first=sides[number % 2], score=score) for number, score in enumerate(scores))
    return JudgedPair(pair=Pair(id="0", instruction="?", said=said, reference=reference), verdicts=verdicts)


def of_lengths(scores: Sequence[float], deltas: Sequence[int]) -> list[JudgedPair]:
    return [
        judged(score, said="s" * (100 + delta), reference="r" * 100)
        for score, delta in zip(scores, deltas, strict=True)
    ]


def test_the_win_rate_is_the_mean_over_pairs_however_many_orders_each_has() -> None:
    pairs = [judged(1.0, 0.0), judged(1.0), judged(0.0, None), judged(None, None), judged(0.5, 0.5)]
    found = measures.win_rate(pairs)
    assert found is not None
    assert found.value == (0.5 + 1 + 0 + 0.5) / 4
    assert found.stderr == pytest.approx(math.sqrt(((0.5) ** 2 * 2) / 3 / 4))
    assert measures.win_rate([judged(None)]) is None


def test_the_first_is_preferred_by_those_who_look_at_nothing_else() -> None:
    always_first = [judged(1.0, 0.0, first=True), judged(0.0, 1.0, first=False)]
    found = measures.first_preferred(always_first)
    assert found is not None
    assert (found[0].value, found[1]) == (1.0, 4)
    fair = measures.first_preferred([judged(1.0, 1.0), judged(0.0, 0.0)])
    assert fair is not None
    assert fair[0].value == 0.5
    assert measures.first_preferred([judged(0.5), judged(1.0, first=None), judged(None)]) is None


def test_both_verdicts_on_a_pair_are_one_unit_of_evidence() -> None:
    firsts = [(1.0, 1.0), (1.0, 0.0), (1.0, 1.0), (0.0, 0.0)]  # whether the first is preferred, in either order
    found = measures.first_preferred([judged(one, 1.0 - other) for one, other in firsts])
    alone = measures.first_preferred([judged(one) for one, _ in firsts])
    assert found is not None
    assert alone is not None
    every = [score for pair in firsts for score in pair]
    assert found[0] == stats.mean(every, [0, 0, 1, 1, 2, 2, 3, 3])
    assert alone[0] == stats.mean([one for one, _ in firsts])


def test_consistency_asks_for_both_orders_and_leaves_equal_outputs_out() -> None:
    pairs = [judged(1.0, 1.0), judged(1.0, 0.0), judged(1.0), judged(0.5, 0.5, reference="x"), judged(0.0, None)]
    found = measures.consistency(pairs)
    assert found is not None
    assert (found[0].value, found[1]) == (0.5, 2)
    assert measures.consistency([judged(1.0)]) is None


@settings(max_examples=30)
@given(st.lists(st.tuples(SCORES, st.integers(-90, 900)), min_size=6, max_size=40))
def test_the_win_rate_at_equal_length_is_that_of_statsmodels(rows: list[tuple[float, int]]) -> None:
    numpy = pytest.importorskip("numpy")
    sm = pytest.importorskip("statsmodels.api")
    scores, deltas = zip(*rows, strict=True)
    found = measures.length_controlled(of_lengths(scores, deltas))
    assume(found is not None and abs(found.slope) < 15)
    assert found is not None
    x = numpy.tanh(numpy.array(deltas) / numpy.std(deltas, ddof=1))
    model = sm.GLM(numpy.array(scores), sm.add_constant(x), family=sm.families.Binomial())
    fitted = model.fit(cov_type="HC0", tol=1e-12, maxiter=200)
    at_zero = 1 / (1 + math.exp(-fitted.params[0]))
    assert found.slope == pytest.approx(fitted.params[1], rel=1e-4, abs=1e-6)
    assert found.estimate.value == pytest.approx(at_zero, rel=1e-4, abs=1e-7)
    assert found.estimate.stderr == pytest.approx(fitted.bse[0] * at_zero * (1 - at_zero), rel=1e-3, abs=1e-7)


@pytest.mark.parametrize(
    ("scores", "deltas"),
    [
        ((1.0, 1.0, 0.0, 0.0), (5, 9, -5, -9)),
        ((1.0, 1.0, 1.0), (5, 9, -5)),
        ((1.0, 0.0, 1.0), (7, 7, 7)),
        ((1.0,), (3,)),
        ((), ()),
    ],
)
def test_lengths_that_tell_nothing_give_no_number(scores: tuple[float, ...], deltas: tuple[int, ...]) -> None:
    assert measures.length_controlled(of_lengths(scores, deltas)) is None


def test_equal_judgements_at_all_lengths_are_the_win_rate_itself() -> None:
    found = measures.length_controlled(of_lengths([1.0, 0.0] * 6, [-40, -40, -9, -9, 3, 3, 20, 20, 60, 60, 70, 70]))
    assert found is not None
    assert found.estimate.value == pytest.approx(0.5)
    assert found.slope == pytest.approx(0.0, abs=1e-9)


def leaderboard(test_data: Path) -> dict[str, dict[str, str]]:
    with (test_data / "nc/alpaca_eval/alpaca_eval_gpt4_leaderboard.csv").open() as file:
        return {row[""]: row for row in csv.DictReader(file)}


def annotated(test_data: Path, model: str) -> list[JudgedPair]:
    file = test_data / "nc/alpaca_eval" / model / "alpaca_eval_gpt4" / "annotations.json.gz"
    worth = {0.0: 0.5, 1.5: 0.5, 1.0: 0.0, 2.0: 1.0}
    rows: list[dict[str, Any]] = json.loads(gzip.decompress(file.read_bytes()))
    return [
        judged(
            None if row["preference"] is None else worth[row["preference"]],
            first=None,
            said=row["output_2"],
            reference=row["output_1"],
        )
        for row in rows
    ]


@pytest.mark.parametrize(("model", "numbers"), LENGTH_CONTROLLED.items(), ids=LENGTH_CONTROLLED)
def test_the_win_rate_at_equal_length_beside_the_leaderboards(
    test_data: Path, model: str, numbers: tuple[float, float]
) -> None:
    found = measures.length_controlled(annotated(test_data, model))
    assert found is not None
    value = 100 * found.estimate.value
    there = float(leaderboard(test_data)[model]["length_controlled_winrate"])
    assert (round(value, 2), round(value - there, 2)) == numbers


def test_both_put_the_models_in_nearly_the_same_order_at_equal_length(test_data: Path) -> None:
    scipy = pytest.importorskip("scipy.stats")
    theirs = [float(leaderboard(test_data)[model]["length_controlled_winrate"]) for model in LENGTH_CONTROLLED]
    ours = [value for value, _ in LENGTH_CONTROLLED.values()]
    assert round(scipy.spearmanr(ours, theirs).statistic, 2) == 0.94


@given(st.lists(st.tuples(st.floats(-1e3, 1e3), st.floats(0, 1)), min_size=4, max_size=30))
def test_pearsons_r_and_its_interval_are_scipys(points: list[tuple[float, float]]) -> None:
    scipy = pytest.importorskip("scipy.stats")
    xs, ys = zip(*points, strict=True)
    assume(max(xs) - min(xs) > 1e-3 and max(ys) - min(ys) > 1e-3)
    found, expected = measures.pearson(xs, ys), scipy.pearsonr(xs, ys)
    assume(abs(expected.statistic) < 0.999999)
    assert found is not None
    interval = expected.confidence_interval(0.95)
    assert found.value == pytest.approx(expected.statistic, abs=1e-9)
    assert found.low == pytest.approx(interval.low, abs=1e-7)
    assert found.high == pytest.approx(interval.high, abs=1e-7)


def test_few_points_have_no_interval_and_equal_ones_no_correlation() -> None:
    found = measures.pearson([1, 2, 3], [0.1, 0.5, 0.4])
    assert found is not None
    assert (found.low, found.high) == (None, None)
    assert measures.pearson([1, 1, 1, 1], [0.1, 0.2, 0.3, 0.4]) is None
    assert measures.pearson([1, 2, 3, 4], [0.5, 0.5, 0.5, 0.5]) is None
    assert measures.pearson([1], [0.5]) is None
    perfect = measures.pearson([1, 2, 3, 4], [0.1, 0.2, 0.3, 0.4])
    assert perfect is not None
    assert (round(perfect.value, 12), perfect.low) in {(1.0, None), (1.0, 1.0)} or (perfect.low or 0) > 0.999


def test_agreement_counts_a_tie_on_one_side_as_half() -> None:
    found = measures.agreement([(1.0, (1.0, 0.5, 0.0)), (0.5, (0.5,)), (0.25, ())])
    assert found is not None
    assert (found.exact.value, found.relaxed.value, found.n, found.pairs) == (2 / 4, 2.5 / 4, 4, 2)
    assert measures.agreement([(1.0, ())]) is None


def test_agreement_among_people_compares_each_with_each() -> None:
    found = measures.mutual([(1.0, 1.0, 0.0), (1.0,), (0.5, 0.0)])
    assert found is not None
    assert (found.exact.value, found.relaxed.value, found.n, found.pairs) == (1 / 4, 1.5 / 4, 4, 2)


def test_one_opinion_per_pair_has_the_usual_standard_error() -> None:
    found = measures.agreement([(1.0, (1.0,)), (1.0, (0.0,)), (0.0, (0.0,)), (0.0, (0.0,))])
    assert found is not None
    assert found.exact.stderr == pytest.approx(math.sqrt(0.75 * 0.25 / 3))


@pytest.mark.parametrize(
    ("text", "count"), [("", 0), ("one two, two.", 4), ("The the", 2), ("a-b a b", 3), ("naïve 你好 你好", 2)]
)
def test_unique_words_and_marks(text: str, count: int) -> None:
    assert measures.unique_words(text) == count


@pytest.mark.parametrize(("mine", "theirs", "score"), [(2, 1, 1.0), (1, 2, 0.0), (3, 3, 0.5)])
def test_more_wins(mine: int, theirs: int, score: float) -> None:
    assert measures.preferred(mine, theirs) == score
