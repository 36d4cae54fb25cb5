"""What `trainer paper` prints can be run: each command is taken by the program that it names."""

from __future__ import annotations

import json
import shlex
import sys
from collections.abc import Iterator, Sequence
from importlib import import_module
from pathlib import Path

import click
import pytest
from tests.trainer.plugin import Cli

from trainer.cli import trainer
from trainer.errors import Interrupted, TrainerError, UnknownName
from trainer.recipes import paper
from trainer.recipes.facts import BASES, TABLES
from trainer.recipes.recipes import Recipe


def chains() -> Iterator[tuple[str, str, str]]:
    """All rows of all tables at all sizes."""
    for table, rows in TABLES.items():
        for name, row in rows.items():
            yield from ((table, name, base) for base in (*row.bases, *row.also))


def accept(program: click.Command, words: Sequence[str]) -> None:
    """Have a command line's words read by its program, and nothing done."""
    context, rest = click.Context(program, info_name=program.name), list(words)
    while isinstance(program, click.Group):
        name, found, rest = program.resolve_command(context, rest)
        assert found is not None, f"{program.name} has no command {name}"
        # The hub's commands are placeholders until they are asked for.
        program = found.materialize() if hasattr(found, "materialize") else found
        context = click.Context(program, parent=context, info_name=name)
    program.make_context(program.name, rest, parent=context.parent)


@pytest.fixture(scope="module")
def programs() -> dict[str, click.Command]:
    """The programs that a chain calls, by name."""
    from evalkit.cli import evalkit

    return {"trainer": trainer, "evalkit": evalkit, "hf": import_module("huggingface_hub.cli.hf").app}


@pytest.mark.parametrize("judge", ["", "openai:some-model"])
def test_every_command_of_every_row_is_taken_by_its_program(
    programs: dict[str, click.Command], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, judge: str
) -> None:
    monkeypatch.chdir(tmp_path)
    for table, row, size in chains():
        for step in paper.chain(table, row, size, judge=judge).steps:
            assert shlex.split(step.line) == list(step.command)
            program, *words = step.command
            accept(programs[program], words)
            # What it makes is an argument of later ones, and some look whether it is there.
            Path(step.makes).parent.mkdir(parents=True, exist_ok=True)
            Path(step.makes).touch() if Path(step.makes).suffix else Path(step.makes).mkdir(exist_ok=True)
            for word in words:
                if word.startswith("converted/"):
                    Path(word).touch()


def test_a_command_that_is_wrong_is_not_taken(programs: dict[str, click.Command]) -> None:
    with pytest.raises(click.UsageError):
        accept(programs["evalkit"], ["run", "--model", "dummy", "--sweet", "tulu"])


def test_without_a_judge_the_five_others_are_asked_as_the_suite_asks_them() -> None:
    tulu = pytest.importorskip("evalkit_tulu").TULU
    entries = [entry for part in tulu.parts for entry in part]
    asked = {entry.setting: entry.draw or 0 for entry in entries}
    assert asked == {**paper.BENCHMARKS, "alpacafarm": 0}


def test_a_row_s_chain_goes_from_the_model_to_its_numbers() -> None:
    found = paper.chain("table3", "human", judge="openai:some-model")
    names = ["model", "fetch", "convert", "mix", "prepare", "recipe", "train", "benchmarks", "evaluate"]
    assert [step.name for step in found.steps] == names
    assert found.recipe == Recipe(data="human", base=BASES["13b"])


def test_vanilla_is_only_evaluated() -> None:
    steps = paper.chain("table3", "vanilla").steps
    assert [step.name.partition("-")[0] for step in steps] == ["model", "benchmarks", *["evaluate"] * 5]
    assert all("hf:models/llama-13b" in step.command for step in steps[2:])


@pytest.mark.parametrize(
    ("asked", "says"),
    [
        (("table3", "cott", ""), "No row of table3 is named 'cott'. Did you mean 'cot'?"),
        (("table9", "cot", ""), "No table is named 'table9'. Did you mean"),
        (("table3", "cot", "65b"), "No size of cot is named '65b'."),
    ],
)
def test_what_the_paper_does_not_have_is_told_with_what_it_has(asked: tuple[str, str, str], says: str) -> None:
    with pytest.raises(UnknownName) as told:
        paper.chain(*asked)
    assert str(told.value).startswith(says)


def test_a_size_may_be_said_without_its_model() -> None:
    assert paper.chain("table4", "opt", "6.7b") == paper.chain("table4", "opt", "opt-6.7b")


def test_the_script_stands_beside_the_published_numbers(cli: Cli) -> None:
    code, out, _ = cli("paper", "table3", "--row", "cot", "--size", "13b")
    lines = out.splitlines()
    assert code == 0
    assert lines[:4] == [
        "# LLaMA 13B learns CoT",
        "#            MMLU  GSM  BBH  TyDiQA  Codex-Eval  AlpacaFarm  average",
        "# published  44.5  39.5  39.0    52.2        23.3         4.7     33.9",
        "set -e",
    ]
    assert [line.split()[0] for line in lines[4:]] == ["hf", *["trainer"] * 5, *["evalkit"] * 6]


def test_a_table_without_a_row_lists_its_rows(cli: Cli) -> None:
    _, out, _ = cli("paper", "table4")
    assert [line.split()[:3] for line in out.splitlines()[1:]] == [
        ["pythia", "pythia-6.9b", "34.6"],
        ["opt", "opt-6.7b", "34.9"],
        ["llama", "7b", "44.5"],
    ]


def test_options_are_added_to_a_step_and_to_all_that_evaluate() -> None:
    found = paper.chain("table3", "cot")
    more = paper.extended(found, ["train=--gpus-per-node 8", "evaluate=--limit 5", "evaluate-gsm=--shots 2"])
    changed = {new.name: new.command[len(old.command) :] for old, new in zip(found.steps, more.steps, strict=True)}
    assert changed["train"] == ("--gpus-per-node", "8")
    assert changed["evaluate-mmlu"] == ("--limit", "5")
    assert changed["evaluate-gsm"] == ("--limit", "5", "--shots", "2")
    assert changed["prepare"] == ()
    with pytest.raises(UnknownName, match=r"^No step is named 'trian'"):
        paper.extended(found, ["trian=--x"])


def small(*steps: tuple[str, str]) -> paper.Chain:
    """A chain of Python programs, each of which leaves a line in ``done.txt``."""
    made = []
    for name, code in steps:
        note = f"open('done.txt', 'a').write('{name} ')"
        made.append(paper.Step(name=name, command=(sys.executable, "-c", f"{note}; {code}"), makes="done.txt"))
    return paper.Chain(recipe=Recipe(data="cot", base=BASES["13b"]), steps=tuple(made))


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty folder to run in."""
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_a_run_goes_on_where_it_was_stopped(here: Path) -> None:
    stops = "import os, sys; sys.exit(0 if os.path.exists('mended') else 3)"
    found = small(("one", "0"), ("two", stops), ("three", "0"))
    said: list[str] = []
    with pytest.raises(TrainerError, match=r"^The step two failed with exit code 3: "):
        paper.run(found, skip=(), say=said.append)
    (here / "mended").touch()
    paper.run(found, skip=(), say=said.append)
    paper.run(found, skip=(), say=said.append)
    assert (here / "done.txt").read_text().split() == ["one", "two", "two", "three"]
    assert said[-3:] == ["one: done before.", "two: done before.", "three: done before."]
    told = [json.loads(line) for line in (here / "paper" / "cot-13b.jsonl").read_text().splitlines()]
    assert [line["step"] for line in told] == ["one", "two", "three"]


def test_a_step_is_done_again_when_its_words_change_or_its_work_is_gone(here: Path) -> None:
    paper.run(small(("one", "0")), skip=(), say=print)
    paper.run(small(("one", "1")), skip=(), say=print)
    (here / "done.txt").unlink()
    paper.run(small(("one", "1")), skip=(), say=print)
    paper.run(small(("one", "1")), skip=(), say=print)
    assert (here / "done.txt").read_text().split() == ["one"]
    assert len((here / "paper" / "cot-13b.jsonl").read_text().splitlines()) == 3


def test_a_step_that_is_skipped_is_not_started(here: Path) -> None:
    said: list[str] = []
    paper.run(small(("one", "0"), ("two", "0")), skip=("one",), say=said.append)
    assert (said[0], (here / "done.txt").read_text().split()) == ("one: skipped.", ["two"])
    with pytest.raises(UnknownName, match=r"^No step is named 'tow'"):
        paper.run(small(("two", "0")), skip=("tow",), say=print)


def test_a_step_that_was_interrupted_is_no_error(here: Path) -> None:
    with pytest.raises(Interrupted, match=r"^Stopped in one; repeat the command to go on\.$"):
        paper.run(small(("one", "import sys; sys.exit(75)")), skip=(), say=print)


def test_a_step_that_makes_nothing_has_failed(here: Path) -> None:
    step = paper.Step(name="one", command=(sys.executable, "-c", "0"), makes="lost.txt")
    with pytest.raises(TrainerError, match=r"^The step one made no lost\.txt"):
        paper.run(paper.Chain(recipe=Recipe(data="cot", base=BASES["13b"]), steps=(step,)), skip=(), say=print)


@pytest.mark.torch
def test_a_row_is_run_from_raw_rows_to_a_tuned_model(cli: Cli) -> None:
    small = pytest.importorskip("tests.trainer.small_models")
    # A small model stands where LLaMA 13B would, and sums where Dolly would; the benchmarks are left out.
    small.save("llama", Path("models/llama-13b"), max_position_embeddings=2048)
    Path("raw/dolly").mkdir(parents=True)
    rows = [{"instruction": f"What is {n} + 1?", "context": "", "response": f"It is {n + 1}."} for n in range(40)]
    text = "".join(json.dumps(row | {"category": "open_qa"}) + "\n" for row in rows)
    Path("raw/dolly/databricks-dolly-15k.jsonl").write_text(text)
    left_out = ("model", "fetch", "benchmarks", *(f"evaluate-{name}" for name in paper.BENCHMARKS))
    run = ["paper", "table3", "--row", "dolly", "--run", *(word for name in left_out for word in ("--skip", name))]
    train = "train=--with process --set batch=16 --set max_steps=2 --set precision=fp32"
    code, out, err = cli(*run, "--add", train)
    assert code == 0, err
    assert out.startswith("LLaMA 13B learns Dolly\n")
    assert Path("tuned/dolly-13b/model/model.safetensors").exists()
    done = ("convert", "prepare", "recipe", "train")
    assert [line for line in cli(*run, "--add", train)[2].splitlines() if "done" in line] == [
        f"{name}: done before." for name in done
    ]
