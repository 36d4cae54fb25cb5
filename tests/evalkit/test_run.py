"""A run asks what was not asked before, keeps what was answered, and says how its settings differ from another's."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any, ClassVar

import pytest
from tests.evalkit.small import Notes, Recorder, echo, run_small

from evalkit import (
    Backend,
    Benchmark,
    Context,
    EvalkitError,
    Example,
    GenerateRequest,
    Generation,
    Indexed,
    Likelihood,
    LikelihoodRequest,
    Reading,
    Text,
)
from evalkit.errors import Interrupted, PluginError, RunError
from evalkit.extract import likeliest
from evalkit.metrics import equal

ALL = ["0", "1", "2", "3", "4", "5"]


def journal(out: Path) -> list[dict[str, Any]]:
    (path,) = out.glob("*/*/responses.jsonl")
    return [json.loads(line) for line in path.read_text().splitlines()]


def records(run: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (Path(run) / "records.jsonl").read_text().splitlines()]


# The whole way


def test_a_run_ends_with_its_numbers(tmp_path: Path) -> None:
    watch = Notes()
    summary = run_small(echo(), Recorder(), tmp_path, watch=watch)
    estimate = summary["metrics"]["exact_match"]
    assert (summary["n"], summary["unanswered"], summary["failed"], estimate["value"]) == (6, 0, 0, 4 / 6)
    assert {name: part["metrics"]["exact_match"]["value"] for name, part in summary["subsets"].items()} == {
        "even": 2 / 3,
        "odd": 2 / 3,
    }
    assert (summary["bounds"], summary["notes"]) == ({}, [])
    assert json.loads((Path(summary["run"]) / "summary.json").read_text()) == summary
    assert (watch.began, watch.scores) == ((6, 0), [1.0, 1.0, 1.0, 1.0, 0.0, 0.0])
    assert watch.said == ["echo: Numbers to repeat.", "Loading recorder …"]


def test_a_record_holds_one_examples_whole_way(tmp_path: Path) -> None:
    summary = run_small(echo(n=1), Recorder(), tmp_path)
    assert records(summary["run"]) == [
        {
            "id": "0",
            "question": "Say 0",
            "target": "0",
            "subset": "even",
            "request": {"prompt": "Say 0", "max_tokens": 4, "id": "0"},
            "response": {"texts": [{"text": "0"}]},
            "answers": {"plain": "0"},
            "scores": {"exact_match": 1.0},
        }
    ]


def test_records_hold_no_clock_value(tmp_path: Path) -> None:
    runs = [Path(run_small(echo(), Recorder(), tmp_path / name)["run"]) for name in ("a", "b")]
    assert (runs[0] / "records.jsonl").read_bytes() == (runs[1] / "records.jsonl").read_bytes()


# Asking nothing twice


def test_repeating_a_run_asks_nothing_and_loads_nothing(tmp_path: Path) -> None:
    first, again = Recorder(), Recorder()
    summaries = [run_small(echo(), backend, tmp_path) for backend in (first, again)]
    assert summaries[0] == summaries[1]
    assert (first.asked, first.opened) == (ALL, 1)
    assert (again.asked, again.opened) == ([], 0)


def test_a_stopped_run_goes_on_where_it_stopped(tmp_path: Path) -> None:
    with pytest.raises(Interrupted) as caught:
        run_small(echo(), Recorder(stops_after=2), tmp_path)
    (folder,) = tmp_path.glob("echo/*")
    assert str(caught.value) == f"Stopped: 2 of 6 responses are kept in {folder}; repeat the command to go on."
    assert caught.value.exit_code == 75
    rest, watch = Recorder(), Notes()
    summary = run_small(echo(), rest, tmp_path, watch=watch)
    assert rest.asked == ["2", "3", "4", "5"]
    assert watch.began == (6, 2)
    undisturbed = run_small(echo(), Recorder(), tmp_path / "undisturbed")
    assert records(summary["run"]) == records(undisturbed["run"])
    assert [line["position"] for line in journal(tmp_path)] == [0, 1, 2, 3, 4, 5]


def test_a_larger_limit_asks_only_what_is_new(tmp_path: Path) -> None:
    backends = [Recorder() for _ in range(3)]
    summaries = [
        run_small(echo(), backend, tmp_path, limit=limit) for backend, limit in zip(backends, (2, 4, None), strict=True)
    ]
    assert [backend.asked for backend in backends] == [["0", "1"], ["2", "3"], ["4", "5"]]
    assert [summary["n"] for summary in summaries] == [2, 4, 6]
    assert len({summary["run"] for summary in summaries}) == 1
    assert [record["id"] for record in records(summaries[2]["run"])] == ALL


def test_a_smaller_limit_reports_only_its_own(tmp_path: Path) -> None:
    run_small(echo(), Recorder(), tmp_path)
    backend = Recorder()
    shrunk = run_small(echo(), backend, tmp_path, limit=2)
    alone = run_small(echo(), Recorder(), tmp_path / "alone", limit=2)
    assert backend.asked == []
    assert [record["id"] for record in records(shrunk["run"])] == ["0", "1"]
    assert {**shrunk, "run": ""} == {**alone, "run": ""}, "the digest of the requests included"


def test_a_smaller_limit_that_is_stopped_counts_only_its_own(tmp_path: Path) -> None:
    run_small(echo(n=4), Recorder(), tmp_path, subsets=["even"])
    with pytest.raises(Interrupted, match="Stopped: 1 of 2 responses are kept"):
        run_small(echo(n=4), Recorder(stops_after=0), tmp_path, limit=2)


def test_a_limit_and_subsets_are_noted(tmp_path: Path) -> None:
    assert run_small(echo(), Recorder(), tmp_path, limit=2)["notes"] == ["2 of 6 examples"]
    assert run_small(echo(), Recorder(), tmp_path, subsets=["odd"])["notes"] == ["3 of 6 examples"]
    assert run_small(echo(), Recorder(), tmp_path)["notes"] == []


def test_a_subset_may_be_added_later(tmp_path: Path) -> None:
    first, second = Recorder(), Recorder()
    run_small(echo(), first, tmp_path, subsets=["odd"])
    run_small(echo(), second, tmp_path, subsets=["odd", "even"])
    assert (first.asked, second.asked) == (["1", "3", "5"], ["0", "2", "4"])


# Settings


def test_a_changed_setting_is_another_folder_and_the_field_is_named(tmp_path: Path) -> None:
    run_small(echo(), Recorder(), tmp_path)
    watch, backend = Notes(), Recorder()
    run_small(echo(), backend, tmp_path, seed=7, watch=watch)
    assert backend.asked == ALL
    (said,) = (said for said in watch.said if "nearest" in said)
    assert re.fullmatch(r"A new run; the nearest, .*recorder-[0-9a-f]{8}, differs in seed \(42 there, 7 here\)\.", said)


def test_the_nearest_run_is_the_one_with_the_fewest_differences(tmp_path: Path) -> None:
    run_small(echo(), Recorder(), tmp_path, seed=1, options={"heat": 0.5}, name="a")
    run_small(echo(), Recorder(), tmp_path, seed=2, options={"heat": 0.5}, name="a")
    watch = Notes()
    run_small(echo(), Recorder(), tmp_path, seed=2, options={"heat": 0.7}, name="a", watch=watch)
    assert watch.said[-2].endswith("differs in model.options.heat (0.5 there, 0.7 here).")


def test_a_run_of_another_model_is_no_near_one(tmp_path: Path) -> None:
    run_small(echo(), Recorder(), tmp_path, name="one")
    watch = Notes()
    run_small(echo(), Recorder(), tmp_path, name="other", watch=watch)
    assert watch.said == ["echo: Numbers to repeat.", "Loading recorder:other …"]


def test_a_damaged_neighbour_does_not_matter(tmp_path: Path) -> None:
    run = run_small(echo(), Recorder(), tmp_path)["run"]
    (Path(run) / "run.json").write_text("{")
    (Path(run).parent / "notes.txt").write_text("a file")
    assert run_small(echo(), Recorder(), tmp_path, seed=7)["n"] == 6


def test_what_changes_no_answer_is_no_setting(tmp_path: Path) -> None:
    class Fast(Recorder):
        speed_options = frozenset({"batch_size"})

    slow = run_small(echo(), Fast(), tmp_path, options={"batch_size": 1})
    fast = run_small(echo(), Fast(), tmp_path, options={"batch_size": 64})
    assert slow["run"] == fast["run"]


def test_a_model_with_other_weights_is_another_run(tmp_path: Path) -> None:
    class Weighed(Recorder):
        weights = "one"

        def fingerprint(self) -> dict[str, str]:
            return {"weights": self.weights}

    class Retrained(Weighed):
        weights = "other"

    watch = Notes()
    run_small(echo(), Weighed(), tmp_path)
    run_small(echo(), Retrained(), tmp_path, watch=watch)
    assert watch.said[1].endswith("differs in model.fingerprint.weights (one there, other here).")


def test_resuming_a_folder_with_other_settings_is_refused_naming_them(tmp_path: Path) -> None:
    run = run_small(echo(), Recorder(), tmp_path)["run"]
    backend = Recorder()
    with pytest.raises(RunError) as caught:
        run_small(echo(version=2), backend, tmp_path, seed=7, resume=Path(run))
    assert str(caught.value) == (
        f"{run} is another run: it differs in seed (42 there, 7 here); version (1 there, 2 here)."
    )
    assert backend.asked == []


def test_resuming_a_folder_goes_on_in_it_wherever_it_lies(tmp_path: Path) -> None:
    run = Path(run_small(echo(), Recorder(), tmp_path, limit=4)["run"])
    moved = run.rename(tmp_path / "moved")
    backend = Recorder()
    assert run_small(echo(), backend, tmp_path / "elsewhere", resume=moved)["run"] == str(moved)
    assert backend.asked == ["4", "5"]
    assert not (tmp_path / "elsewhere").exists()


def test_a_request_that_changed_under_the_same_version_is_refused(tmp_path: Path) -> None:
    run_small(echo(), Recorder(), tmp_path)
    for backend in (Recorder(), Recorder(stops_after=0)):
        with pytest.raises(RunError) as caught:
            run_small(echo(prompt="Repeat"), backend, tmp_path)
        assert str(caught.value) == (
            "This run asked example '0' of echo differently: its code changed under the same version. "
            "Raise the benchmark's `version`, or choose another folder with --out."
        )


def test_options_that_are_tuples_are_the_same_when_read_back(tmp_path: Path) -> None:
    benchmark = echo(rules={"stops": ("a", "b"), "inf": math.inf})
    run = run_small(benchmark, Recorder(), tmp_path)["run"]
    assert run_small(benchmark, Recorder(), tmp_path, resume=Path(run))["run"] == run


# Failures


def test_failed_responses_are_counted_and_bounded_and_never_scored(tmp_path: Path) -> None:
    summary = run_small(echo(), Recorder(fails=["0", "5"]), tmp_path)
    assert (summary["n"], summary["failed"], summary["metrics"]["exact_match"]["value"]) == (4, 2, 3 / 4)
    assert summary["bounds"] == {"exact_match": [3 / 6, 5 / 6]}
    failed = records(summary["run"])[0]
    assert (failed["answers"], failed["scores"], failed["response"]) == (
        {},
        {},
        {"texts": [{"error": "It was told to fail."}]},
    )


def test_when_all_fail_there_is_no_number(tmp_path: Path) -> None:
    summary = run_small(echo(), Recorder(fails=ALL), tmp_path)
    assert (summary["n"], summary["failed"], summary["metrics"], summary["subsets"]) == (0, 6, {}, {})
    assert summary["bounds"] == {"exact_match": [0.0, 1.0]}


def test_failed_responses_are_asked_again_only_on_demand(tmp_path: Path) -> None:
    run_small(echo(), Recorder(fails=["0", "5"]), tmp_path)
    again, retried, watch = Recorder(), Recorder(), Notes()
    assert run_small(echo(), again, tmp_path)["failed"] == 2
    assert again.asked == []
    assert run_small(echo(), retried, tmp_path, retry_failed=True, watch=watch)["failed"] == 0
    assert (retried.asked, watch.began) == (["0", "5"], (6, 4))
    assert run_small(echo(), Recorder(), tmp_path)["n"] == 6


def test_one_failed_text_fails_its_example(tmp_path: Path) -> None:
    class Half(Recorder):
        def generate(self, requests: Iterable[Indexed[Any]]) -> Iterator[Indexed[Generation]]:
            for position, _ in requests:
                yield position, Generation(texts=(Text(text="x"), Text(error="Cut off.")))

    assert run_small(echo(), Half(), tmp_path)["failed"] == 6


def test_silence_is_counted_and_scores_zero(tmp_path: Path) -> None:
    class Silent(Recorder):
        def text(self, request: Any) -> Text:
            return Text(text=" \n")

    summary = run_small(echo(), Silent(), tmp_path)
    assert (summary["n"], summary["unanswered"], summary["metrics"]["exact_match"]["value"]) == (6, 6, 0.0)


# Backends of all manners


class Reversed(Recorder):
    """Collects all requests and answers the last one first."""

    def generate(self, requests: Iterable[Indexed[Any]]) -> Iterator[Indexed[Generation]]:
        yield from reversed(list(super().generate(requests)))


def test_records_are_in_example_order_whatever_order_answers_come_in(tmp_path: Path) -> None:
    summary = run_small(echo(), Reversed(), tmp_path / "reversed")
    assert [line["position"] for line in journal(tmp_path / "reversed")] == [5, 4, 3, 2, 1, 0]
    straight = run_small(echo(), Recorder(), tmp_path / "straight")
    assert records(summary["run"]) == records(straight["run"])
    assert summary["requests"] == straight["requests"]


class Faulty(Recorder):
    """Answers what it should and adds what it should not."""

    def __init__(self, *, change: Callable[[list[Indexed[Generation]]], list[Indexed[Generation]]]) -> None:
        super().__init__()
        self._change = change

    def generate(self, requests: Iterable[Indexed[Any]]) -> Iterator[Indexed[Generation]]:
        yield from self._change(list(super().generate(requests)))


@pytest.mark.parametrize(
    ("change", "fault", "kept"),
    [
        (lambda found: [*found[:2], *found], "recorder answered request 0, which is not open.", [0, 1]),
        (lambda found: [found[0], (99, found[1][1])], "recorder answered request 99, which is not open.", [0]),
        (lambda found: found[:4], "recorder left 2 requests without a response; repeat the command.", [0, 1, 2, 3]),
    ],
    ids=["twice", "unknown", "never"],
)
def test_a_backend_that_miscounts_is_named_and_the_rest_is_kept(
    tmp_path: Path, change: Callable[[Any], Any], fault: str, kept: list[int]
) -> None:
    with pytest.raises(PluginError) as caught:
        run_small(echo(), Faulty(change=change), tmp_path)
    assert str(caught.value) == fault
    assert [line["position"] for line in journal(tmp_path)] == kept
    rest = Recorder()
    assert run_small(echo(), rest, tmp_path)["n"] == 6
    assert rest.asked == ALL[len(kept) :]


def test_what_was_answered_before_a_backend_broke_is_kept(tmp_path: Path) -> None:
    class Breaks(Recorder):
        def text(self, request: Any) -> Text:
            if request.id == "3":
                raise MemoryError("The card is full.")
            return super().text(request)

    with pytest.raises(MemoryError):
        run_small(echo(), Breaks(), tmp_path)
    rest = Recorder()
    run_small(echo(), rest, tmp_path)
    assert rest.asked == ["3", "4", "5"]


@pytest.mark.parametrize("what", ["generate", "likelihood"])
def test_a_backend_that_cannot_says_so(what: str) -> None:
    with pytest.raises(EvalkitError, match=r"^Backend cannot (generate|give likelihoods)\.$"):
        getattr(Backend(), what)([])


# Likelihoods


class Letters(Backend):
    """Finds the right letter likeliest on even lines."""

    can: ClassVar[frozenset[str]] = frozenset({"likelihood"})

    def likelihood(self, requests: Iterable[Indexed[LikelihoodRequest]]) -> Iterator[Indexed[Likelihood]]:
        for position, request in requests:
            logprobs = (-1.0, -2.0) if position % 2 else (-2.0, -2.0)
            yield position, Likelihood(logprobs=logprobs, lengths=(1,) * len(request.continuations))


def choosing() -> Benchmark[Any]:
    """Choose between two letters; B is right on odd lines."""

    def request(example: Example, context: Context) -> LikelihoodRequest:
        return LikelihoodRequest(prompt=example.question, continuations=(" A", " B"))

    benchmark = echo(
        asks="likelihood",
        request=request,
        readings=(Reading(name="letter", extract=likeliest("AB"), metrics={"accuracy": equal}),),
    )
    example = benchmark.example
    return replace(benchmark, example=lambda row: replace(example(row), target="AB"[row["number"] % 2]))


def test_the_likeliest_letter_is_the_answer_and_the_first_of_two_equal(tmp_path: Path) -> None:
    summary = run_small(choosing(), Letters(), tmp_path)
    found = records(summary["run"])
    assert [record["answers"]["letter"] for record in found] == ["A"] * 6
    assert summary["metrics"]["accuracy"]["value"] == 0.5
    assert found[0]["response"] == {"logprobs": [-2.0, -2.0], "lengths": [1, 1]}


def test_a_request_of_the_wrong_kind_is_named(tmp_path: Path) -> None:
    with pytest.raises(PluginError, match="echo says it asks likelihood, but made a GenerateRequest"):
        run_small(echo(asks="likelihood"), Letters(), tmp_path)


@pytest.mark.parametrize("change", [{"max_tokens": 0}, {"n": 0}])
def test_a_request_for_nothing_is_refused(tmp_path: Path, change: dict[str, Any]) -> None:
    request = replace(GenerateRequest(prompt="Say 0", max_tokens=4), **change)
    with pytest.raises(EvalkitError, match=r"^echo asks for \d texts of \d tokens; give 1 or more\.$"):
        run_small(echo(request=lambda example, context: request), Recorder(), tmp_path)


def test_a_model_that_chose_nothing_is_unanswered(tmp_path: Path) -> None:
    class Mute(Letters):
        def likelihood(self, requests: Iterable[Indexed[LikelihoodRequest]]) -> Iterator[Indexed[Likelihood]]:
            return ((position, Likelihood()) for position, _ in requests)

    summary = run_small(choosing(), Mute(), tmp_path)
    assert (summary["n"], summary["unanswered"], summary["failed"]) == (6, 6, 0)


# Benchmarks that break


def test_a_benchmark_that_cannot_ask_names_the_example(tmp_path: Path) -> None:
    def request(example: Example, context: Context) -> Any:
        return {"none": None}[example.id]

    with pytest.raises(PluginError) as caught:
        run_small(echo(request=request), Recorder(), tmp_path)
    assert str(caught.value) == "echo cannot ask example '0' (KeyError: '0')."


def test_a_benchmark_that_cannot_score_names_the_example_and_loses_no_response(tmp_path: Path) -> None:
    broken = Reading[Generation](name="plain", extract=lambda response, example: "x", metrics={"exact_match": _divide})
    with pytest.raises(PluginError) as caught:
        run_small(echo(readings=(broken,)), Recorder(), tmp_path)
    assert str(caught.value) == (
        "echo cannot score example '0': ZeroDivisionError: division by zero. "
        "The responses are kept; once the plugin is mended, `evalkit score` reads them again."
    )
    assert len(journal(tmp_path)) == 1


def _divide(answer: str, example: Example) -> float:
    return 1 / 0


def test_two_runs_in_one_folder_are_refused(tmp_path: Path) -> None:
    class Meddler(Recorder):
        def open(self) -> None:
            run_small(echo(), Recorder(), tmp_path)

    with pytest.raises(RunError, match=r"Another process is writing to .*; wait for it, or choose another folder"):
        run_small(echo(), Meddler(), tmp_path)


class Adapting(Recorder):
    """Sends something otherwise than asked from its second request on."""

    def remarks(self) -> tuple[str, ...]:
        return ("sent b for a",) if len(self.asked) > 1 else ()


def test_what_was_sent_otherwise_than_asked_is_a_note_of_the_run(tmp_path: Path) -> None:
    """Also of a run that is stopped, and once however often it is resumed and scored."""
    with pytest.raises(Interrupted):
        run_small(echo(), Adapting(stops_after=1), tmp_path)
    (file,) = tmp_path.glob("*/*/run.json")
    before = json.loads(file.read_text())
    assert "notes" not in before
    with pytest.raises(Interrupted):
        run_small(echo(), Adapting(stops_after=2), tmp_path)
    assert json.loads(file.read_text()) == {**before, "notes": ["sent b for a"]}
    # Nothing is left to be sent otherwise, but what was sent before is not forgotten.
    run_small(echo(), Adapting(), tmp_path)
    assert run_small(echo(), Recorder(), tmp_path)["notes"] == ["sent b for a"]
    assert json.loads(file.read_text())["notes"] == ["sent b for a"]
