"""What a dry run finds, each finding provoked once, and that a clean set-up has none."""

from __future__ import annotations

import json
import tracemalloc
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from tests.evalkit.small import RIDDLES, Ran, echo, no_dataset
from tests.evalkit.test_verify import Counting

from evalkit import Benchmark, Data, EvalkitError, Example, Finding, GenerateRequest, LikelihoodRequest, Request, Shots
from evalkit.doctor import amount, examine
from evalkit.load import Choice, Model, Wishes, load
from evalkit_dummy import Dummy, Words

Cli = Callable[..., Ran]


class Small(Dummy):
    """A dummy whose model has room for so many tokens, and that has something to say."""

    def __init__(
        self, *, words: Words | None = None, context: int | None = None, says: Sequence[Finding] = (), fails: str = ""
    ) -> None:
        super().__init__("")
        self._own, self._context, self._says, self._fails_with = words or Words(None), context, says, fails
        self.tokens = -1

    def tokenizer(self) -> Words:
        return self._own

    def context(self) -> int | None:
        return self._context

    def findings(self, *, tokens: int) -> Sequence[Finding]:
        self.tokens = tokens
        if self._fails_with:
            raise EvalkitError(self._fails_with)
        return self._says


class Marked(Words):
    """Words behind a token that begins each text, which a template may have written, too."""

    def __init__(self, *, template: str = "") -> None:
        super().__init__(template or None)
        self._template = template

    def render(self, request: Request) -> str:
        text = super().render(replace(request, chat=False))
        if request.chat:
            text = self._template.format(text)
        return f"<s>{text}" if request.bos else text

    def prompt_ids(self, request: Request) -> list[int]:
        text = self.render(replace(request, bos=False))
        ids = [1] * text.count("<s>") + [2] * self.count(text.replace("<s>", ""))
        return [1, *ids] if request.bos else ids


class Lettered(Words):
    """Says how letters are encoded."""

    def __init__(self, ids: dict[str, list[int]]) -> None:
        super().__init__(None)
        self._letters = ids

    def continuation_ids(self, request: LikelihoodRequest) -> tuple[list[int], list[list[int]]]:
        return [0], [self._letters[one] for one in request.continuations]


class Level(NamedTuple):
    """A finding without its remedy."""

    level: str
    text: str


def found(
    benchmark: Benchmark[Any],
    backend: Dummy | None = None,
    *,
    name: str = "",
    judge: Model | None = None,
    **wishes: Any,
) -> list[Level]:
    choice = Choice(asked=benchmark.setting, benchmark=benchmark, options={})
    model = Model(backend_name="dummy", name=name, options={}, backend=backend or Small())
    wanted = Wishes(**wishes)
    loaded = load(choice, model, wanted, open_dataset=no_dataset)
    findings = examine(loaded, wanted, judge=judge).findings
    assert all(one.text.endswith(".") and (not one.remedy or one.remedy.endswith(".")) for one in findings)
    return [Level(one.level, one.text) for one in findings]


def generate(**settings: Any) -> dict[str, Any]:
    """A request with these settings for each question, in a chat where there is one."""

    def request(example: Example, context: Any) -> GenerateRequest:
        fields = {"max_tokens": 4, "chat": context.chat, "prompt": example.question}
        return GenerateRequest(**fields | settings)

    return {"request": request}


def targets(*right: str, **settings: Any) -> dict[str, Any]:
    """Questions with these right answers."""

    def example(row: Any) -> Example:
        number = row["number"]
        return Example(id=f"row/{number}", question=f"Say {number}", target=right[number % len(right)])

    return {"example": example, **generate(**settings)}


# Nothing


def test_a_clean_set_up_has_no_findings() -> None:
    assert found(echo(**generate(stop=("\n",)))) == []


def test_a_million_prompts_are_not_kept() -> None:
    def peak(n: int) -> int:
        choice = Choice(asked="echo", benchmark=echo(n=n, prompt="Say " + "x" * 1000), options={})
        model = Model(backend_name="dummy", name="", options={}, backend=Small(context=3))
        loaded = load(choice, model, Wishes(), open_dataset=no_dataset)
        tracemalloc.start()
        try:
            examine(loaded, Wishes())
            return tracemalloc.get_traced_memory()[1]
        finally:
            tracemalloc.stop()

    peak(10)
    assert peak(2000) - peak(200) < 100_000  # the prompts themselves have 1.8 MB


# Room


def test_a_prompt_that_fills_the_context_is_an_error_and_one_that_cuts_the_answer_a_warning() -> None:
    def example(row: Any) -> Example:
        return Example(id=f"row/{row['number']}", question="a " * row["number"] + "b", target="c")

    backend = Small(context=9)
    assert found(echo(example=example), backend) == [
        (
            "error",
            "In 2 of 6 prompts (row/4, row/5) there is no room for an answer within the model's 9 tokens (the longest "
            "has 11): each of them will fail.",
        ),
        (
            "warning",
            "In 1 of 6 prompts (row/3) an answer has less room within the model's 9 tokens than it may take (the least "
            "is 2): a long one will be cut there.",
        ),
    ]
    assert backend.tokens == 9  # what the model would hold at most


def test_a_continuation_needs_room_but_for_its_last_token() -> None:
    def request(example: Example, context: Any) -> LikelihoodRequest:
        return LikelihoodRequest(prompt="a b", continuations=(" c", " c d"))  # 3 tokens, and 2 or 4 more

    settings: dict[str, Any] = {"request": request, "asks": "likelihood"}
    assert found(echo(**settings), Small(context=6)) == []
    assert [one.level for one in found(echo(**settings), Small(context=5))] == ["error"]


# The template


def test_a_template_that_changes_words_is_a_warning_and_one_that_strips_blanks_a_note() -> None:
    words = Marked(template="[{}]")
    assert found(echo(**generate()), Small(words=words)) == []
    words = Marked(template="[nothing]")
    assert found(echo(**generate()), Small(words=words)) == [
        (
            "warning",
            "In all 6 prompts the chat template changes the text: it is not found in what the model sees.",
        )
    ]

    class Stripping(Marked):
        def render(self, request: Request) -> str:
            return super().render(replace(request, prompt=request.prompt.strip()))

    assert found(echo(**generate(prompt="Say 1\n")), Small(words=Stripping(template="[{}]"))) == [
        ("note", "In all 6 prompts the chat template strips blanks at the ends.")
    ]


def test_plain_text_for_a_model_with_a_template_is_a_warning() -> None:
    backend = Small(words=Words("x"))
    sentence = "Prompts go as plain text, although the model has a chat template."
    assert found(echo(), backend, chat="off") == [("warning", sentence)]
    assert found(echo(), backend) == []
    assert found(echo(chat=False), backend) == []
    assert found(echo(chat=False), backend, chat="off") == []
    assert found(echo(chat=False), backend, chat="on") == [
        ("note", "echo is meant to be asked as plain text, and goes as chat.")
    ]


@pytest.mark.parametrize("name", ["org/small-chat", "Small-Instruct-v2", "7B-chat/"])
def test_a_chat_models_name_without_a_template_is_a_warning(name: str) -> None:
    said = name.rstrip("/").rpartition("/")[2]
    assert found(echo(), name=name) == [
        (
            "warning",
            f"The name {said} says that the model was tuned to chat, but it has no chat template: prompts go as plain "
            "text.",
        )
    ]
    assert found(echo(), name=name, chat="off") == []
    assert found(echo(chat=False), name=name) == []


@pytest.mark.parametrize("name", ["org/small", "chatty", "instructor-xl", "chat/base"])
def test_other_names_say_nothing(name: str) -> None:
    assert found(echo(), name=name) == []


# BOS


def test_bos_that_stands_twice_is_a_warning() -> None:
    sentence = "In all 6 prompts the BOS token '<s>' stands twice at the beginning."
    assert found(echo(**generate()), Small(words=Marked(template="<s>[{}]"))) == [("warning", sentence)]
    assert found(echo(**generate()), Small(words=Marked(template="[{}]"))) == []


def test_a_prompt_that_begins_with_bos_itself_is_a_warning() -> None:
    assert found(echo(prompt="<s>Say"), Small(words=Marked())) == [
        ("warning", "In all 6 prompts the text itself begins with '<s>', which the model reads as its BOS.")
    ]


def test_bos_left_out_is_a_note_where_the_tokenizer_would_add_it() -> None:
    assert found(echo(**generate(bos=False)), Small(words=Marked())) == [
        ("note", "In all 6 prompts the BOS token '<s>' that the tokenizer would add is left out.")
    ]
    assert found(echo(**generate(bos=False)), Small()) == []


# Stop strings


def test_a_right_answer_with_a_stop_string_is_a_warning() -> None:
    assert found(echo(**targets("one", "two\nlines", "three##\n", stop=("\n", "##")))) == [
        (
            "warning",
            "In 4 of 6 right answers (first row/1, row/2, row/4) there is a stop string ('\\n', '##'), so that no "
            "model can write them whole.",
        )
    ]


def test_blanks_around_a_right_answer_are_not_needed_and_one_right_answer_is_enough() -> None:
    assert found(echo(**targets("\n one \n", stop=("\n",)))) == []

    def example(row: Any) -> Example:
        return Example(id=str(row["number"]), question="q", target="a\nb", aliases=("a b",))

    assert found(echo(example=example, **generate(stop=("\n",)))) == []


def test_a_shot_with_a_stop_string_in_the_answer_that_it_shows_is_a_warning() -> None:
    shot = Example(id="s", question="1?", target="1", solution="First\nthen")

    def shown(text: str) -> list[Level]:
        fields: dict[str, Any] = {"n_shots": 1, "shots": lambda source, wanted, seed: Shots(by_subset={"": (shot,)})}
        return found(echo(**fields, **targets("one", prompt=text, stop=("\n",))))

    assert shown("First\nthen 2?") == [
        (
            "warning",
            "The solved examples hold the stop string '\\n' within their answers: an answer in their form is cut "
            "there.",
        )
    ]
    assert shown("1 2?") == []  # the setting shows targets only


def test_a_stop_at_blanks_behind_a_prompt_that_ends_without_one_is_a_warning() -> None:
    stops = {"stop": ("\n",)}
    words = Marked(template="[{}]")
    assert found(echo(**generate(**stops)), Small(words=words)) == [
        (
            "warning",
            "In all 6 prompts no blank stands before the answer, and one stops it: an answer that begins with a new "
            "line is cut to nothing.",
        )
    ]
    assert found(echo(**generate(**stops, answer_prefix="Answer:")), Small(words=words)) == []
    assert found(echo(**generate(**stops)), Small(words=Marked(template="[{}]\n"))) == []
    assert found(echo(**generate(stop=("##",))), Small(words=words)) == []


# Answer letters


def letters(*continuations: str) -> Benchmark[Any]:
    def request(example: Example, context: Any) -> LikelihoodRequest:
        return LikelihoodRequest(prompt=example.question, continuations=continuations)

    return echo(request=request, asks="likelihood")


def test_letters_of_one_token_each_are_fine() -> None:
    assert found(letters(" A", " B"), Small(words=Lettered({" A": [1], " B": [2]}))) == []


def test_letters_of_unlike_length_are_a_warning_and_of_like_length_a_note() -> None:
    assert found(letters(" A", " B"), Small(words=Lettered({" A": [1], " B": [2, 3]}))) == [
        (
            "warning",
            "Answer letters are several tokens behind the prompt (' B' 2): a letter of more tokens is less likely for "
            "that alone.",
        )
    ]
    assert found(letters(" A", " B"), Small(words=Lettered({" A": [1, 3], " B": [2, 3]}))) == [
        ("note", "Answer letters are several tokens behind the prompt (' A' 2, ' B' 2): asking takes longer.")
    ]


def test_letters_with_the_same_token_are_an_error() -> None:
    assert found(letters("(A)", "(B)"), Small(words=Lettered({"(A)": [5], "(B)": [5]}))) == [
        (
            "error",
            "The answers '(A)', '(B)' are compared by the same token, so the model cannot choose between them.",
        )
    ]


def test_whole_answers_may_have_any_length() -> None:
    assert found(letters(" Paris", " New York"), Small(words=Lettered({" Paris": [1], " New York": [2, 3]}))) == []


# What plugins say


def test_what_the_backend_says_is_a_finding_and_so_is_its_error() -> None:
    says = (Finding(level="note", text="Slow.", remedy="Wait."), Finding(level="error", text="No.", remedy="Yes."))
    assert found(echo(), Small(says=says)) == [("error", "No."), ("note", "Slow.")]
    assert found(echo(), Small(fails="It has no key.")) == [("error", "It has no key.")]


def test_a_judge_speaks_where_it_judges() -> None:
    says = (Finding(level="error", text="There is no key."),)
    judge = Model(backend_name="dummy", name="j", options={}, backend=Small(says=says))
    assert found(echo(judged="judge"), judge=judge) == [("error", "The judge dummy:j: There is no key.")]
    assert found(echo(), judge=judge) == []


def test_a_verifier_that_refuses_is_an_error_and_its_notes_are_warnings() -> None:
    assert found(echo(verify=Counting(ready=False))) == [("error", "There is no sandbox here.")]
    assert found(echo(verify=Counting(ready=False)), unsafe_code=True) == []
    assert found(echo(verify=Counting(says={"notes": ["no sandbox"]}))) == [
        ("warning", "Of this run's numbers will be noted: no sandbox.")
    ]


def test_a_verifier_may_have_findings() -> None:
    class Wise(Counting):
        def findings(self) -> Sequence[Finding]:
            return (Finding(level="note", text="The sandbox is not the best."),)

    assert found(echo(verify=Wise())) == [("note", "The sandbox is not the best.")]


# Data


def test_sample_rows_and_too_few_rows_are_warnings() -> None:
    data = Data(home="https://here", licence="CC0-1.0", file="x.jsonl", n=7, rows=echo().data.rows)
    assert found(echo(data=replace(data, file=""))) == [
        ("warning", "The data holds 6 questions; the published test set has 7.")
    ]
    sample = replace(data, sample=({"number": 1},))
    assert found(echo(data=sample), data="sample") == [
        ("warning", "The questions are made-up sample rows; their scores are no result.")
    ]


def test_our_own_shots_are_a_warning() -> None:
    shot = Example(id="s", question="1?", target="1")
    own = Shots(by_subset={"": (shot,)}, origin="own")
    assert found(echo(n_shots=1, shots=lambda source, wanted, seed: own)) == [
        (
            "warning",
            "The solved examples in the prompts are our own, since the published ones were not found: scores are not "
            "comparable with published ones.",
        )
    ]


# The run folder


def test_a_place_where_no_folder_can_be_made_is_an_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / "file"
    file.touch()
    assert found(echo(), out=file / "runs") == [
        ("error", f"The run folder cannot be made in {file}/runs: {file} is a file.")
    ]
    monkeypatch.setattr("os.access", lambda path, mode: False)  # root may write anywhere
    assert found(echo(), out=tmp_path / "a" / "b") == [
        ("error", f"The run folder cannot be made in {tmp_path}/a/b: {tmp_path} may not be written.")
    ]


def test_a_disk_that_may_be_too_small_is_a_warning(tmp_path: Path) -> None:
    ((level, text),) = found(echo(**generate(max_tokens=10**12, n=1000)), out=tmp_path)
    assert level == "warning"
    assert text.startswith(f"The run folder may take 90,000 TB in {tmp_path}, where ")
    assert text.endswith(" are free.")


@pytest.mark.parametrize(
    ("count", "text"),
    [(0, "0 bytes"), (999, "999 bytes"), (1000, "1.0 kB"), (123_456, "123 kB"), (2.5e9, "2.5 GB"), (3e15, "3,000 TB")],
)
def test_bytes_are_told_for_people(count: float, text: str) -> None:
    assert amount(count) == text


# The command


def test_findings_stand_below_the_prompts_with_their_remedies_errors_first(cli: Cli, tmp_path: Path) -> None:
    (tmp_path / "riddles.py").write_text(RIDDLES)
    (tmp_path / "file").touch()
    ran = cli("run", "-m", "dummy", "-b", "./riddles.py", "--data", "sample", "--dry-run", "--out", "file/runs")
    assert (ran.code, ran.err) == (1, "")
    assert ran.out.splitlines()[-6:] == [
        "── riddles: 1 requests to dummy, plain text, 14 tokens of prompts (longest 14)",
        "── 1 prompt examined: 1 error, 1 warning",
        f"error: The run folder cannot be made in file/runs: {tmp_path}/file is a file.",
        "  Choose another place with --out.",
        "warning: The questions are made-up sample rows; their scores are no result.",
        "  Pass riddles.jsonl from here to --data.",
    ]


def test_warnings_alone_end_well(cli: Cli, tmp_path: Path) -> None:
    (tmp_path / "riddles.py").write_text(RIDDLES)
    ran = cli("run", "-m", "dummy", "-b", "./riddles.py", "--data", "sample", "--dry-run", "--json")
    assert (ran.code, ran.err) == (0, "")
    assert ran.document[0]["findings"] == [
        {
            "level": "warning",
            "text": "The questions are made-up sample rows; their scores are no result.",
            "remedy": "Pass riddles.jsonl from here to --data.",
        }
    ]


def test_all_that_several_benchmarks_lack_is_said_at_once(cli: Cli, tmp_path: Path) -> None:
    for name in ("riddles", "puzzles"):
        (tmp_path / f"{name}.py").write_text(RIDDLES.replace("riddles", name))
    (tmp_path / "data").mkdir()
    run = ("run", "-m", "dummy", "-b", "./riddles.py", "-b", "arithmetic", "-b", "./puzzles.py", "--dry-run")
    ran = cli(*run, "--json")
    assert (ran.code, ran.err) == (1, "")
    needs = "needs its data. Pass {0}.jsonl from here to --data, or try made-up rows with --data sample."
    assert [[one["text"] for one in run["findings"]] for run in ran.document] == [
        [f"riddles {needs.format('riddles')}"],
        [],
        [f"puzzles {needs.format('puzzles')}"],
    ]
    assert [run["requests"] for run in ran.document] == [None, 20, None]
    told = cli(*run)
    assert told.code == 1
    assert told.out.splitlines()[0] == "── riddles: cannot be asked"
    assert told.out.splitlines()[-4:] == [
        "── puzzles: cannot be asked",
        "── 20 prompts examined: 2 errors",
        f"error: riddles {needs.format('riddles')}",
        f"error: puzzles {needs.format('puzzles')}",
    ]


def test_what_is_found_for_each_benchmark_is_said_once(cli: Cli, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    run = (
        "run",
        "-m",
        "dummy",
        "-b",
        "arithmetic",
        "-b",
        "arithmetic",
        "--limit",
        1,
        "--dry-run",
        "--out",
        "file/runs",
    )
    told = cli(*run).out.splitlines()
    assert told[-3:] == [
        "── 2 prompts examined: 1 error",
        f"error: The run folder cannot be made in file/runs: {tmp_path}/file is a file.",
        "  Choose another place with --out.",
    ]
    assert len(json.loads(cli(*run, "--json").out)) == 2
