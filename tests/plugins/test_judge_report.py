"""``evalkit judge`` and ``evalkit judge report``: from runs and files to numbers that are known from elsewhere."""

from __future__ import annotations

import csv
import gzip
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest
from click.testing import CliRunner, Result

from evalkit import EvalkitError
from evalkit.cli import evalkit
from evalkit.errors import RunError
from evalkit_judge import gather, scatter
from evalkit_judge.report import report
from evalkit_judge.verdicts import read

#: Model -> the folder of its recorded annotations.
RECORDED = {
    "alpaca-7b": "alpaca_eval_gpt4",
    "gpt4_0314": "alpaca_eval_gpt4",
    "llama-2-7b-chat-hf": "alpaca_eval_gpt4",
    "oasst-rlhf-llama-33b": "alpaca_eval_gpt4",
    "vicuna-13b": "alpaca_eval_gpt4",
    "wizardlm-13b": "alpaca_eval_gpt4",
    "Mistral-7B-ReMax-v0.1": "alpaca_eval_gpt4_turbo_fn",
}
SOURCES = {"helpful_base": 129, "koala": 156, "oasst": 188, "selfinstruct": 252, "vicuna": 80}


def invoke(*arguments: object) -> Result:
    return CliRunner().invoke(evalkit, [str(one) for one in arguments])


def printed(*arguments: object, code: int = 0) -> Any:
    """What a command prints with --json; ours give their exit code as their value."""
    result = CliRunner().invoke(evalkit, [*map(str, arguments), "--json"], standalone_mode=False)
    assert result.exception is None, result.exception
    assert (result.return_value or 0) == code, result.output
    return json.loads(result.stdout)


def judged(*arguments: object, out: Path, code: int = 0) -> dict[str, Any]:
    """The report of what one judge's command made."""
    pytest.importorskip("evalkit_dummy")
    (only,) = printed("judge", *arguments, "--out", out, code=code)["runs"]
    assert isinstance(only, dict)
    return only


def recorded(test_data: Path, model: str) -> Path:
    return test_data / "nc" / "alpaca_eval" / model / RECORDED[model] / "annotations.json.gz"


def imported(test_data: Path, model: str, out: Path) -> Path:
    """The run of a model's recorded annotations."""
    pytest.importorskip("evalkit_import")
    result = invoke("import", "alpaca-eval", recorded(test_data, model), "--out", out)
    assert result.exit_code == 0, result.output
    (run,) = out.glob("*/*/run.json")
    return run.parent


def answered(out: Path, texts: Mapping[str, str], bench: str = "arithmetic", **options: object) -> Path:
    """The run of a benchmark with recorded outputs, id -> text."""
    pytest.importorskip("evalkit_replay")
    pytest.importorskip("evalkit_dummy")
    out.mkdir(parents=True, exist_ok=True)
    (out / "outputs.jsonl").write_text(
        "".join(f"{json.dumps({'id': one, 'text': text})}\n" for one, text in texts.items())
    )
    asked = ["run", "-m", f"replay:{out / 'outputs.jsonl'}", "-b", bench, "-B", f"n={len(texts)}", "--out", out]
    (found,) = printed(*asked, "--allow-failures")
    return Path(found["run"])


def annotated(path: Path, rows: Sequence[Mapping[str, Any]]) -> Path:
    """A file of annotations; made up, since no human labels were published with the instances at hand."""
    path.write_text(json.dumps([{"instruction": "Say it.", **row} for row in rows]))
    return path


# The leaderboard


@pytest.mark.parametrize("model", RECORDED)
def test_recorded_annotations_give_their_row_of_the_leaderboard(test_data: Path, tmp_path: Path, model: str) -> None:
    with (test_data / "nc/alpaca_eval/alpaca_eval_gpt4_leaderboard.csv").open() as file:
        row = next(row for row in csv.DictReader(file) if row[""] == model)
    (found,) = report([imported(test_data, model, tmp_path)])["runs"]
    assert 100 * found["win_rate"]["value"] == pytest.approx(float(row["win_rate"]), rel=1e-12)
    assert 100 * found["win_rate"]["stderr"] == pytest.approx(float(row["standard_error"]), rel=1e-12)
    counts = (found["wins"], found["losses"], sum(found["ties"].values()), found["pairs"] - found["failed"])
    assert counts == tuple(int(row[name]) for name in ("n_wins", "n_wins_base", "n_draws", "n_total"))
    assert found["comparable"] is False
    assert (found["first_preferred"], found["consistency"]) == (None, None)
    # Which outputs that row's mean length is over, with nulls among the preferences, is not recorded.
    assert found["length"]["model"] == pytest.approx(float(row["avg_length"]), abs=1 if not found["failed"] else 3)


def test_win_rates_by_the_five_sources(test_data: Path, tmp_path: Path) -> None:
    (found,) = report([imported(test_data, "vicuna-13b", tmp_path)])["runs"]
    assert {name: part["n"] for name, part in found["sources"].items()} == SOURCES
    shares = [part["n"] * part["win_rate"]["value"] for part in found["sources"].values()]
    assert sum(shares) / 805 == pytest.approx(found["win_rate"]["value"])


def test_the_judges_that_only_count_agree_with_gpt_4_in_two_of_three_cases(test_data: Path, tmp_path: Path) -> None:
    (found,) = report([imported(test_data, "alpaca-7b", tmp_path)])["runs"]
    shown = {
        name: (round(one["win_rate"]["value"], 3), round(one["agreement"]["relaxed"]["value"], 3))
        for name, one in found["baselines"].items()
    }
    assert shown == {"longer": (0.473, 0.681), "unique": (0.475, 0.686)}
    assert found["unique"]["model"] == pytest.approx(46.5, abs=0.05)


def test_unique_tokens_and_win_rates_of_six_models(test_data: Path, tmp_path: Path) -> None:
    models = [model for model in RECORDED if RECORDED[model] == "alpaca_eval_gpt4"]
    document = report([imported(test_data, model, tmp_path / model) for model in models])
    r = document["correlation"]["r"]
    assert (round(r["value"], 2), round(r["low"], 2), round(r["high"], 2)) == (0.84, 0.10, 0.98)
    assert document["counted"] == "distinct words and marks"


# evalkit judge


def test_a_run_that_names_its_judge_is_judged_as_the_chain_does_it(tmp_path: Path) -> None:
    pytest.importorskip("evalkit_dummy")
    pytest.importorskip("evalkit_alpacafarm")
    asked = ("run", "-m", "dummy", "-b", "alpacafarm", "--data", "sample", "--out", tmp_path)
    first, chained = printed(*asked, "--judge", "dummy:longer")
    found = judged(first["run"], "--judge", "dummy:longer", out=tmp_path)
    assert found["run"] == chained["run"]
    assert (found["model"], found["judge"], found["reference"]) == ("dummy", "dummy:longer", "davinci-2048")
    assert (found["pairs"], found["verdicts"], found["failed"]) == (3, 6, 0)
    assert (found["win_rate"]["value"], found["wins"], found["losses"]) == (0.0, 0, 3)
    assert found["consistency"]["value"] == 1.0
    assert found["first_preferred"]["value"] == 0.5
    assert found["comparable"] is False


def test_any_two_runs_with_generated_answers_can_be_compared(tmp_path: Path) -> None:
    mine = answered(tmp_path / "a", {"0": "zero", "1": "one one", "2": "same", "3": "yes"})
    theirs = answered(tmp_path / "b", {"0": "zero zero", "1": "one", "2": " same\n", "3": "no"})
    found = judged(mine, "--against", theirs, "--judge", "dummy:longer", out=tmp_path)
    assert (found["pairs"], found["verdicts"]) == (4, 8)
    assert (found["wins"], found["losses"], found["ties"]) == (
        *(2, 1),
        {"equal outputs": 1, "orders disagree": 0, "judge": 0},
    )
    assert found["win_rate"]["value"] == 0.625
    assert found["comparable"] is True
    assert found["reference"] == read(Path(found["run"])).reference
    again = judged(mine, "--against", theirs, "--judge", "dummy:longer", out=tmp_path)
    assert again == found
    turned = judged(theirs, "--against", mine, "--judge", "dummy:longer", out=tmp_path)
    assert (turned["wins"], turned["losses"], turned["win_rate"]["value"]) == (1, 2, 0.375)


def test_a_file_of_outputs_is_something_to_compare_with(tmp_path: Path) -> None:
    mine = answered(tmp_path / "a", {"0": "zero", "1": "one one"})
    by_text, by_id = tmp_path / "outputs.json", tmp_path / "outputs.jsonl"
    outputs = [{"instruction": "0 + 0 =", "output": "nothing at all", "generator": "camel"}]
    by_text.write_text(json.dumps([*outputs, {"instruction": "1 + 0 =", "output": "1", "generator": "camel"}]))
    by_id.write_text('{"id": "0", "text": "nothing at all"}\n{"id": "1", "text": "1"}\n')
    for file, name in ((by_text, "camel"), (by_id, "outputs.jsonl")):
        found = judged(mine, "--against", file, "--judge", "dummy:longer", out=tmp_path)
        assert (found["wins"], found["losses"], found["reference"]) == (1, 1, name)


def test_what_one_side_lacks_is_an_error_or_noted(tmp_path: Path) -> None:
    mine = answered(tmp_path / "a", {"0": "zero", "1": "one one"})
    other = tmp_path / "outputs.json"
    other.write_text('[{"instruction": "0 + 0 =", "output": "0"}]')
    with pytest.raises(EvalkitError, match=r"has no output for 1 of 2 questions of .*'1 \+ 0 =';"):
        gather.against(mine, other, common=False)
    found = judged(mine, "--against", other, "--common", "--judge", "dummy:longer", out=tmp_path)
    assert found["pairs"] == 1
    assert "only the 1 questions that both have" in found["notes"]


def test_answers_that_failed_make_no_pair_and_are_noted(tmp_path: Path) -> None:
    mine = answered(tmp_path / "a", {"0": "zero", "1": "one", "2": "two"})
    pytest.importorskip("evalkit_replay")
    (tmp_path / "b").mkdir()
    (tmp_path / "b" / "outputs.jsonl").write_text('{"id": "0", "text": "nothing"}\n{"id": "2", "text": "1"}\n')
    asked = ["run", "-m", f"replay:{tmp_path}/b/outputs.jsonl", "-b", "arithmetic", "-B", "n=3", "--out", tmp_path]
    (theirs,) = printed(*asked, "--allow-failures")
    assert theirs["failed"] == 1
    found = gather.against(mine, Path(theirs["run"]), common=False)
    assert [pair.id for pair in found.pairs] == ["0", "2"]
    assert found.notes == (
        "1 answers of the judged run are not judged: they, or what they are compared with, had failed",
    )


def test_replies_that_cannot_be_read_are_counted_bounded_and_asked_again(tmp_path: Path) -> None:
    mine = answered(tmp_path / "a", {"0": "zero", "1": "one", "2": "same"})
    theirs = answered(tmp_path / "b", {"0": "null", "1": "I", "2": "same"})
    asked = (mine, "--against", theirs, "--judge", "dummy")  # which says a number, whatever it is asked
    found = judged(*asked, out=tmp_path, code=3)
    assert (found["pairs"], found["verdicts"], found["failed"], found["asked_again"]) == (3, 6, 4, 0)
    assert found["win_rate"]["value"] == 0.5
    assert found["bounds"] == pytest.approx([0.5 / 3, 2.5 / 3])
    again = judged(*asked, "--retry-failed", "--allow-failures", out=tmp_path)
    assert (again["run"], again["failed"], again["asked_again"]) == (found["run"], 4, 4)
    lines = [json.loads(line) for line in Path(found["run"], "responses.jsonl").read_text().splitlines()]
    assert [line.get("attempt") for line in lines] == [None] * 6 + [2] * 4
    texts = [line["response"]["texts"][0]["text"] for line in lines]
    unread = [text for text in texts[:6] if not text.startswith("(not asked")]
    assert unread != texts[6:]  # warm, it may say something else


def test_a_judges_run_is_judged_again_and_compared(test_data: Path, tmp_path: Path) -> None:
    run = imported(test_data, "alpaca-7b", tmp_path / "imported")
    found = judged(run, "--judge", "dummy:longer", "--orders", "one", out=tmp_path)
    assert found["labels"] == "alpaca_eval_gpt4"
    assert (found["human"]["judge"]["n"], found["human"]["people"]) == (805, None)
    # Equally long outputs are a tie for the counting judge and the first output for the dummy, nothing else differs.
    assert found["human"]["longer"]["relaxed"]["value"] == pytest.approx(0.681, abs=5e-4)
    assert found["human"]["judge"]["relaxed"]["value"] == pytest.approx(0.681, abs=0.01)
    assert found["sources"].keys() == SOURCES.keys()


def test_the_papers_prompts_go_the_whole_way(test_data: Path, tmp_path: Path) -> None:
    run = imported(test_data, "alpaca-7b", tmp_path / "imported")
    asked = (run, "--judge", "dummy:unique", "--preset", "paper", "--prompts", test_data / "prompts")
    found = judged(*asked, out=tmp_path)
    assert (found["pairs"], found["verdicts"], found["failed"]) == (805, 805, 0)
    assert found["ties"]["equal outputs"] == 16
    assert found["win_rate"]["value"] == pytest.approx(found["baselines"]["unique"]["win_rate"]["value"], abs=0.02)
    manifest = json.loads(Path(found["run"], "run.json").read_text())
    assert manifest["binds"]["shots"]["origin"] == "published"
    summary = json.loads(Path(found["run"], "summary.json").read_text())
    assert summary["n"] == 805
    assert summary["metrics"]["win_rate"]["value"] == pytest.approx(found["win_rate"]["value"])


def test_a_judges_summary_and_its_report_give_the_same_numbers_in_both_orders(test_data: Path, tmp_path: Path) -> None:
    run = imported(test_data, "wizardlm-13b", tmp_path / "imported")
    found = judged(run, "--judge", "dummy:unique", out=tmp_path)
    summary = json.loads(Path(found["run"], "summary.json").read_text())
    assert (summary["n"], found["pairs"]) == (1610, 805)
    for name in ("value", "stderr"):
        assert summary["metrics"]["win_rate"][name] == pytest.approx(found["win_rate"][name], rel=1e-9)


# People


def test_the_instances_of_the_papers_human_evaluation_are_pairs(test_data: Path) -> None:
    found = gather.of_file(test_data / "tulu1_human_eval" / "eval_instances_tulu_1.jsonl.gz")
    assert len(found.pairs) == 996
    assert found.labels == ""  # which instances were preferred was not published with them
    by_models = {
        name: sum(pair.subset == name for pair in found.pairs) for name in {pair.subset for pair in found.pairs}
    }
    assert len(by_models) == 3
    assert set(by_models.values()) == {332}


def test_a_judge_is_calibrated_against_people_by_one_command(tmp_path: Path) -> None:
    pairs = {"long and longer": "short", "tiny": "not so tiny at all", "a b c": "a b"}
    rows = [
        {"output_2": said, "output_1": reference, "annotator": who, "preference": preference}
        for (said, reference), preferences in zip(pairs.items(), ((2, 2), (1, 2), (1, 0)), strict=True)
        for who, preference in zip(("ann", "bob"), preferences, strict=True)
    ]
    file = annotated(tmp_path / "people.json", rows)
    found = judged(file, "--judge", "dummy:longer", out=tmp_path)
    assert (found["labels"], found["pairs"]) == ("people.json", 3)
    human = found["human"]
    assert (human["judge"]["n"], human["judge"]["pairs"]) == (6, 3)
    # The longer one wins: right twice; right and wrong; wrong, and half right about a tie.
    assert (human["judge"]["exact"]["value"], human["judge"]["relaxed"]["value"]) == (3 / 6, 3.5 / 6)
    assert human["people"]["relaxed"]["value"] == pytest.approx((1 + 0 + 0.5) / 3)
    assert human["longer"] == human["judge"]


def test_what_raters_said_of_either_order_becomes_labels_of_one_pair(tmp_path: Path) -> None:
    """A made-up export of the human evaluation's records: its own labels are not at hand."""
    file = tmp_path / "records.csv"
    file.write_text(
        "instance_id,prompt,model_a,model_b,completion_a,completion_b,preference,evaluator\n"
        "1,Say it.,camel,llama,It.,It is said.,a-is-slightly-better,ann\n"
        "1,Say it.,llama,camel,It is said.,It.,a-is-better,bob\n"
        "1,Say it.,camel,llama,It.,It is said.,tie,cem\n"
        "1,Say it.,camel,llama,It.,It is said.,,dan\n"
        "2,Why?,camel,llama,So.,So.,b-is-better,ann\n"
    )
    found = gather.of_file(file)
    assert [(pair.instruction, pair.said, pair.labels) for pair in found.pairs] == [
        ("Say it.", "It.", (1.0, 0.0, 0.5)),
        ("Why?", "So.", (0.0,)),
    ]
    assert (found.model, found.reference, found.labels) == ("camel", "llama", "records.csv")


def test_opinions_may_come_later_and_in_the_other_order(tmp_path: Path) -> None:
    mine = answered(tmp_path / "a", {"0": "zero", "1": "one"})
    theirs = answered(tmp_path / "b", {"0": "null", "1": "eins"})
    run = judged(mine, "--against", theirs, "--judge", "dummy:longer", out=tmp_path)["run"]
    rows = [
        {"instruction": "0 + 0 =", "output_1": "null", "output_2": "zero", "preference": 2},
        {"instruction": "1 + 0 =", "output_1": "one", "output_2": "eins", "preference": 2},
    ]
    (found,) = report([Path(run)], human=annotated(tmp_path / "people.json", rows))["runs"]
    # Of equally long ones the dummy takes the first, so its orders disagree: a tie, half right; "eins" is longer.
    assert (found["human"]["judge"]["n"], found["human"]["judge"]["relaxed"]["value"]) == (2, 0.75)
    other = annotated(tmp_path / "others.json", [{"output_1": "x", "output_2": "y", "preference": 1}])
    with pytest.raises(EvalkitError, match="has no opinion of any pair"):
        report([Path(run)], human=other)


# What cannot be judged


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ({"instruction": "?"}, "no pair of outputs: expected instruction, output_1 and output_2"),
        ({"output_1": "a", "output_2": "b", "preference": 3}, "'preference' should be 0 or from 1 to 2, but is 3"),
        ({"prompt": "?", "completion_a": "a", "completion_b": "b", "preference": "a"}, "should be one of a-is-better"),
        ({"prompt": "?", "completions": [{"model": "m", "completion": 1}] * 2}, "field 'completion' should be text"),
    ],
)
def test_a_file_that_holds_no_pairs_is_named(tmp_path: Path, row: dict[str, Any], message: str) -> None:
    with pytest.raises(EvalkitError, match=f"pairs.json entry 0: .*{message}"):
        gather.of_file(annotated(tmp_path / "pairs.json", [row]))


def test_without_something_to_compare_with_there_is_nothing_to_judge(tmp_path: Path) -> None:
    mine = answered(tmp_path / "a", {"0": "zero"})
    result = invoke("judge", mine, "--judge", "dummy:longer", "--out", tmp_path)
    assert "has no outputs to compare its answers with; name some by --against" in str(result.exception)
    file = annotated(tmp_path / "pairs.json", [{"output_1": "a", "output_2": "b"}])
    result = invoke("judge", file, "--against", mine, "--judge", "dummy:longer", "--out", tmp_path)
    assert "is a file of pairs, which says itself what is compared" in str(result.exception)
    with pytest.raises(EvalkitError, match="is no judge's record"):
        report([mine])
    with pytest.raises(RunError, match=r"has no run.json"):
        report([tmp_path])


def test_a_dry_run_asks_nothing_and_shows_the_prompt(tmp_path: Path) -> None:
    pytest.importorskip("evalkit_dummy")
    file = annotated(tmp_path / "pairs.json", [{"output_1": "a", "output_2": "b"}])
    result = invoke("judge", file, "--judge", "dummy:longer", "--dry-run", "--out", tmp_path)
    assert result.exit_code == 0, result.output
    assert "### Output (a)" in result.output
    assert not list(tmp_path.glob("judge/*"))


# The report


def test_the_report_for_people(tmp_path: Path) -> None:
    mine = answered(tmp_path / "a", {"0": "zero", "1": "one one", "2": "same"})
    theirs = answered(tmp_path / "b", {"0": "zero zero", "1": "one", "2": "same"})
    result = invoke("judge", mine, "--against", theirs, "--judge", "dummy:unique", "--out", tmp_path)
    assert result.exit_code == 0, result.output
    text = " ".join(result.output.split())
    for shown in ("wins losses ties at equal length failed", "same in both orders", "longer wins", "more unique wins"):
        assert shown in text
    assert "ties since the outputs are equal (nobody was asked): 1" in text
    assert "ties since the judge named another one in the other order: 2" in text
    assert "not comparable" not in text


def test_a_models_own_tokens_can_be_counted(test_data: Path, tmp_path: Path) -> None:
    pytest.importorskip("evalkit_dummy")
    run = imported(test_data, "alpaca-7b", tmp_path)
    document = report([run], tokenizer="dummy:")
    assert document["counted"] == "distinct tokens of dummy:"
    assert (
        document["runs"][0]["unique"]["model"] > report([run])["runs"][0]["unique"]["model"]
    )  # blanks are tokens here
    with pytest.raises(EvalkitError, match="No backend is named 'nowhere'"):
        report([run], tokenizer="nowhere:x")


POINTS = [
    {"run": "r/1", "model": "camel", "unique": 20.0, "win_rate": 0.1},
    {"run": "r/2", "model": "llama <7B>", "unique": 60.0, "win_rate": 0.5},
    {"run": "r/3", "model": "alpaca", "unique": 100.0, "win_rate": 0.8},
]
R = {"value": 0.99, "stderr": None, "low": 0.5, "high": 0.999}


def test_the_plot_in_characters() -> None:
    lines = scatter.terminal({"points": POINTS, "r": R}, counted="distinct words").splitlines()
    rows = [line.partition("│")[2] for line in lines[:16]]
    assert {
        letter: (row, line.index(letter)) for letter in "abc" for row, line in enumerate(rows) if letter in line
    } == {"a": (14, 4), "b": (7, 29), "c": (1, 55)}
    assert lines[-4:] == [
        "a  camel: 20.0, 10.0 %",
        "b  llama <7B>: 60.0, 50.0 %",
        "c  alpaca: 100.0, 80.0 %",
        "Pearson's r = 0.99 [0.50, 1.00] over 3 runs (95 % interval by Fisher's z).",
    ]


def test_points_that_fall_together_and_runs_that_do_not_differ() -> None:
    same = [POINTS[0], POINTS[0]]
    text = scatter.terminal({"points": same, "r": None}, counted="words")
    assert sum(line.partition("│")[2].count("*") for line in text.splitlines()) == 1
    assert "Pearson's r cannot be told" in text
    assert "too few for an interval" in scatter.caption({"points": POINTS, "r": {**R, "low": None}})


def test_the_plot_as_a_picture() -> None:
    picture = ElementTree.fromstring(scatter.svg({"points": POINTS, "r": R}, counted="distinct words"))
    space = "{http://www.w3.org/2000/svg}"
    circles = [(float(one.attrib["cx"]), float(one.attrib["cy"])) for one in picture.iter(f"{space}circle")]
    assert circles == sorted(circles)
    assert [y for _, y in circles] == sorted((y for _, y in circles), reverse=True)
    texts = [one.text for one in picture.iter(f"{space}text")]
    assert {"camel", "llama <7B>", "alpaca", "win rate", "mean distinct words of an output"} <= set(texts)


def test_the_picture_is_written_where_it_is_wanted(test_data: Path, tmp_path: Path) -> None:
    runs = [imported(test_data, model, tmp_path / model) for model in ("alpaca-7b", "vicuna-13b")]
    result = invoke("judge", "report", *runs, "--scatter", tmp_path / "plot.svg")
    assert result.exit_code == 0, result.output
    assert "win rate, not comparable with the paper" in result.output
    assert (tmp_path / "plot.svg").read_text().startswith("<svg")
    alone = invoke("judge", "report", runs[0], "--scatter", tmp_path / "plot.svg")
    assert "A scatter plot takes two runs or more" in str(alone.exception)


def test_the_report_of_one_run_has_no_correlation(tmp_path: Path) -> None:
    pytest.importorskip("evalkit_dummy")
    file = annotated(tmp_path / "pairs.json", [{"output_1": "a", "output_2": "bb"}])
    assert printed("judge", file, "--judge", "dummy:longer", "--out", tmp_path)["correlation"] is None


def test_gzipped_annotations_can_be_judged_as_they_are(test_data: Path, tmp_path: Path) -> None:
    found = gather.of_file(recorded(test_data, "gpt4_0314"))
    rows = json.loads(gzip.decompress(recorded(test_data, "gpt4_0314").read_bytes()))
    assert len(found.pairs) == len(rows) == 805
    assert (found.model, found.reference) == ("gpt4_0314", "text_davinci_003")
    assert sum(label for pair in found.pairs for label in pair.labels) == 756 + 14 / 2


@pytest.mark.torch
def test_a_real_small_model_judges_and_is_asked_again_warmly(smollm2: Path, tmp_path: Path) -> None:
    pytest.importorskip("evalkit_hf")
    pairs = [
        {"instruction": "Say hello in French.", "output_1": "Guten Tag.", "output_2": "Bonjour!", "preference": 2},
    ]
    file = annotated(tmp_path / "people.json", pairs)
    asked = ("judge", file, "--judge", f"hf:{smollm2}", "-B", "max_tokens=6", "--allow-failures", "--out", tmp_path)
    (cold,) = printed(*asked)["runs"]
    (warm,) = printed(*asked, "--retry-failed")["runs"]
    assert (warm["run"], warm["verdicts"], warm["asked_again"]) == (cold["run"], 2, cold["failed"])
    assert cold["failed"] > 0  # six tokens are too few for it to come to the point
    lines = [json.loads(line) for line in Path(cold["run"], "responses.jsonl").read_text().splitlines()]
    assert all(line["request"]["chat"] for line in lines)
    assert [line["request"].get("temperature", 0.0) for line in lines] == [0.0] * 2 + [0.5] * cold["failed"]
    first = {line["position"]: line["response"]["texts"][0]["text"] for line in lines[:2]}
    assert any(line["response"]["texts"][0]["text"] != first[line["position"]] for line in lines[2:])
