"""AlpacaFarm: its questions against the published ones, its judge's win rates against AlpacaEval's leaderboard."""

from __future__ import annotations

import gzip
import json
import shutil
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

import evalkit_alpacafarm
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
)
from evalkit.cli import evalkit
from evalkit.options import bind
from evalkit.plugins import Plugins
from evalkit.testing import check_benchmark
from evalkit_alpacafarm import answers, judge
from evalkit_judge import NOT_COMPARABLE, Pair
from evalkit_judge.benchmark import judge as general
from evalkit_judge.pairs import arranged

#: The rows of AlpacaEval's leaderboard: win rate, standard error, ties; and preferences that are null, of 805.
LEADERBOARD = {
    "alpaca-7b": (26.459627, 1.535711, 16, 0),
    "gpt4_0314": (94.782609, 0.748996, 14, 0),
    "llama-2-7b-chat-hf": (71.366460, 1.593039, 1, 0),
    "oasst-rlhf-llama-33b": (66.521739, 1.660829, 3, 0),
    "vicuna-13b": (70.434783, 1.606969, 2, 0),
    "wizardlm-13b": (75.310945, 1.510186, 9, 1),
    "Mistral-7B-ReMax-v0.1": (94.396015, 0.812154, 0, 2),
}
SOURCES = {"helpful_base": 129, "koala": 156, "oasst": 188, "selfinstruct": 252, "vicuna": 80}


def zipped(path: Path) -> Any:
    return json.loads(gzip.decompress(path.read_bytes()))


def context(*, chat: bool = False) -> Context:
    return Context(shots=Shots(), chat=chat, tokenizer=None, seed=42)


def requested(benchmark: Benchmark[Generation], example: Example, *, chat: bool = False) -> GenerateRequest:
    request = benchmark.request(example, context(chat=chat))
    assert isinstance(request, GenerateRequest)
    return request


def read(benchmark: Benchmark[Generation], source: Source) -> list[Example]:
    return [benchmark.example(row) for row in benchmark.data.rows(source)]


def asked() -> Example:
    return Example(id="7", question="Say it.", target="theirs")


def invoke(*arguments: object) -> Result:
    return CliRunner().invoke(evalkit, [str(one) for one in arguments])


def summary(*arguments: object) -> dict[str, Any]:
    result = invoke("run", *arguments, "--allow-failures", "--json")
    assert result.exit_code == 0, result.output
    (only,) = json.loads(result.stdout)
    assert isinstance(only, dict)
    return only


def replayed(out: Path, texts: Mapping[str, str], bench: str, *more: object) -> dict[str, Any]:
    """Score recorded outputs, id -> text."""
    pytest.importorskip("evalkit_replay")
    out.mkdir(exist_ok=True)
    file = out / "outputs.jsonl"
    file.write_text("".join(f"{json.dumps({'id': name, 'text': text})}\n" for name, text in texts.items()))
    return summary("-m", f"replay:{file}", "-b", bench, "--out", out, *more)


# The instructions


@pytest.mark.parametrize(
    ("reference", "file", "empty"),
    [
        ("davinci-2048", "nc/alpaca_farm/davinci_003_outputs.json.gz", 5),
        ("alpaca-eval", "nc/alpaca_eval/text_davinci_003/model_outputs.json.gz", 2),
    ],
)
def test_the_805_instructions_are_found_in_a_folder_and_as_a_file(
    test_data: Path, reference: evalkit_alpacafarm.Reference, file: str, empty: int
) -> None:
    benchmark = answers(reference=reference)
    examples = read(benchmark, Source(test_data))
    assert examples == read(benchmark, Source(test_data / file))
    assert [example.id for example in examples] == [str(number) for number in range(805)]
    assert [example.target for example in examples] == [row["output"] for row in zipped(test_data / file)]
    assert sum(not example.target.strip() for example in examples) == empty


def test_both_files_ask_the_same_questions_in_the_same_order(test_data: Path) -> None:
    paper, late = (read(answers(protocol=rules), Source(test_data)) for rules in ("paper", "v2"))
    assert [example.question for example in paper] == [example.question for example in late]
    assert len({example.question for example in paper}) == 805
    subsets = [example.subset for example in late]
    assert {name: subsets.count(name) for name in subsets} == SOURCES
    # The paper's file does not name the sources; the same instructions in the same order have the same ones.
    assert [example.subset for example in paper] == subsets


def test_other_instructions_get_no_source(test_data: Path, tmp_path: Path) -> None:
    rows = zipped(test_data / "nc" / "alpaca_farm" / "davinci_003_outputs.json.gz")
    (tmp_path / "turned.json").write_text(json.dumps(rows[::-1]))
    assert {example.subset for example in read(answers(), Source(tmp_path / "turned.json"))} == {""}


def test_the_input_stands_behind_the_instruction() -> None:
    fields = {"instruction": "Add.", "input": "1 and 1", "output": "2"}
    example = evalkit_alpacafarm.example(Row(fields, "file entry 3", 3))
    assert example == Example(id="3", question="Add.\n\n1 and 1", target="2", meta={"input": "1 and 1"})
    assert evalkit_alpacafarm.example(Row({**fields, "input": ""}, "file entry 3", 3)).question == "Add."


@pytest.mark.parametrize(
    ("protocol", "options", "reference", "max_tokens"),
    [
        ("paper", {}, "davinci-2048", 2048),
        ("v1", {}, "davinci-2048", 2048),
        ("v2", {}, "alpaca-eval", 8192),
        ("v2", {"reference": "davinci-2048", "max_tokens": 64}, "davinci-2048", 64),
        ("paper", {"reference": "alpaca-eval"}, "alpaca-eval", 2048),
    ],
)
def test_the_question_is_asked_bare_and_greedily(
    protocol: evalkit_alpacafarm.Rules, options: dict[str, Any], reference: str, max_tokens: int
) -> None:
    benchmark = answers(protocol=protocol, **options)
    assert benchmark.rules == {"reference": reference, "max_tokens": max_tokens}
    for chat in (False, True):
        assert requested(benchmark, asked(), chat=chat) == GenerateRequest(
            prompt="Say it.", chat=chat, max_tokens=max_tokens
        )
    assert benchmark.chat
    assert benchmark.judged == "judge"


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("{}", r"mine.json: should be a list of objects with instruction and output"),
        ("[1]", r"mine.json: should be a list"),
        ('[{"instruction": "?"}]', r"mine.json entry 0: this row has no field 'output'"),
        ('[{"instruction": "?", "output": 1}]', r"mine.json entry 0: field 'output' should be text, but is 1"),
    ],
)
def test_a_malformed_file_is_named(tmp_path: Path, content: str, message: str) -> None:
    (tmp_path / "mine.json").write_text(content)
    with pytest.raises(DataError, match=message):
        read(answers(), Source(tmp_path / "mine.json"))


def test_blank_answers_are_counted_and_score_0(tmp_path: Path) -> None:
    found = replayed(tmp_path, {"0": "Yes.", "1": " \n"}, "alpacafarm", "--data", "sample")
    assert (found["n"], found["unanswered"], found["failed"]) == (2, 1, 1)
    assert found["metrics"]["answered"]["value"] == 0.5


# The judge: what is general about it is tested in test_judge.py


def test_the_judge_is_evalkit_judges_with_a_name_and_a_note() -> None:
    benchmark = judge()
    assert (benchmark.setting, benchmark.version, benchmark.silence) == ("alpacafarm:judge", 2, "fails")
    assert benchmark.rules == general().rules
    assert judge(preset="paper", order_seed=7, max_tokens=9).rules == {
        **general(preset="paper").rules,
        "order_seed": 7,
        "max_tokens": 9,
    }


@pytest.mark.parametrize(("model", "numbers"), LEADERBOARD.items(), ids=LEADERBOARD)
def test_recorded_preferences_give_the_leaderboards_win_rate_and_standard_error(
    test_data: Path, tmp_path: Path, model: str, numbers: tuple[float, float, int, int]
) -> None:
    win_rate, stderr, ties, nulls = numbers
    (file,) = (test_data / "nc" / "alpaca_eval" / model).glob("*/annotations.json.gz")
    rows = zipped(file)
    reference = tmp_path / "reference.json"
    reference.write_text(json.dumps([{"instruction": row["instruction"], "output": row["output_1"]} for row in rows]))
    texts = {str(number): row["output_2"] for number, row in enumerate(rows)}
    first = replayed(tmp_path, texts, "alpacafarm", "-B", "reference=alpaca-eval", "--data", reference)
    replies = {}
    for example in read(judge(orders="one"), Source(Path(first["run"]))):
        preference = rows[int(example.id)]["preference"]
        letter = example.target if preference == 2 else "ab".replace(example.target, "")
        replies[example.id] = "I cannot say." if preference is None else f"Output ({letter})"
        assert (example.choices[0] == example.choices[1]) is (preference in (0, 1.5))
    judged = replayed(tmp_path / "judge", replies, "alpacafarm:judge", "--data", first["run"], "-B", "orders=one")
    assert (judged["n"], judged["unanswered"], judged["failed"]) == (805 - nulls, 0, nulls)
    found = judged["metrics"]["win_rate"]
    assert (100 * found["value"], 100 * found["stderr"]) == pytest.approx((win_rate, stderr), abs=5e-7)
    assert _scores(judged).count(0.5) == ties
    assert 350 < sum(letter.endswith("(a)") for letter in replies.values()) < 455 or win_rate > 80


def _scores(found: Mapping[str, Any]) -> list[float]:
    with Path(found["run"], "records.jsonl").open() as file:
        scores = [json.loads(line)["scores"] for line in file]
    return [one["win_rate"] for one in scores if one]


def test_the_order_is_balanced_over_real_outputs(test_data: Path) -> None:
    late = read(answers(reference="alpaca-eval"), Source(test_data))
    paper = read(answers(), Source(test_data))
    pairs = [
        Pair(id=one.id, instruction=one.question, said=one.target.strip(), reference=other.target.strip())
        for one, other in zip(late, paper, strict=True)
    ]
    prompts = arranged(pairs, size=1, both=False, seed=42)
    assert 350 < sum(shown.flipped for _, _, (shown,) in prompts) < 455


def test_the_dummy_judge_prefers_the_longer_output(test_data: Path, tmp_path: Path) -> None:
    pytest.importorskip("evalkit_dummy")
    rows = zipped(test_data / "nc" / "alpaca_eval" / "alpaca-7b" / "model_outputs.json.gz")
    texts = {str(number): row["output"] for number, row in enumerate(rows)}
    first = replayed(tmp_path, texts, "alpacafarm", "--data", test_data)
    judged = summary("-m", "dummy:longer", "-b", "alpacafarm:judge", "--data", first["run"], "--out", tmp_path)
    expected = []
    for example in read(judge(), Source(Path(first["run"]))):
        a, b = example.choices
        expected.append(0.5 if a == b else float(("b" if len(b) > len(a) else "a") == example.target))
    assert _scores(judged) == expected
    assert len(expected) == 1610
    assert 0.1 < judged["metrics"]["win_rate"]["value"] < 0.5
    assert judged["model"] == first["model"]
    assert judged["notes"] == ["judged by dummy:longer", NOT_COMPARABLE]


def test_win_rates_by_source_where_the_papers_file_does_not_name_them(test_data: Path, tmp_path: Path) -> None:
    pytest.importorskip("evalkit_dummy")
    data = ("--data", test_data / "nc" / "alpaca_farm", "--limit", 10, "--out", tmp_path, "--json")
    first, judged = json.loads(
        invoke("run", "-m", "dummy", "-b", "alpacafarm", "--judge", "dummy:longer", *data).stdout
    )
    assert first["subsets"].keys() == judged["subsets"].keys() == SOURCES.keys()


def test_a_reply_that_cannot_be_read_has_failed_and_is_no_loss(tmp_path: Path) -> None:
    first = replayed(tmp_path, {"0": "A map.", "1": "It left.", "2": "Cold."}, "alpacafarm", "--data", "sample")
    target = {example.id: example.target for example in read(judge(), Source(Path(first["run"])))}
    replies = {"0/1": f"Output ({target['0/1']})", "0/2": f"Output ({target['0/2']})"}
    replies |= dict.fromkeys(("1/1", "1/2"), "Both have their merits.") | {"2/1": "", "2/2": ""}
    judged = replayed(tmp_path / "judge", replies, "alpacafarm:judge", "--data", first["run"])
    assert (judged["n"], judged["failed"]) == (2, 4)
    assert judged["metrics"]["win_rate"]["value"] == 1.0
    assert judged["bounds"]["win_rate"] == pytest.approx([1 / 3, 1.0])


def test_a_failed_response_is_no_row_of_the_judges_and_a_blank_answer_is(tmp_path: Path) -> None:
    first = replayed(tmp_path, {"0": "A map.", "2": " "}, "alpacafarm", "--data", "sample")
    assert (first["n"], first["failed"]) == (2, 1)
    source = Source(Path(first["run"]))
    found = [(example.id, "" in example.choices) for example in read(judge(orders="one"), source)]
    assert found == [("0", False), ("2", True)]


def test_a_judge_run_is_bound_to_what_the_records_say_not_to_where_they_lie(tmp_path: Path) -> None:
    pytest.importorskip("evalkit_dummy")
    first = replayed(tmp_path, {"0": "A map.", "1": "It left.", "2": "Cold."}, "alpacafarm", "--data", "sample")
    shutil.copytree(first["run"], tmp_path / "elsewhere")
    command = ("-m", "dummy:longer", "-b", "alpacafarm:judge", "--out", tmp_path)
    judged = summary(*command, "--data", first["run"])
    assert summary(*command, "--data", tmp_path / "elsewhere") == judged
    assert judged["metrics"]["win_rate"]["value"] == 0.0
    other = summary(*command, "--data", first["run"], "-B", "order_seed=1")
    assert other["run"] != judged["run"]
    assert other["metrics"]["win_rate"]["value"] == 0.0


def test_without_data_the_judge_says_what_it_needs(tmp_path: Path) -> None:
    pytest.importorskip("evalkit_dummy")
    result = invoke("run", "-m", "dummy:longer", "-b", "alpacafarm:judge", "--out", tmp_path)
    assert "Pass the folder from a run of alpacafarm to --data" in result.output + str(result.exception)


# The contract


def test_both_settings_are_found_by_name() -> None:
    plugins = Plugins()
    assert plugins.benchmark("alpacafarm") is answers
    assert plugins.benchmark("alpacafarm:judge") is judge
    assert (answers().headline, judge().headline) == ("answered", "win_rate")


def test_options_are_checked() -> None:
    assert bind(answers, {"reference": "alpaca-eval", "max-tokens": "64"}, owner="alpacafarm") == {
        "reference": "alpaca-eval",
        "max_tokens": 64,
    }
    with pytest.raises(EvalkitError, match=r"expected davinci-2048 or alpaca-eval or none"):
        bind(answers, {"reference": "davinci"}, owner="alpacafarm")


@pytest.mark.parametrize("make", evalkit_alpacafarm.benchmarks())
def test_the_contract_is_kept(make: Callable[[], Benchmark[Generation]]) -> None:
    check_benchmark(make)


def test_the_contract_is_kept_on_published_instructions(test_data: Path) -> None:
    check_benchmark(answers, data=test_data / "nc" / "alpaca_farm", most=50)
