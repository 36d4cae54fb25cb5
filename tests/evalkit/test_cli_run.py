"""``evalkit run``: what is printed, what is returned."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from tests.evalkit.small import RIDDLES, Ran

from evalkit_dummy import Dummy

Cli = Callable[..., Ran]
RUN = ("run", "-m", "dummy", "-b", "arithmetic")

#: Sums whose likeliest answer is asked for, and their generated form.
CHOICES = """
from evalkit import Benchmark, Context, Data, Example, GenerateRequest, LikelihoodRequest, Reading, hookimpl
from evalkit.extract import first_line, likeliest
from evalkit.metrics import equal


def _fields():
    return dict(
        name="choices", version=1, doc="Right or wrong.", facet="knowledge",
        data=Data(home="here", licence="CC0-1.0", file="choices.jsonl", rows=None, sample=({"q": "A?"}, {"q": "B?"})),
        example=lambda row: Example(id=str(row.number), question=row["q"], target=row["q"][0]),
    )


def choices(*, share: float = 0.5):
    return Benchmark(
        asks="likelihood", generated="generate",
        request=lambda example, context: LikelihoodRequest(prompt=example.question, continuations=(" A", " B")),
        readings=(Reading(name="letter", extract=likeliest("AB"), metrics={"accuracy": equal}),), **_fields(),
    )


def generated(*, share: float = 0.5):
    return Benchmark(
        variant="generate",
        request=lambda example, context: GenerateRequest(prompt=example.question, max_tokens=4),
        readings=(Reading(name="letter", extract=first_line, metrics={"accuracy": equal}),), **_fields(),
    )


@hookimpl
def benchmarks():
    return [choices, generated]
"""

WRITER = '''
from evalkit import Backend, Generation, Text, hookimpl


class Writer(Backend):
    """Writes A."""

    can = frozenset({"generate"})

    def __init__(self, model):
        pass

    def generate(self, requests):
        for position, request in requests:
            yield position, Generation(texts=(Text(text="A"),))


@hookimpl
def backend():
    return Writer
'''


def test_the_table_names_benchmark_model_numbers_and_folder(cli: Cli) -> None:
    ran = cli(*RUN)
    header, row, folder = ran.out.splitlines()
    assert ran.code == 0
    assert " ".join(header.split()) == "benchmark setting model n metric value ± stderr unanswered failed"
    assert " ".join(row.split()) == "arithmetic arithmetic dummy 20 exact_match 10.0 % ± 6.9 0 0"
    assert re.fullmatch(r"arithmetic: runs/arithmetic/dummy-[0-9a-f]{8}", folder)
    assert Path(folder.partition(" ")[2]).is_dir()


def test_progress_goes_to_standard_error(cli: Cli) -> None:
    doc, loading, last = cli(*RUN).err.splitlines()
    assert (doc, loading) == ("arithmetic: Sums of two one-digit numbers.", "Loading dummy …")
    assert re.fullmatch(r"arithmetic 20/20 · [\d.]+/s · 10\.0 % \[2\.8, 30\.1\]", last)


def test_json_prints_one_document_and_nothing_else(cli: Cli) -> None:
    ran = cli(*RUN, "--json")
    assert (ran.code, ran.err) == (0, "")
    (summary,) = ran.document
    assert list(summary) == [
        *("benchmark", "setting", "model", "n", "unanswered", "failed", "metrics", "bounds"),
        *("subsets", "groups", "notes", "requests", "run"),
    ]
    assert (summary["benchmark"], summary["model"], summary["n"]) == ("arithmetic", "dummy", 20)
    assert summary["metrics"]["exact_match"]["value"] == 0.1
    assert summary["run"].startswith("runs/arithmetic/dummy-")


def test_several_benchmarks_are_run_in_turn(cli: Cli, tmp_path: Path) -> None:
    (tmp_path / "riddles.py").write_text(RIDDLES.replace('file="riddles.jsonl"', 'file=""'))
    ran = cli(*RUN, "-b", "./riddles.py", "--json")
    assert (ran.code, [one["setting"] for one in ran.document]) == (0, ["arithmetic", "riddles"])


def test_repeating_a_command_asks_nothing(cli: Cli) -> None:
    first = cli(*RUN)
    again = cli(*RUN)
    assert again.out == first.out
    assert again.err == "arithmetic: Sums of two one-digit numbers.\n"


def test_a_grown_limit_says_what_is_there_already(cli: Cli) -> None:
    cli(*RUN, "--limit", 5)
    ran = cli(*RUN, "--limit", 12)
    assert "arithmetic: 5 of 12 responses are there already." in ran.err
    assert "arithmetic: 12 of 20 examples" in ran.out


def test_options_of_backend_and_benchmark_reach_them(cli: Cli) -> None:
    (summary,) = cli(*RUN, "-M", "fail=1.0", "-B", "n=7", "--allow-failures", "--json").document
    assert (summary["n"], summary["failed"]) == (0, 7)
    binds = json.loads(Path(summary["run"], "run.json").read_text())["binds"]
    assert (binds["options"], binds["model"]["options"]) == ({"n": 7}, {"fail": 1.0})


def test_options_may_be_spelt_with_underscores(cli: Cli) -> None:
    dashes = cli(*RUN, "--chat-template", "x", "--batch-size", 4, "--dry-run", "--json")
    underscores = cli(*RUN, "--chat_template", "x", "--batch_size", 4, "--dry_run", "--json")
    assert dashes == underscores
    assert dashes.document[0]["chat"] is True
    assert cli(*RUN, "--allow_failures", "--retry_failed", "--shots_data", ".").code == 0


def test_the_batch_size_is_no_setting(cli: Cli) -> None:
    runs = [cli(*RUN, *more, "--json").document[0]["run"] for more in ((), ("--batch-size", 4), ("-M", "delay=0.0001"))]
    assert len(set(runs)) == 1


def test_failures_make_the_exit_code_3(cli: Cli) -> None:
    ran = cli(*RUN, "-M", "fail=0.2")
    assert ran.code == 3
    assert ran.err.splitlines()[-1] == (
        "4 responses failed: `evalkit show RUN --failed` tells why, --retry-failed asks them again."
    )
    assert "(worst 10.0, best 30.0)" in ran.out
    allowed = cli(*RUN, "-M", "fail=0.2", "--allow-failures")
    assert (allowed.code, allowed.out) == (0, ran.out)
    assert cli(*RUN, "-M", "fail=0.2", "--json").code == 3


def test_a_loose_file_is_run_and_found_again_from_elsewhere(
    cli: Cli, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "riddles.py").write_text(RIDDLES)
    ran = cli("run", "-m", "dummy", "-b", "./riddles.py", "--data", "sample")
    assert (ran.code, ran.out.splitlines()[2]) == (0, "riddles: made-up sample rows, not the benchmark: no result")
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    assert cli("score", *(tmp_path / "runs" / "riddles").iterdir()).code == 0


@pytest.mark.parametrize("asked", ["choices", "evalkit-choices:choices", "./choices.py"])
def test_a_backend_that_only_generates_gets_the_generated_form(
    cli: Cli, install: Callable[..., None], tmp_path: Path, asked: str
) -> None:
    install("evalkit-choices", "evalkit.benchmarks:choices", code=CHOICES)
    install("evalkit-writer", "evalkit.backends:writer", code=WRITER)
    (tmp_path / "choices.py").write_text(CHOICES)
    likely, written = (
        cli("run", "-m", model, "-b", asked, "-B", "share=0.25", "--data", "sample", "--json").document[0]
        for model in ("dummy", "writer")
    )
    assert (likely["setting"], written["setting"]) == ("choices", "choices:generate")
    assert written["metrics"]["accuracy"]["value"] == 0.5
    manifest = json.loads(Path(written["run"], "run.json").read_text())
    assert (manifest["binds"]["benchmark"], manifest["binds"]["options"]) == ("choices:generate", {"share": 0.25})
    assert cli("score", written["run"], "--json").document == [written]


def test_a_backend_that_cannot_answer_at_all_is_refused(cli: Cli, install: Callable[..., None]) -> None:
    code = CHOICES.replace('generated="generate",', "")
    install("evalkit-choices", "evalkit.benchmarks:choices", code=code)
    install("evalkit-writer", "evalkit.backends:writer", code=WRITER)
    ran = cli("run", "-m", "writer", "-b", "choices", "--data", "sample")
    assert (ran.code, ran.err) == (1, "Error: writer cannot answer what choices asks (likelihood).\n")


def test_a_backend_of_a_named_distribution_is_used(cli: Cli, install: Callable[..., None]) -> None:
    for name in ("evalkit-writer", "other-writer"):
        install(name, "evalkit.backends:writer", code=WRITER)
    assert "choose evalkit-writer:writer or other-writer:writer" in cli("run", "-m", "writer", "-b", "arithmetic").err
    ran = cli("run", "-m", "other-writer:writer:tiny", "-b", "arithmetic", "--json")
    assert (ran.code, ran.document[0]["model"]) == (0, "other-writer:writer:tiny")


@pytest.mark.parametrize("asked", ["some/model", "folder"])
def test_a_bare_name_means_the_default_backend(
    cli: Cli, install: Callable[..., None], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, asked: str
) -> None:
    monkeypatch.setattr("evalkit.models.DEFAULT_BACKEND", "writer")
    install("evalkit-writer", "evalkit.backends:writer", code=WRITER)
    (tmp_path / "folder").mkdir()
    ran = cli("run", "-m", asked, "-b", "arithmetic")
    assert ran.err.startswith(f"Backend: writer (write writer:{asked} to say so yourself).\n")
    assert f" writer:{asked} " in ran.out


# Dry runs


def test_a_dry_run_shows_prompts_tokens_and_requests_and_opens_no_model(
    cli: Cli, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def opened(self: Dummy) -> None:
        raise AssertionError("opened")

    monkeypatch.setattr(Dummy, "open", opened)
    ran = cli(*RUN, "--limit", 3, "--dry-run")
    assert (ran.code, ran.err) == (0, "")
    assert ran.out.splitlines() == [
        "── arithmetic · example 0 · 7 tokens",
        "0 + 0 =",
        "── arithmetic · example 1 · 7 tokens",
        "1 + 0 =",
        "── arithmetic: 3 requests to dummy, plain text, 21 tokens of prompts (longest 7)",
        "── 3 prompts examined: nothing found",
    ]
    assert list(tmp_path.iterdir()) == []


def test_a_dry_run_renders_the_chat(cli: Cli) -> None:
    ran = cli(*RUN, "--chat-template", "x", "--limit", 1, "--dry-run", "--json")
    assert (ran.code, ran.err) == (0, "")
    assert ran.document == [
        {
            "benchmark": "arithmetic",
            "setting": "arithmetic",
            "model": "dummy",
            "requests": 1,
            "chat": True,
            "prompt_tokens": 14,
            "longest": 14,
            "prompts": [{"id": "0", "prompt": "User: 0 + 0 =\nModel: ", "tokens": 14}],
            "findings": [],
        }
    ]


def test_a_dry_run_without_a_tokenizer_counts_no_tokens(cli: Cli, install: Callable[..., None]) -> None:
    install("evalkit-writer", "evalkit.backends:writer", code=WRITER)
    ran = cli("run", "-m", "writer", "-b", "arithmetic", "--limit", 1, "--dry-run")
    assert ran.out.splitlines() == [
        "── arithmetic · example 0",
        "0 + 0 =",
        "── arithmetic: 1 requests to writer, plain text",
        "── 1 prompt examined: nothing found",
    ]


def test_what_would_move_the_terminal_is_escaped(cli: Cli, tmp_path: Path) -> None:
    (tmp_path / "riddles.py").write_text(RIDDLES.replace("What has", "\\x1b[2J\\u202e[bold]:tada:\\ud800"))
    ran = cli("run", "-m", "dummy", "-b", "./riddles.py", "--data", "sample", "--dry-run")
    assert ran.out.splitlines()[1] == "\\x1b[2J\\u202e[bold]:tada:\\ud800 keys but opens no door?"


# What is not there


def test_a_model_that_is_closed_after_an_error(cli: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    closed: list[bool] = []
    monkeypatch.setattr(Dummy, "close", lambda self: closed.append(True))
    assert (cli(*RUN, "--limit", 0).code, closed) == (1, [True])


def test_resume_goes_with_one_benchmark(cli: Cli) -> None:
    ran = cli(*RUN, "-b", "arithmetic", "--resume", "runs")
    assert (ran.code, ran.err) == (1, "Error: --resume names one run folder; give one --bench with it.\n")


def test_resume_with_another_setting_is_refused_naming_it(cli: Cli) -> None:
    folder = cli(*RUN, "--json").document[0]["run"]
    assert cli(*RUN, "--resume", folder).code == 0
    ran = cli(*RUN, "--resume", folder, "--seed", 7)
    assert (ran.code, ran.err) == (1, f"Error: {folder} is another run: it differs in seed (42 there, 7 here).\n")


def test_a_fault_of_ours_is_one_line_and_all_of_it_on_demand(
    cli: Cli, install: Callable[..., None], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    code = WRITER.replace("yield position,", "raise RuntimeError('The card\\nis full.')\n            yield position,")
    install("evalkit-writer", "evalkit.backends:writer", code=code)
    ran = cli("run", "-m", "writer", "-b", "arithmetic")
    fault = "Error: RuntimeError: The card is full. (EVALKIT_TRACEBACK=1 shows where this comes from.)"
    assert (ran.code, ran.err.splitlines()[-1]) == (1, fault)
    monkeypatch.setenv("EVALKIT_TRACEBACK", "1")
    with pytest.raises(RuntimeError, match="The card"):
        _main("run", "-m", "writer", "-b", "arithmetic")


def test_a_users_fault_has_its_traceback_on_demand_too(cli: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("EVALKIT_TRACEBACK", "1")
    cli("--version")
    with pytest.raises(Exception, match="would ask nothing"):
        _main(*RUN, "--limit", "0")


def _main(*arguments: str) -> None:
    sys.argv = ["evalkit", *arguments]
    from evalkit.cli import main

    main()


def test_a_second_process_on_one_folder_is_refused(process: Callable[..., Ran], tmp_path: Path) -> None:
    # It is killed long before it has its first answer.
    command = [sys.executable, "-m", "evalkit", *RUN, "-M", "delay=60"]
    first = subprocess.Popen(command, cwd=tmp_path, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
    assert first.stderr is not None
    try:
        assert any("Loading" in line for line in first.stderr)
        second = process(*RUN, "--json")
        assert first.poll() is None
    finally:
        first.kill()
        first.wait()
        first.stderr.close()
    (folder,) = (tmp_path / "runs" / "arithmetic").iterdir()
    assert second == Ran(
        1,
        "",
        f"Error: Another process is writing to {folder.relative_to(tmp_path)}; "
        "wait for it, or choose another folder with --out.\n",
    )
    assert process(*RUN, "--json").code == 0
