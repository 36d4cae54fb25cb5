"""What judges wrote, read: made-up replies of all manners, and all that GPT-4 is recorded to have written."""

from __future__ import annotations

import gzip
import json
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from evalkit_judge.replies import letter, letters, ranked, scored, scores

#: File of GPT-4's reviews -> what the folder's README gives: sum of Guanaco's scores over that of GPT-3.5, in percent.
REVIEWS = {
    "13b-guanaco-vicuna-generations-topp0.9-temp0.7-vs-gpt-3.5": (0, 114.5),
    "gpt-3.5-vs-13b-guanaco-vicuna-generations-topp0.9-temp0.7": (1, 107.0),
    "65b-guanaco-vicuna-generations-topp0.9-temp0.7-vs-gpt-3.5": (0, 103.5),
    "gpt-3.5-vs-65b-guanaco-vicuna-generations-topp0.9-temp0.7": (1, 98.1),
}


@pytest.mark.parametrize(
    ("text", "answer"),
    [
        ("Output (a)", "a"),
        ("output (B).", "b"),
        ("\n\n**Output (b)**\n", "b"),
        ("(a)", "a"),
        ("b", "b"),
        ("Output (a) is better, since it is correct.", "a"),
        ("Compared with Output (a), this one is longer.\nOutput (b)", "b"),
        ("Output (a)\nOn second thoughts:\nOutput (b)", "b"),
        ("Output (b) is better than Output (a).", None),
        ("Both are good.", None),
        ("Output (c)", None),
        ("", None),
        ("a bird", None),
    ],
)
def test_one_letter(text: str, answer: str | None) -> None:
    assert letter(text) == answer


@given(st.text(), st.sampled_from("ab"))
def test_a_letter_in_the_last_line_is_the_answer(before: str, last: str) -> None:
    assert letter(f"{before}\nOutput ({last})") == last


@pytest.mark.parametrize(
    ("text", "answer"),
    [
        ("Output (a)\nOutput (b)", ("a", "b")),
        ("Here:\n\nOutput (b)\n\nUser explanation: it is.\n\nOutput (a), clearly.", ("b", "a")),
        ("### Which is best for example 5, Output (a) or Output (b)?:\nOutput (a)\n### …6…:\nOutput (a)", ("a", "a")),
        ("Output (a)", None),
        ("Output (a)\nOutput (b)\nOutput (b)", None),
        ("1. Output (a)\n2. Output (b)", None),
        ("output (a)\noutput (b)", None),
        ("", None),
    ],
)
def test_as_many_letters_as_pairs_or_none(text: str, answer: tuple[str, ...] | None) -> None:
    assert letters(text, 2) == answer


@pytest.mark.parametrize(
    ("text", "answer"),
    [
        ("[{'model': 'model_1', 'rank': 1}, {'model': 'model_2', 'rank': 2}]", "a"),
        ("[\n    {'model': 'model_2', 'rank': 1},\n    {'model': 'model_1', 'rank': 2}\n]", "b"),
        ('Sure! ```python\n[{"model": "model_1", "rank": 2}, {"model": "model_2", "rank": 1}]\n```', "b"),
        ("[{'model': 'model_1', 'rank': 1}, {'model': 'model_2', 'rank': 1}]", "tie"),
        ("[{'model': 'model_1', 'rank': 1}]", None),
        ("[{'model': 'model_1', 'rank': 1}, {'model': 'model_3', 'rank': 2}]", None),
        ("[{'model': 'model_1', 'rank': None}, {'model': 'model_2', 'rank': 2}]", None),
        ("[{'model': 'model_1'}, {'model': 'model_2', 'rank': 2}]", None),
        ("[1, 2]", None),
        ("model_1 is better", None),
        ("[" * 3000 + "]" * 3000, None),
        ("[__import__('os').abort()]", None),
    ],
)
def test_rankings(text: str, answer: str | None) -> None:
    assert ranked(text) == answer


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("9 8.5\nBoth are good.", (9.0, 8.5)),
        ("9, 8", (9.0, 8.0)),
        ("\n10 10", (10.0, 10.0)),
        ("It depends.\n\nScores: Assistant 1: 7, Assistant 2: 8.5", (7.0, 8.5)),
        ("Assistant 1: 3 at first.\nBut then:\nAssistant 1: 4\nAssistant 2: 6", (4.0, 6.0)),
        ("Assistant 1:\n40 - 1\nAssistant 2:\n20-4\nThe output tuple is (9, 10). So.", (9.0, 10.0)),
        ("From (2, -2) to (10, 4).\nI cannot say.", None),
        ("9", None),
        ("9 8 7", None),
        ("90 80", None),
        ("Assistant 1: 40 - 1\nAssistant 2: 20", None),
        ("Assistant 1: 9", None),
        ("", None),
    ],
)
def test_two_scores(text: str, found: tuple[float, float] | None) -> None:
    assert scores(text) == found


@pytest.mark.parametrize(("text", "answer"), [("9 8", "a"), ("7.5 8", "b"), ("8 8.0", "tie"), ("?", None)])
def test_the_higher_score_wins(text: str, answer: str | None) -> None:
    assert scored(text) == answer


@pytest.mark.parametrize(("name", "expected"), REVIEWS.items(), ids=REVIEWS)
def test_all_of_gpt_4s_reviews_read_as_recorded_the_three_odd_ones_too(
    test_data: Path, name: str, expected: tuple[int, float]
) -> None:
    file = test_data / "oracles" / "judge_gpt4_vicuna" / f"{name}-gpt4-reviewer.jsonl.gz"
    reviews: list[dict[str, Any]] = [json.loads(line) for line in gzip.decompress(file.read_bytes()).splitlines()]
    found = [scores(review["text"]) for review in reviews]
    assert found == [tuple(map(float, review["score"])) for review in reviews]
    odd = [
        review for review in reviews if not review["text"].splitlines()[0].replace(" ", "").replace(".", "").isdigit()
    ]
    assert (len(found), len(odd)) == (80, 3)
    which, ratio = expected
    sums = [sum(pair[side] for pair in found if pair) for side in (which, 1 - which)]
    assert round(100 * sums[0] / sums[1], 1) == ratio


def test_all_recorded_rankings_can_be_read(test_data: Path) -> None:
    file = test_data / "nc/alpaca_eval/Mistral-7B-ReMax-v0.1/alpaca_eval_gpt4_turbo_fn/annotations.json.gz"
    rows = json.loads(gzip.decompress(file.read_bytes()))
    texts = [row["raw_completion"] for row in rows if row["raw_completion"] is not None]
    found = Counter(ranked(text) for text in texts)
    # The order was a coin's, which is not recorded: the letters cannot be held against the preferences.
    assert (len(rows), len(texts), found[None], found["tie"]) == (805, 803, 0, 2)
    assert 340 < found["a"] < 460
