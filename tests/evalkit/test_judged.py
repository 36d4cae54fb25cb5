"""What a judge needs of the core: replies that fail and are asked again, examples that hold several items, ties."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import click
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.evalkit.small import Notes, Recorder, echo, run_small

from evalkit import Benchmark, Data, Example, GenerateRequest, Generation, Reading, Shots, Text, stats
from evalkit.cli import evalkit
from evalkit.cli.run import SUMMARIES
from evalkit.errors import RunError
from evalkit.journal import Journal
from evalkit.report import suite_row
from evalkit.scoring import Tally, is_unreadable, record
from evalkit.suite import Entry, Suite
from evalkit.types import Record


def read_or_not(response: Generation, example: Example) -> str | None:
    """What does not begin with a question mark can be read."""
    text = response.texts[0].text
    return None if text.startswith("?") else text


def judging(**fields: Any) -> Benchmark[Any]:
    """The echo, as a benchmark whose silence fails; it is asked again warmly."""
    readings = (Reading(name="plain", extract=read_or_not, metrics={"points": lambda answer, example: 1.0}),)
    usual = {
        "readings": readings,
        "silence": "fails",
        "again": lambda request, attempt: replace(request, temperature=0.5, seed=attempt),
    }
    return echo(**{**usual, **fields})


class Mumbler(Recorder):
    """Mumbles where it is asked coldly, and remembers the requests."""

    def __init__(self, mumbles: tuple[str, ...] = (), **more: Any) -> None:
        super().__init__(**more)
        self.requests: list[GenerateRequest] = []
        self._mumbles = mumbles

    def text(self, request: GenerateRequest) -> Text:
        self.requests.append(request)
        if request.id in self._mumbles and not request.temperature:
            return Text(text="?")
        return super().text(request)


def journal(run: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in Path(run, "responses.jsonl").read_text().splitlines()]


# Asked again


def test_an_unreadable_reply_is_asked_again_on_demand_as_a_new_line_with_its_attempt(tmp_path: Path) -> None:
    mumbler = Mumbler(("1", "4"))
    first = run_small(judging(), mumbler, tmp_path)
    assert (first["n"], first["failed"], first["bounds"]) == (4, 2, {"points": [4 / 6, 1.0]})
    again = run_small(judging(), Mumbler(("1", "4")), tmp_path)
    assert again == first
    retried, watch = Mumbler(("1", "4")), Notes()
    second = run_small(judging(), retried, tmp_path, retry_failed=True, watch=watch)
    assert [request.id for request in retried.requests] == ["1", "4"]
    assert (second["n"], second["failed"], second["bounds"]) == (6, 0, {})
    assert watch.began == (6, 4)
    lines = journal(second["run"])
    assert [(line["position"], line.get("attempt")) for line in lines[6:]] == [(1, 2), (4, 2)]
    assert all("attempt" not in line for line in lines[:6])


def test_what_is_asked_again_is_what_the_benchmark_says_and_still_the_same_question(tmp_path: Path) -> None:
    first = run_small(judging(), Mumbler(("1",)), tmp_path)
    retried = Mumbler()
    second = run_small(judging(), retried, tmp_path, retry_failed=True)
    (sent,) = retried.requests
    assert (sent.temperature, sent.seed, sent.prompt) == (0.5, 2, "Say 1")
    lines = journal(second["run"])
    assert lines[6]["hash"] == lines[1]["hash"]
    assert (lines[6]["request"]["temperature"], lines[1]["request"].get("temperature")) == (0.5, None)
    assert second["requests"] == first["requests"]
    assert run_small(judging(), Mumbler(("1",)), tmp_path) == second  # asks nothing: the question is known


def test_a_reply_that_stays_unreadable_is_asked_with_the_next_attempt(tmp_path: Path) -> None:
    class Silent(Mumbler):
        def text(self, request: GenerateRequest) -> Text:
            super().text(request)
            return Text(text="?")

    seeds = []
    for _ in range(3):
        silent = Silent()
        run_small(judging(n=1), silent, tmp_path, retry_failed=True)
        seeds += [(request.temperature, request.seed) for request in silent.requests]
    assert seeds == [(0.0, 0), (0.5, 2), (0.5, 3)]
    with Journal(next(tmp_path.glob("*/*"))) as kept:
        assert kept.attempts == {0: 3}


def test_a_failed_response_is_asked_again_the_same_way_and_numbered(tmp_path: Path) -> None:
    run_small(judging(), Mumbler(fails=["3"]), tmp_path)
    retried = Mumbler()
    summary = run_small(judging(), retried, tmp_path, retry_failed=True)
    assert [(request.id, request.temperature) for request in retried.requests] == [("3", 0.0)]
    assert journal(summary["run"])[6]["attempt"] == 2


def test_where_nothing_says_how_a_reply_is_asked_for_again_the_same_way(tmp_path: Path) -> None:
    run_small(judging(again=None), Mumbler(("2",)), tmp_path)
    retried = Mumbler(("2",))
    assert run_small(judging(again=None), retried, tmp_path, retry_failed=True)["failed"] == 1
    assert [(request.id, request.temperature) for request in retried.requests] == [("2", 0.0)]


def test_silence_that_scores_0_is_not_asked_again(tmp_path: Path) -> None:
    run_small(judging(silence="scores 0"), Mumbler(("1",)), tmp_path)
    retried = Mumbler()
    summary = run_small(judging(silence="scores 0"), retried, tmp_path, retry_failed=True)
    assert (retried.requests, summary["unanswered"]) == ([], 1)


def test_what_lies_outside_the_limit_is_not_asked_again(tmp_path: Path) -> None:
    run_small(judging(), Mumbler(("1", "4")), tmp_path)
    retried = Mumbler(("1", "4"))
    run_small(judging(), retried, tmp_path, retry_failed=True, limit=2)
    assert [request.id for request in retried.requests] == ["1"]


def test_a_failed_response_is_not_unreadable() -> None:
    example = Example(id="0", question="?", target="x")
    assert is_unreadable(judging(), example, Generation(texts=(Text(text="?"),)))
    assert not is_unreadable(judging(), example, Generation(texts=(Text(error="Broken."),)))
    assert not is_unreadable(judging(), example, Generation(texts=(Text(text="fine"),)))
    assert not is_unreadable(judging(silence="scores 0"), example, Generation(texts=(Text(text="?"),)))


def test_a_damaged_attempt_is_named(tmp_path: Path) -> None:
    summary = run_small(judging(n=1), Mumbler(), tmp_path)
    path = Path(summary["run"], "responses.jsonl")
    path.write_text(path.read_text().replace('{"position"', '{"attempt":"often","position"'))
    with pytest.raises(RunError, match=r"responses.jsonl:1 is damaged"):
        Journal(path.parent)


# Settled without a model


def settled(example: Example) -> Generation | None:
    return Generation(texts=(Text(text="known"),)) if example.id in ("0", "3") else None


def test_a_settled_example_is_answered_but_never_asked(tmp_path: Path) -> None:
    backend, watch = Recorder(), Notes()
    summary = run_small(judging(settled=settled), backend, tmp_path, watch=watch)
    assert backend.asked == ["1", "2", "4", "5"]
    assert (summary["n"], watch.began) == (6, (6, 2))
    assert [line["response"]["texts"][0]["text"] for line in journal(summary["run"])] == [
        *("known", "known", "1", "2", "4", "5")
    ]
    assert run_small(judging(settled=settled), Recorder(), tmp_path) == summary


def test_where_all_is_settled_no_model_is_loaded(tmp_path: Path) -> None:
    backend = Recorder()
    summary = run_small(judging(n=1, settled=settled), backend, tmp_path)
    assert (summary["n"], backend.opened) == (1, 0)


def test_only_what_is_chosen_is_settled(tmp_path: Path) -> None:
    summary = run_small(judging(settled=settled), Recorder(), tmp_path, limit=2)
    assert [line["position"] for line in journal(summary["run"])] == [0, 1]


# Several items in one example


def points(*given: float | None, items: int) -> Tally:
    """A tally of examples that hold so many items, with these mean scores; None for one that failed."""
    benchmark = judging(items=lambda example: items)
    tally = Tally(benchmark)
    for number, score in enumerate(given):
        example = Example(id=str(number), question="?", target="x")
        request = GenerateRequest(prompt="?", max_tokens=1)
        response = Generation(texts=(Text(text="?"),))
        scores = {} if score is None else {"points": score}
        answers = {"plain": "x"}
        tally.add(Record(example=example, request=request, response=response, answers=answers, scores=scores))
    return tally


def test_an_example_of_five_items_counts_five_times_and_fails_five_times() -> None:
    summary = points(0.2, 1.0, None, items=5).summary(model="m", notes=(), requests="")
    assert (summary.n, summary.failed) == (10, 5)
    assert summary.metrics["points"].value == pytest.approx(0.6)
    assert summary.bounds["points"] == pytest.approx((6 / 15, 11 / 15))


@given(st.lists(st.sampled_from([0.0, 0.2, 0.5, 1.0]), min_size=2, max_size=9), st.integers(1, 5))
def test_items_of_one_example_are_one_unit_of_evidence(scores: list[float], items: int) -> None:
    found = points(*scores, items=items).summary(model="m", notes=(), requests="").metrics["points"]
    alone = stats.mean(scores)
    assert found.value == pytest.approx(alone.value)
    if len(set(scores)) > 1:
        assert found.stderr == pytest.approx(alone.stderr)


def test_an_example_is_one_item_unless_the_benchmark_says_more() -> None:
    assert echo().items(Example(id="0", question="?", target="")) == 1


def test_a_record_with_a_tuple_for_an_answer_is_scored() -> None:
    reading: Reading[Generation] = Reading(
        name="letters",
        extract=lambda response, example: ("a", "b"),
        metrics={"share": lambda answer, _: len(answer) / 4},
    )
    example, request = Example(id="0", question="?", target="ab"), GenerateRequest(prompt="?", max_tokens=1)
    found = record(judging(readings=(reading,)), example, request, Generation(texts=(Text(text="…"),)))
    assert (found.answers, found.scores) == ({"letters": ("a", "b")}, {"share": 0.5})


# What the manifest says of a judge's rows


def test_the_data_says_whose_answers_are_judged_and_what_to_know(tmp_path: Path) -> None:
    data = replace(echo().data, judged=lambda source: {"model": "camel", "notes": ["only one hump"]})
    summary = run_small(judging(data=data), Recorder(), tmp_path)
    assert summary["model"] == "camel"
    assert summary["notes"] == ["judged by recorder", "only one hump"]
    manifest = json.loads(Path(summary["run"], "run.json").read_text())
    assert (manifest["model"], manifest["judge"]) == ("camel", "recorder")


def test_made_up_rows_are_nobodys_answers(tmp_path: Path) -> None:
    data = Data(home="here", licence="CC0-1.0", file="x", rows=lambda _: [], sample=({"number": 0},))
    data = replace(data, judged=lambda source: {"model": "camel"})
    summary = run_small(judging(data=data), Recorder(), tmp_path, data="sample")
    assert (summary["model"], summary["notes"]) == ("recorder", ["made-up sample rows, not the benchmark: no result"])


def test_other_words_for_the_published_ones_are_noted(tmp_path: Path) -> None:
    shot = Example(id="0", question="Say it", target="it")

    def shots(source: Any, wanted: int, seed: int) -> Shots:
        return Shots(by_subset={"": (shot,)}, origin="in other words")

    assert run_small(judging(shots=shots), Recorder(), tmp_path)["notes"] == ["in other words"]


def test_a_suites_column_says_that_its_numbers_are_not_comparable() -> None:
    entry = Entry(setting="tales")
    suite = Suite(name="bedtime", doc="Tales.", parts=((entry,),))
    estimate = {"value": 0.5, "stderr": 0.1, "low": 0.3, "high": 0.7}
    summary = {
        "model": "m",
        "metrics": {"win_rate": estimate},
        "notes": ["judged by x", "not comparable with y, since z"],
    }
    columns = [column.header for column in suite_row(suite, [summary]).columns]
    assert columns == ["model", "tales, not comparable with y", "average"]


def test_a_command_that_invokes_run_finds_the_summaries(tmp_path: Path) -> None:
    command = evalkit.get_command(click.Context(evalkit), "run")
    assert command is not None
    outer = click.Context(click.Command("outer"))
    arguments = ["-m", "dummy", "-b", "arithmetic", "-B", "n=2", "--out", str(tmp_path), "--json"]
    with command.make_context("run", arguments, parent=outer) as inner:
        assert command.invoke(inner) == 0
    assert [summary["n"] for summary in outer.meta[SUMMARIES]] == [2]
