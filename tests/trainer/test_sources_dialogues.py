"""CoT, Flan V2, Open Assistant 1, Baize and ShareGPT: equal to what the 2023 code made, or different on purpose.

Rows of Baize and Flan V2 are self-written in the publishers' layout, since no real ones can be had for tests.
"""

from __future__ import annotations

import gzip
import json
from collections.abc import Callable, Iterable
from pathlib import Path
from random import Random
from typing import Any

import pytest

from trainer.conversation import Conversation, Rejected
from trainer.errors import DataError
from trainer.raw.rows import Files, Row
from trainer.sources import baize, cot, flan_v2, oasst1, sharegpt
from trainer.sources.sharegpt import cut

Record = dict[str, Any]


@pytest.fixture(scope="module")
def recorded(test_data: Path) -> Callable[[int], list[Record]]:
    """The conversations of a run of the 2023 converters, in order; its last record tells about the run itself."""
    with gzip.open(test_data / "oracles/open_instruct_v1/converters.jsonl.gz", "rt") as file:
        rows = [json.loads(line) for line in file]

    def run(number: int) -> list[Record]:
        found = [row for row in rows if row.get("run") == number]
        return sorted(found, key=lambda row: row.get("output_index", len(found)))

    return run


@pytest.fixture(scope="module")
def flan_rows(recorded: Callable[[int], list[Record]]) -> list[Record]:
    """71 rows in FLAN's layout: 15 of each of four real chain-of-thought files and made prompts of all endings."""
    return [row["input"] for row in recorded(282)[:-1]]


def lines(folder: Path, name: str, rows: Iterable[Any]) -> Files:
    """Raw files, one of which is written here."""
    text = "".join((row if isinstance(row, str) else json.dumps(row)) + "\n" for row in rows)
    content = text.encode()
    (folder / name).write_bytes(gzip.compress(content) if name.endswith(".gz") else content)
    return Files(folder)


def listed(folder: Path, **files: Any) -> Files:
    """Raw files of one JSON list each."""
    for name, rows in files.items():
        (folder / f"{name}.json").write_text(json.dumps(rows), encoding="utf-8")
    return Files(folder)


def made(found: Iterable[Conversation | Rejected]) -> list[Record]:
    """Conversations as the 2023 code wrote them; fails on a rejected row."""
    conversations = []
    for one in found:
        assert isinstance(one, Conversation), one
        conversations.append(json.loads(one.line()))
    return conversations


def as_written(rows: Iterable[Record]) -> list[Record]:
    return [{name: row[name] for name in ("dataset", "id", "messages")} for row in rows]


def said(one: Conversation | Rejected) -> list[tuple[str, str]]:
    assert isinstance(one, Conversation), one
    return [(message.role, message.content) for message in one.messages]


def rejected(found: Iterable[Conversation | Rejected]) -> list[str]:
    return [str(one) for one in found if isinstance(one, Rejected)]


# --- Flan V2 and CoT


def test_flan_conversations_are_those_of_2023(
    tmp_path: Path, recorded: Callable[[int], list[Record]], flan_rows: list[Record]
) -> None:
    old = as_written(recorded(282)[:-1])
    found = list(flan_v2.convert(lines(tmp_path, flan_v2.DRAWN, flan_rows), Random(42)))
    [blank] = [place for place, row in enumerate(flan_rows) if not row["inputs"].strip()]
    # The 2023 code kept a prompt of nothing; its row is rejected, and the ids of the others stay.
    assert str(found.pop(blank)) == f"{flan_v2.DRAWN}:{blank + 1}: field 'inputs' is empty."
    assert old.pop(blank)["messages"][0] == {"role": "user", "content": "\n"}
    assert made(found) == old
    assert len(old) == 70


@pytest.mark.parametrize("asked", [50_000, 10])
def test_cot_draws_what_was_drawn_in_2023(
    tmp_path: Path, recorded: Callable[[int], list[Record]], flan_rows: list[Record], asked: int
) -> None:
    old = as_written(recorded({50_000: 354, 10: 426}[asked])[:-1])
    # The row of an empty prompt, here and in the old draw, asks something, so that all rows can be drawn from.
    rows = [row if row["inputs"] else {**row, "inputs": "?"} for row in flan_rows]
    lines(tmp_path, "cot_zsopt.jsonl", rows[:40])
    files = lines(tmp_path, "cot_fsopt.jsonl", rows[40:])
    for one in old:
        if one["messages"][0]["content"] == "\n":
            one["messages"][0]["content"] = "?\n"
    assert made(cot.convert(files, Random(42), drawn=asked)) == old
    assert len(old) == {50_000: 71, 10: 20}[asked]


def test_cot_reads_the_real_rows_of_flan(tmp_path: Path, test_data: Path) -> None:
    real = Files(test_data / "instruct/flan_cot").tsv("qasc_train.tsv", ["question", "answer", "rationale"])
    pairs = [
        {"inputs": row["question"].replace("\\n", "\n"), "targets": row["rationale"]}
        for row in real
        if not isinstance(row, Rejected)
    ]
    assert len(pairs) == 1084
    lines(tmp_path, "cot_zsopt.jsonl", pairs)
    files = lines(tmp_path, "cot_fsopt.jsonl", pairs[:3])
    found = list(cot.convert(files, Random(0), drawn=100))
    assert len(found) == 103
    drawn = {said(one)[0][1].removesuffix("\n") for one in found[:100]}
    assert len(drawn) == 100
    assert drawn <= {pair["inputs"].removesuffix("\n") for pair in pairs}


def test_broken_flan_rows_are_told_by_line_and_never_drawn(tmp_path: Path) -> None:
    good = {"inputs": "a", "targets": "b"}
    (tmp_path / "cot_zsopt.jsonl").write_bytes(
        b'{"inputs": "\xff", "targets": "b"}\n{"inputs": 1, "targets": "b"}\n{"inputs": "a"}\n'
        + json.dumps(good).encode()
    )
    files = lines(tmp_path, "cot_fsopt.jsonl", [good, '{"inputs": x}', [1], {"inputs": "a", "targets": " \n"}])
    found = list(cot.convert(files, Random(42)))
    assert [one.id for one in found if isinstance(one, Conversation)] == ["cot_0", "cot_1"]
    assert rejected(found) == [
        "cot_zsopt.jsonl:1: not UTF-8 (byte 13 of the line).",
        "cot_zsopt.jsonl:2: field 'inputs' should be text, but is 1.",
        "cot_zsopt.jsonl:3: field 'targets' is missing (there are: inputs).",
        "cot_fsopt.jsonl:2: not JSON (Expecting value, column 12).",
        "cot_fsopt.jsonl:3: not a JSON object but list.",
        "cot_fsopt.jsonl:4: field 'targets' is empty.",
    ]


def test_flan_is_drawn_anew_by_its_portions(tmp_path: Path) -> None:
    for part in flan_v2.PORTIONS:
        lines(tmp_path, f"{part}.jsonl", [{"inputs": f"{part} {place}:", "targets": "t"} for place in range(30)])
    found = list(flan_v2.resample(Files(tmp_path), Random(42), total=200))
    parts = [said(one)[0][1].partition(" ")[0] for one in found]
    counts = [20] * 4 + [16] * 4 + [20] * 2 + [5] * 2 + [3] * 2
    assert [parts.count(part) for part in flan_v2.PORTIONS] == counts
    assert sum(counts) == sum(flan_v2.PORTIONS.values()) / 5 == 200
    # What the first part gives is the first draw of the stream, in the order of the file.
    first = [int(said(one)[0][1].removesuffix(":").partition(" ")[2]) for one in found[:20]]
    assert first == sorted(Random(42).sample(range(30), 20))
    assert [one.id for one in found if isinstance(one, Conversation)] == [f"flan_v2_{n}" for n in range(200)]


def test_a_part_of_flan_that_is_too_short_is_refused(tmp_path: Path) -> None:
    for part in flan_v2.PORTIONS:
        lines(tmp_path, f"{part}.jsonl", ["{}"])
    with pytest.raises(DataError, match=r"^flan_zsopt\.jsonl has 1 lines, of which 10,000 should be drawn"):
        list(flan_v2.resample(Files(tmp_path), Random(42)))


def test_drawn_lines_that_hold_no_row_are_rejected(tmp_path: Path) -> None:
    for part in flan_v2.PORTIONS:
        lines(tmp_path, f"{part}.jsonl", ["", "[]"] * 10)
    found = list(flan_v2.resample(Files(tmp_path), Random(42), total=40))
    assert len(found) == 38  # 25 and 15 thousandths of 40 are one whole row and none
    assert {str(one).partition(": ")[2] for one in found} == {
        "not JSON (Expecting value: line 1 column 1 (char 0)).",
        "not a JSON object but list.",
    }


# --- Open Assistant 1


def test_every_assistant_message_ended_a_conversation_in_2023(
    test_data: Path, recorded: Callable[[int], list[Record]]
) -> None:
    files = Files(test_data / "instruct/oasst/en_100_tree.jsonl.gz")
    found = made(oasst1.convert(files, Random(42), ends="every"))
    assert len(found) == 687 == recorded(13)[-1]["outputs"]
    assert found[:100] == as_written(recorded(13)[:-1])


def test_made_trees_end_where_they_did_in_2023(tmp_path: Path, recorded: Callable[[int], list[Record]]) -> None:
    *old, run = recorded(114)
    trees = [{"prompt": tree} for tree in json.loads(run["note"])]
    found = list(oasst1.convert(lines(tmp_path, oasst1.FILE, trees), Random(42), ends="every"))
    # The second tree is a prompt that nobody answered: nothing came of it in 2023, without a word.
    assert rejected(found) == [f"{oasst1.FILE}:2: no path through the tree ends in an assistant's message."]
    assert made(one for one in found if isinstance(one, Conversation)) == as_written(old)


def test_a_conversation_ends_at_an_assistant_message_without_reply(test_data: Path) -> None:
    found = list(oasst1.convert(Files(test_data / "instruct/oasst/en_100_tree.jsonl.gz"), Random(42)))
    conversations = [one for one in found if isinstance(one, Conversation)]
    assert len(conversations) == 400
    # Four of the 100 trees end in prompts alone.
    assert [one.rpartition(":")[0].partition(":")[0] for one in rejected(found)] == ["en_100_tree.jsonl.gz"] * 4
    assert sum(len(one.messages) for one in conversations) / 2 / 400 == 1.785
    paths = [one.messages for one in conversations]
    assert not any(a != b and b[: len(a)] == a for a in paths for b in paths)


@pytest.mark.parametrize(
    ("prompt", "reason"),
    [
        ({"role": "assistant", "text": "a"}, "in 'prompt' the role is 'assistant', where 'prompter' is"),
        (
            {"role": "prompter", "text": "p", "replies": [{"role": "system", "text": "a", "replies": []}]},
            "in 'prompt.replies[0]' the role is 'system', where 'assistant' is expected",
        ),
        ({"role": "prompter", "text": "p", "replies": []}, "no path through the tree ends in"),
        ({"role": "prompter", "text": "p"}, "no path through the tree ends in"),
        ({"role": "prompter", "text": " "}, "in 'prompt' the text is empty"),
        ({"role": "prompter"}, "field 'prompt.text' is missing"),
        ({"role": "prompter", "text": None}, "field 'prompt.text' should be text, but is null"),
        ({"role": "prompter", "text": "p", "replies": {}}, "field 'prompt.replies' should be a list, but is {}"),
        ([], "field 'prompt' should be an object, but is []"),
    ],
)
def test_a_tree_with_a_fault_is_rejected_whole(tmp_path: Path, prompt: Any, reason: str) -> None:
    good = {"role": "prompter", "text": "p", "replies": [{"role": "assistant", "text": "a", "replies": []}]}
    trees = [{"prompt": good}, {"prompt": prompt}, {"prompt": good}]
    found = list(oasst1.convert(lines(tmp_path, oasst1.FILE, trees), Random(42)))
    assert [one.id for one in found if isinstance(one, Conversation)] == ["oasst1_0", "oasst1_1"]
    [told] = rejected(found)
    assert told.startswith(f"{oasst1.FILE}:2: {reason}")


def test_a_very_deep_tree_is_read() -> None:
    node: Record = {"role": "assistant", "text": "the end", "replies": []}
    for depth in reversed(range(1999)):
        node = {"role": "assistant" if depth % 2 else "prompter", "text": "more", "replies": [node]}
    [one] = oasst1._paths(Row({"prompt": node}, where="made", number=0), "leaves", iter([0]))
    assert len(said(one)) == 2000


# --- Baize


def test_transcripts_become_what_they_did_in_2023(tmp_path: Path, recorded: Callable[[int], list[Record]]) -> None:
    *old, run = recorded(599)
    files = listed(tmp_path, **{f"{name}_chat_data": rows for name, rows in json.loads(run["note"]).items()})
    found = list(baize.convert(files, Random(42)))
    # In 2023 a transcript without a reply became a conversation without messages, and an empty reply was kept.
    assert rejected(found) == ["medical_chat_data.json[1]: no turn [|Human|] has a reply [|AI|]."]
    assert old.pop(2)["messages"] == []
    assert old[2]["messages"][:2] == [{"role": "user", "content": "x"}, {"role": "assistant", "content": ""}]
    del old[2]["messages"][:2]
    assert made(one for one in found if isinstance(one, Conversation)) == as_written(old)
    assert [one["id"] for one in old] == ["baize_0", "baize_1", "baize_3"]


def test_two_replies_to_one_turn_are_rejected_where_2023_stopped(
    tmp_path: Path, recorded: Callable[[int], list[Record]]
) -> None:
    [run] = recorded(604)
    assert run["error"] == "ValueError: too many values to unpack (expected 2)"
    rows = [{"topic": "t", "input": "[|Human|] x [|AI|] y [|AI|] z"}, {"topic": "t", "input": None}, {"topic": "t"}]
    files = listed(
        tmp_path, alpaca_chat_data=rows, medical_chat_data=[], quora_chat_data=[], stackoverflow_chat_data=[]
    )
    assert rejected(baize.convert(files, Random(42))) == [
        "alpaca_chat_data.json[1]: 2 replies [|AI|] to one turn [|Human|].",
        "alpaca_chat_data.json[2]: field 'input' should be text, but is null.",
        "alpaca_chat_data.json[3]: field 'input' is missing (there are: topic).",
    ]


# --- ShareGPT


@pytest.fixture(scope="module")
def splits(test_data: Path) -> list[Record]:
    """72 dialogues that the 2023 splitter cut, by SmolLM2's and LLaMA's tokenizer, at 512 and 2,048 tokens."""
    with gzip.open(test_data / "oracles/open_instruct_v1/sharegpt_splits.jsonl.gz", "rt") as file:
        return [json.loads(line) for line in file]


def test_dialogues_are_cut_where_2023_cut_them(splits: list[Record]) -> None:
    for row in splits:
        lengths = row["turn_lengths_plus_6"]
        pieces = cut(lengths[: len(lengths) // 2 * 2], limit=row["max_length"]).pieces
        # The 2023 splitter also made pieces of no message, and threw them away a step later.
        old = [(int(one["id"].rpartition("_")[2]), one["turns"]) for one in row["out"] if one["turns"]]
        assert [(first, behind - first) for first, behind in pieces] == old, row["id"]
    assert len(splits) == 72


def test_the_pieces_kept_are_those_kept_in_2023(tmp_path: Path, splits: list[Record]) -> None:
    for row in splits:
        lengths = dict(zip((one["value"] for one in row["conversations"]), row["turn_lengths_plus_6"], strict=True))
        files = listed(tmp_path, sg_90k_part1_html_cleaned=[row], sg_90k_part2_html_cleaned=[])
        found = list(sharegpt.convert(files, Random(42), count=measured(lengths), limit=row["max_length"]))
        kept = [one.id.removeprefix("sharegpt_") for one in found if isinstance(one, Conversation)]
        assert kept == row["kept_after_role_filter"]
        for one in found:
            if isinstance(one, Conversation):
                first = int(one.id.rpartition("_")[2])
                turns = row["conversations"][first : first + len(one.messages)]
                assert [message.content for message in one.messages] == [turn["value"] for turn in turns]


def measured(lengths: dict[str, int]) -> Callable[[str], int]:
    """A tokenizer that knows the texts of one dialogue by heart; their recorded lengths have 6 tokens more."""
    return lambda text: lengths[text] - 6


def test_a_last_pair_is_lost_only_as_in_2023(splits: list[Record]) -> None:
    lost = 0
    for row in splits:
        lengths, limit = row["turn_lengths_plus_6"], row["max_length"]
        lengths = lengths[: len(lengths) // 2 * 2]
        old, new = cut(lengths, limit=limit), cut(lengths, limit=limit, as_2023=False)
        last = (len(lengths) - 2, len(lengths))
        assert new.pieces == old.pieces + ((last,) if old.lost else ())
        assert new.too_long == old.too_long
        assert not new.lost
        held = {place for first, behind in new.pieces for place in range(first, behind)}
        assert held | {place + one for place in new.too_long for one in (0, 1)} == set(range(len(lengths)))
        assert all(sum(lengths[first:behind]) <= limit for first, behind in new.pieces)
        lost += len(old.lost)
    assert lost == 29


@pytest.mark.parametrize(
    ("lengths", "old", "new"),
    [
        ([], (), ()),
        ([60, 60], (), ()),
        ([40, 40], ((0, 2),), ((0, 2),)),
        ([40, 40, 40, 40], ((0, 2),), ((0, 2), (2, 4))),
        ([40, 10, 40, 10], ((0, 4),), ((0, 4),)),
        ([60, 60, 10, 10], (), ((2, 4),)),
        ([60, 60, 10, 10, 10, 10], ((2, 6),), ((2, 6),)),
        ([10, 10, 60, 60, 10, 10], ((0, 2),), ((0, 2), (4, 6))),
        ([10, 10, 60, 60], ((0, 2),), ((0, 2),)),
    ],
)
def test_pairs_fill_pieces_of_a_hundred_tokens(
    lengths: list[int], old: tuple[tuple[int, int], ...], new: tuple[tuple[int, int], ...]
) -> None:
    assert cut(lengths, limit=100).pieces == old
    assert cut(lengths, limit=100, as_2023=False).pieces == new


def test_the_published_dialogues_become_what_they_did_in_2023(
    test_data: Path, recorded: Callable[[int], list[Record]]
) -> None:
    files = Files(test_data / "instruct/sharegpt/dummy_conversation.json")
    found = made(sharegpt.convert(files, Random(42), count=len))
    old = as_written(recorded(136)[:-1])
    assert found[:100] == [{**one, "id": f"{one['id']}_0"} for one in old]
    assert len(found) == 500


def test_senders_are_read_as_in_2023_or_better(tmp_path: Path, recorded: Callable[[int], list[Record]]) -> None:
    *old, run = recorded(237)
    rows = json.loads(run["note"])
    rows.append({"id": "x", "conversations": [{"from": "bard", "value": "h"}, {"from": "gpt", "value": "g"}]})
    files = listed(tmp_path, sg_90k_part1_html_cleaned=rows, sg_90k_part2_html_cleaned=[])
    told = [
        "[2]: message 1 is by 'system', where 'human' is expected.",
        "[3]: message 2 is by 'bing', where 'gpt' is expected.",
        "[4]: no message has an answer.",
        "[5]: message 1 is by 'gpt', where 'human' is expected.",
        "[6]: message 1 is by 'bard', where 'human' is expected.",
    ]
    part1 = "sg_90k_part1_html_cleaned.json"
    literal = list(sharegpt.convert(files, Random(42), count=len))
    # The 2023 splitter passed only human and gpt, and only user first; its converter then stopped at bard.
    assert [str(one) for one in literal] == [
        f"{part1}[1]: message 1 is by 'user', where 'human' is expected.",
        *(part1 + one for one in told),
    ]
    mended = list(sharegpt.convert(files, Random(42), count=len, as_2023=False))
    assert made(mended[:1]) == [{**as_written(old)[0], "id": "sharegpt_m0_0"}]
    better = [one.replace("'human'", "'user'").replace("where 'gpt'", "where 'assistant'") for one in told]
    assert [str(one) for one in mended[1:]] == [part1 + one for one in better]


def test_what_a_dialogue_loses_is_told(tmp_path: Path) -> None:
    def turns(*texts: str) -> list[Record]:
        return [{"from": "gpt" if place % 2 else "human", "value": text} for place, text in enumerate(texts)]

    rows: list[Any] = [
        {"id": "long", "conversations": turns("a" * 99, "b", "c", "d")},
        {"id": "odd", "conversations": turns("a", "b", "unanswered")},
        {"id": "empty", "conversations": turns("a", " ")},
        {"conversations": []},
        {"id": "half", "conversations": [{"from": "human"}]},
    ]
    files = listed(tmp_path, sg_90k_part1_html_cleaned=rows, sg_90k_part2_html_cleaned=["a text"])
    part1, part2 = "sg_90k_part1_html_cleaned.json", "sg_90k_part2_html_cleaned.json"
    faults = [
        f"{part1}[4]: field 'id' is missing (there are: conversations).",
        f"{part1}[5]: field 'conversations[0].value' is missing (there are: from).",
        f"{part2}[1]: not a JSON object but str.",
    ]
    old = list(sharegpt.convert(files, Random(42), count=len, limit=50))
    assert rejected(old) == [
        f"{part1}[1]: messages 1 and 2 alone have more than 50 tokens.",
        f"{part1}[1]: messages 3 and 4, the last, do not fit into a piece; lost as in 2023.",
        *faults,
    ]
    assert [one.id for one in old if isinstance(one, Conversation)] == ["sharegpt_odd_0", "sharegpt_empty_0"]
    new = list(sharegpt.convert(files, Random(42), count=len, limit=50, as_2023=False))
    assert rejected(new) == [
        f"{part1}[1]: messages 1 and 2 alone have more than 50 tokens.",
        f"{part1}[3]: message 2, by 'gpt', is empty.",
        *faults,
    ]
    assert [one.id for one in new if isinstance(one, Conversation)] == ["sharegpt_long_2", "sharegpt_odd_0"]


def test_the_tokenizer_among_the_files_measures_the_pieces(tmp_path: Path) -> None:
    from tokenizers import Tokenizer, models, pre_tokenizers, processors

    words = Tokenizer(models.WordLevel({"<s>": 0, "w": 1}, unk_token="w"))
    words.pre_tokenizer = pre_tokenizers.Whitespace()
    words.post_processor = processors.TemplateProcessing(single="<s> $A", special_tokens=[("<s>", 0)])
    words.save(str(tmp_path / "tokenizer.json"))
    turns = [{"from": "human", "value": "w " * 7}, {"from": "gpt", "value": "w " * 9}]
    files = listed(tmp_path, sg_90k_part1_html_cleaned=[{"id": "a", "conversations": turns}])
    files = listed(tmp_path, sg_90k_part2_html_cleaned=[])
    # 7 + 9 words, a BOS and 6 more for each message.
    assert len(made(sharegpt.convert(files, Random(42), limit=30))) == 1
    assert rejected(sharegpt.convert(files, Random(42), limit=29)) == [
        "sg_90k_part1_html_cleaned.json[1]: messages 1 and 2 alone have more than 29 tokens."
    ]
    assert "tokenizer.json" in files.digests


@pytest.mark.parametrize("content", ['{"model": 1}', "{", "[]"])
def test_a_tokenizer_that_is_none_is_refused(tmp_path: Path, content: str) -> None:
    (tmp_path / "tokenizer.json").write_text(content, encoding="utf-8")
    with pytest.raises(DataError, match=r"^tokenizer\.json.* the dialogues are cut with LLaMA's tokenizer"):
        list(sharegpt.convert(Files(tmp_path), Random(42)))


@pytest.mark.parametrize("module", [cot, flan_v2, oasst1, baize, sharegpt])
def test_a_source_names_its_files_at_a_revision_that_stays(module: Any) -> None:
    source = module.SOURCE
    assert source.name == module.__name__.rpartition(".")[2]
    for file in source.published:
        assert file.path.startswith(f"{source.name}/")
        assert file.url.startswith("https://")
        assert any(len(part) == 40 for part in file.url.split("/"))
        assert file.url.endswith(file.path.partition("/")[2])
