"""Planted evaluation items are found however they were changed; clean conversations are left alone."""

from __future__ import annotations

import gzip
import json
import multiprocessing
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from trainer.cli import trainer
from trainer.contamination.containment import Found, Index
from trainer.contamination.containment_index import build
from trainer.contamination.folding import fold, fold_apart
from trainer.contamination.items import Item, items
from trainer.contamination.overlap import scan
from trainer.conversation import Conversation, Message, read
from trainer.errors import DataError, TrainerError

GSM = "Janet’s ducks lay 16 eggs per day."
FILLER = "The weather was mild, and nobody in the village had anything better to do than watch the boats come in."


@pytest.fixture(scope="module")
def published(test_data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Parts of the real files of all six benchmarks, where their publishers have them."""
    folder = tmp_path_factory.mktemp("benchmarks")
    for name in ("gsm8k", "humaneval", "nc/alpaca_farm", "bbh/bbh", "tydiqa", "mmlu"):
        (folder / name).mkdir(parents=True)
    (folder / "mmlu" / "mmlu.zip").symlink_to(test_data / "mmlu" / "mmlu.zip")
    for name in ("gsm8k/test.jsonl", "humaneval/HumanEval.jsonl.gz", "nc/alpaca_farm/davinci_003_outputs.json.gz"):
        (folder / name).symlink_to(test_data / name)
    for name in ("date_understanding", "logical_deduction_five_objects", "dyck_languages"):
        (folder / f"bbh/bbh/{name}.json").symlink_to(test_data / f"bbh/bbh/{name}.json")
    for name in ("te", "ko"):
        file = f"tydiqa.goldp.{name}.dev.json.gz"
        (folder / "tydiqa" / file).symlink_to(test_data / "tydiqa" / "dev_without_answers" / file)
    return folder


@pytest.fixture(scope="module")
def all_items(published: Path) -> list[Item]:
    """Every item but most of MMLU's, whose index takes a while."""
    return [
        item
        for item in items(published)
        if item.benchmark != "mmlu" or item.id.startswith(("anatomy", "virology", "high_school_macro"))
    ]


@pytest.fixture(scope="module")
def index(all_items: list[Item]) -> Index:
    return build(all_items)


def said(*texts: str) -> Conversation:
    return Conversation(
        dataset="mix", id="1", messages=tuple(Message(role="user", content=text) for text in texts or ("",))
    )


def held(index: Index, *texts: str) -> list[Found]:
    return index.search([said(*texts)])[0]


def long_ones(all_items: list[Item], least: int = 8) -> list[Item]:
    return [item for item in all_items if len(fold(item.texts[-1]).split()) >= least]


# ---- reading


def test_all_items_of_the_published_files_are_read(published: Path) -> None:
    counts: dict[str, int] = {}
    for item in items(published):
        counts[item.benchmark] = counts.get(item.benchmark, 0) + 1
    # By the publishers: 14,042 · 1,319 · 3 tasks of 250 · Telugu 669 and Korean 276 · 164 · 805.
    expected = {"mmlu": 14042, "gsm": 1319, "bbh": 750, "tydiqa": 945, "codex-eval": 164, "alpacafarm": 805}
    assert counts == expected


def test_an_item_in_two_files_counts_once(tmp_path: Path, test_data: Path) -> None:
    for place in ("a", "b"):
        (tmp_path / place / "gsm8k").mkdir(parents=True)
        (tmp_path / place / "gsm8k" / "test.jsonl").symlink_to(test_data / "gsm8k" / "test.jsonl")
    assert len(list(items(tmp_path))) == 1319


def test_bbh_is_read_from_its_repositorys_archive(tmp_path: Path, test_data: Path) -> None:
    with zipfile.ZipFile(tmp_path / "BIG-Bench-Hard-main.zip", "w") as archive:
        for name in ("bbh/snarks.json", "cot-prompts/snarks.txt"):
            archive.write(test_data / "bbh" / name, f"BIG-Bench-Hard-main/{name}")
    assert [item.id for item in items(tmp_path)] == [f"snarks/{number}" for number in range(178)]


def test_a_folder_without_benchmarks_says_what_it_looked_for(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"holds no benchmark files.*mmlu\.zip.*gsm8k/test\.jsonl"):
        list(items(tmp_path))


@pytest.mark.parametrize("content", [b"{}", b"[1]", b'{"question": 1', b"\xff"])
def test_a_file_of_something_else_is_named(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "gsm8k").mkdir()
    (tmp_path / "gsm8k" / "test.jsonl").write_bytes(content)
    with pytest.raises(DataError, match=r"gsm8k/test\.jsonl is no file of gsm"):
        list(items(tmp_path))


# ---- folding


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("Don't  PANIC!", ["dont", "panic"]),
        ("ｆｕｌｌ　width １２", ["full", "width", "12"]),
        ("zero\u200bwidth soft\u00adhyphen", ["zerowidth", "softhyphen"]),
        ("ভাষা কী?", ["ভাষা", "কী"]),  # vowel signs belong to their words
        ("日本語 ok", ["日", "本", "語", "ok"]),
        ("Straße STRASSE", ["strasse", "strasse"]),
    ],
)
def test_folding(text: str, words: list[str]) -> None:
    assert fold(text).split() == words


def test_marks_that_became_spaces_fold_like_marks_apart() -> None:
    assert fold("don t 1 000").split() == fold_apart("don't 1,000").split()


# ---- finding


@pytest.mark.parametrize(
    "change",
    [
        lambda text: text,
        str.upper,
        str.swapcase,
        lambda text: "".join(one for one in text if one not in ".,;:!?'\"-()"),
        lambda text: " ".join(word.rstrip(".,?!:;") + "," for word in text.split()),
        lambda text: text.replace(" ", " \u00a0\t"),
        lambda text: f"{FILLER} {text} {FILLER}",
    ],
)
def test_every_item_of_eight_words_is_found_however_changed(
    index: Index, all_items: list[Item], change: Callable[[str], str]
) -> None:
    some = long_ones(all_items)[::7]
    found = index.search([said(change(item.texts[-1])) for item in some])
    assert [item.id for item, finds in zip(some, found, strict=True) if not finds] == []


@pytest.mark.parametrize("part", ["first", "second"])
def test_every_half_is_found_where_it_is_the_message(index: Index, all_items: list[Item], part: str) -> None:
    some = long_ones(all_items)[::7]
    cut = [item.texts[-1].split() for item in some]
    halves = [" ".join(one[: len(one) // 2] if part == "first" else one[len(one) // 2 :]) for one in cut]
    found = index.search([said(half, FILLER) for half in halves])
    assert [half for half, finds in zip(halves, found, strict=True) if not finds] == []


def test_half_of_a_long_item_is_found_inside_a_sentence(index: Index, all_items: list[Item]) -> None:
    some = [item for item in long_ones(all_items, 30) if item.benchmark in ("gsm", "alpacafarm")][::5]
    cut = [item.texts[-1].split() for item in some]
    found = index.search([said(f"{FILLER} {' '.join(one[: len(one) // 2])} {FILLER}") for one in cut])
    missed = [item.id for item, finds in zip(some, found, strict=True) if not finds]
    assert len(missed) <= len(some) // 100, missed


def test_every_shorter_item_is_found_verbatim(index: Index, all_items: list[Item]) -> None:
    some = [item for item in all_items if 0 < len(fold(item.texts[-1]).split()) < 8]
    found = index.search([said(item.texts[-1], FILLER) for item in some])
    assert [item.id for item, finds in zip(some, found, strict=True) if not finds] == []


def test_a_find_names_the_item_and_how_much_of_it_is_there(index: Index) -> None:
    question = next(item for item in index.items if item.benchmark == "gsm" and item.id == "0").texts[0]
    best = held(index, f"{FILLER} {question.upper()}")[0]
    assert (index.items[best.item].id, best.why, best.share) == ("0", "run", 1.0)
    assert "janets ducks lay 16 eggs" in best.words


@pytest.mark.parametrize(
    "text",
    [
        FILLER,
        "Which of the following is the best example of a good breakfast?",  # how MMLU talks
        "What is the name of the person who wrote that book?",
        "1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16",
        "inflation",  # in a sentence, and as a line: an MMLU question is this one word
    ],
)
def test_what_many_people_say_is_no_item(index: Index, text: str) -> None:
    assert held(index, f"Well. {text} And so on.") == []


def test_no_run_goes_on_from_one_message_to_the_next(index: Index) -> None:
    words = GSM.split()
    assert held(index, " ".join(["So", *words[:4]]), " ".join([*words[4:], "so"])) == []


def test_boilerplate_alone_is_no_item_but_all_of_one_is(index: Index) -> None:
    assert held(index, f"{FILLER} fixed order. The statements are logically consistent, {FILLER}") == []
    dyck = next(item for item in index.items if item.id == "dyck_languages/0").texts[0]
    assert held(index, f"{FILLER} {dyck} {FILLER}") != []


def test_what_an_item_says_of_its_own_is_measured_without_the_boilerplate_around_it() -> None:
    """Sixteen words of an item of seventy-six, the others of which stand in all twenty."""
    boilerplate = " ".join(f"common{place}" for place in range(60))
    own = [" ".join(f"word{number}x{place}" for place in range(16)) for number in range(20)]
    index = build(
        Item(benchmark="bbh", id=str(number), texts=(f"{boilerplate} {text}",)) for number, text in enumerate(own)
    )
    found = held(index, f"{FILLER} {own[7]} {FILLER}")
    assert [index.items[one.item].id for one in found] == ["7"]


def test_real_instructions_are_clean(index: Index, test_data: Path) -> None:
    rows = json.loads(gzip.decompress((test_data / "nc/code_alpaca/code_alpaca_2k.json.gz").read_bytes()))
    found = index.search([said(row["instruction"], row["input"], row["output"]) for row in rows])
    assert sum(map(bool, found)) <= len(rows) // 1000


def test_grams_of_thirteen_words_find_what_is_there(all_items: list[Item]) -> None:
    some = [item for item in all_items if item.benchmark == "gsm"][:200]
    index = build(some, words=13)
    found = index.search([said(f"{FILLER} {item.texts[0].lower()} {FILLER}") for item in some])
    assert all(index.items[finds[0].item].id == item.id for finds, item in zip(found, some, strict=True))


# ---- the command


def run(*arguments: str | Path) -> Result:
    return CliRunner().invoke(trainer, ["data", "overlap", *map(str, arguments)])


@pytest.fixture
def mix(tmp_path: Path, test_data: Path) -> Path:
    """Two datasets with a planted question each."""
    with (test_data / "gsm8k" / "test.jsonl").open() as file:
        planted = [json.loads(file.readline())["question"] for _ in range(2)]
    lines = [
        Conversation(dataset="ours", id="a", messages=said(FILLER).messages).line(),
        Conversation(dataset="ours", id="b", messages=said(f"{FILLER}\n{planted[0].upper()}").messages).line(),
        "",
        Conversation(dataset="theirs", id="c", messages=said(planted[1], "72").messages).line(),
    ]
    file_of_lines = tmp_path / "mix.jsonl"
    file_of_lines.write_text("\n".join(lines) + "\n")
    (tmp_path / "data" / "gsm8k").mkdir(parents=True)
    (tmp_path / "data" / "gsm8k" / "test.jsonl").symlink_to(test_data / "gsm8k" / "test.jsonl")
    return file_of_lines


def test_the_command_shows_counts_and_examples_and_drops(mix: Path) -> None:
    ran = run(mix, "--benchmarks", mix.parent / "data", "--drop", mix.parent / "out.jsonl", "--processes", "2")
    assert ran.exit_code == 0, ran.output
    rows = [line.split() for line in ran.output.splitlines()]
    assert ["ours", "2", "1", "50.00", "1"] in rows
    assert ["theirs", "1", "1", "100.00", "1"] in rows
    assert "Not searched, no file in the folder: mmlu, bbh, tydiqa, codex-eval, alpacafarm" in ran.output
    assert "ours line 2 (b) is it, or half of it: gsm 0, 100%" in ran.output
    assert [one.id for one in read(mix.parent / "out.jsonl")] == ["a"]
    assert "1 conversations, 2 left out" in ran.output
    assert not list(mix.parent.glob("*.part"))


def test_json_has_every_find(mix: Path) -> None:
    report = json.loads(run(mix, "--benchmarks", mix.parent / "data", "--json").output)
    assert report["conversations"] == {"ours": 2, "theirs": 1}
    assert [(one["line"], one["id"], one["items"][0]["id"]) for one in report["found"]] == [
        (2, "b", "0"),
        (4, "c", "1"),
    ]


def test_one_process_finds_what_two_find(mix: Path) -> None:
    index = build(items(mix.parent / "data"))
    assert scan(mix, index, processes=1) == scan(mix, index, processes=2)


def test_a_killed_process_is_told(mix: Path) -> None:
    mix.write_text(mix.read_text() * 2000)

    def kill(size: int) -> None:
        for child in multiprocessing.active_children():
            child.kill()

    with pytest.raises(TrainerError, match=r"^A worker process was killed, .* with fewer --processes\.$"):
        scan(mix, build(items(mix.parent / "data")), processes=2, told=kill)


def test_the_mix_itself_is_never_written(mix: Path) -> None:
    before = mix.read_bytes()
    ran = run(mix, "--benchmarks", mix.parent / "data", "--drop", mix)
    assert isinstance(ran.exception, DataError)
    assert mix.read_bytes() == before


@pytest.mark.parametrize(
    ("out", "why"), [("data/gsm8k/test.jsonl/x/out.jsonl", "Not a directory"), ("mix.jsonl/out.jsonl", "is a file")]
)
def test_a_place_that_cannot_be_written_is_told_before_the_search(
    mix: Path, out: str, why: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("trainer.contamination.overlap.scan", None)
    ran = run(mix, "--benchmarks", mix.parent / "data", "--drop", mix.parent / out)
    assert isinstance(ran.exception, DataError)
    assert str(ran.exception).startswith(f"{mix.parent / out} cannot be written: ")
    assert str(ran.exception).endswith(f"{why}.")


def test_the_folder_of_what_is_left_is_made(mix: Path) -> None:
    ran = run(mix, "--benchmarks", mix.parent / "data", "--drop", mix.parent / "new" / "out.jsonl", "--processes", "1")
    assert (ran.exit_code, (mix.parent / "new" / "out.jsonl").exists()) == (0, True)


def test_an_empty_mix_is_an_error(mix: Path) -> None:
    mix.write_text("\n")
    ran = run(mix, "--benchmarks", mix.parent / "data", "--processes", "1", "--drop", mix.parent / "out.jsonl")
    assert str(ran.exception) == f"{mix} holds no conversation to search."
    assert not (mix.parent / "out.jsonl").exists()


def test_a_broken_line_is_named_and_nothing_is_written(mix: Path) -> None:
    mix.write_text(mix.read_text() + "{\n")
    ran = run(mix, "--benchmarks", mix.parent / "data", "--drop", mix.parent / "out.jsonl", "--processes", "2")
    assert isinstance(ran.exception, DataError)
    assert "mix.jsonl:5" in str(ran.exception)
    assert not (mix.parent / "out.jsonl").exists()
