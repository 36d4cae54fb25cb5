"""Mixtures: what is drawn of which datasets, written once and recorded by hash."""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
import signal
import subprocess
import sys
from collections import Counter
from collections.abc import Sequence
from fractions import Fraction
from pathlib import Path
from random import Random
from typing import Any

import pytest
from click.testing import CliRunner, Result
from hypothesis import given
from hypothesis import strategies as st
from tests.trainer import killing

from trainer.cli.data.mix import command
from trainer.errors import DataError, TrainerError, UnknownName
from trainer.mixing import drawing as mixing
from trainer.mixing.drawing import allot, drawn, mix
from trainer.mixing.mixture import NAMED, Mixture, Part, from_toml, named, part


def write(folder: Path, name: str, number: int, **given: Any) -> Path:
    """A file of conversations ``NAME_0``, ``NAME_1``, ..."""
    path = folder / f"{name}.jsonl"
    rows = [
        {"dataset": name, "id": f"{name}_{n}", "messages": [{"role": "user", "content": f"é {n}"}], **given}
        for n in range(number)
    ]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return path


def ids(path: Path) -> list[str]:
    return [json.loads(line)["id"] for line in path.read_text(encoding="utf-8").splitlines()]


def parts(folder: Path, *texts: str, **given: Any) -> Mixture:
    return Mixture(name="parts", parts=tuple(part(text, folder) for text in texts), **given)


def run(*arguments: object) -> Result:
    return CliRunner().invoke(command, [str(one) for one in arguments], standalone_mode=False)


# --- what is asked


def test_the_papers_mixtures_have_the_instances_of_its_table() -> None:
    from trainer.table1 import TABLE_1

    counts = {name: sum(TABLE_1[source].instances for source in sources) for name, sources in NAMED.items()}
    assert counts == {"human": 249_806, "human+gpt": 490_694}
    assert named("tulu", Path("c")) == named("human+gpt", Path("c"))
    assert [str(one.path) for one in named("human", Path("c")).parts] == [
        "c/flan_v2.jsonl",
        "c/cot.jsonl",
        "c/dolly.jsonl",
        "c/oasst1.jsonl",
    ]


def test_an_unknown_mixture_names_the_nearest() -> None:
    with pytest.raises(
        UnknownName, match=r"No mixture is named 'humam'\. Did you mean 'human'\? Known: human, human\+"
    ):
        named("humam", Path())


@pytest.mark.parametrize(
    ("text", "name", "path", "how", "amount"),
    [
        ("dolly", "dolly", "c/dolly.jsonl", "all", 1),
        ("dolly:2000", "dolly", "c/dolly.jsonl", "count", 2000),
        ("dolly:0.5", "dolly", "c/dolly.jsonl", "fraction", Fraction(1, 2)),
        ("dolly:1.0", "dolly", "c/dolly.jsonl", "fraction", 1),
        ("dolly:12.5%", "dolly", "c/dolly.jsonl", "fraction", Fraction(1, 8)),
        ("dolly:weight=3", "dolly", "c/dolly.jsonl", "weight", 3),
        ("dolly:count=7", "dolly", "c/dolly.jsonl", "count", 7),
        ("dolly:fraction=1", "dolly", "c/dolly.jsonl", "fraction", 1),
        ("own.jsonl", "own", "own.jsonl", "all", 1),
        ("a/b.c.jsonl:.25", "b.c", "a/b.c.jsonl", "fraction", Fraction(1, 4)),
    ],
)
def test_a_part_is_a_name_or_a_file_and_an_amount(text: str, name: str, path: str, how: Any, amount: Fraction) -> None:
    assert part(text, Path("c")) == Part(name=name, path=Path(path), how=how, amount=Fraction(amount))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("dolly:half", r"'dolly:half' is no part: write NAME, NAME:2000 \(a count\)"),
        ("dolly:-3", "'dolly:-3' is no part"),
        (":3", "':3' is no part"),
        ("dolly:1.5", r"The fraction of dolly is 1\.5; it should be at most 1 \(weights repeat\)\."),
        ("dolly:0", "The count of dolly is 0; it should be more than 0"),
        ("dolly:weight=0.0", "The weight of dolly is 0; it should be more than 0"),
        ("dolly:count=2.5", r"The count of dolly is 2\.5; it should be a whole number"),
    ],
)
def test_a_part_that_makes_no_sense_is_refused(text: str, message: str) -> None:
    with pytest.raises(TrainerError, match=f"^{message}"):
        part(text, Path("c"))


@pytest.mark.parametrize(
    ("texts", "total", "message"),
    [
        ([], 0, "Mixture parts has no parts"),
        (["a:weight=1", "b"], 0, "a has a weight and b has none; give all parts weights, or none"),
        (["a", "b"], 10, "A total is shared out by weights"),
        (["a", "c/a.jsonl:5"], 0, "c/a.jsonl is two parts of the mixture; name it once"),
    ],
)
def test_parts_that_do_not_fit_together_are_refused(texts: Sequence[str], total: int, message: str) -> None:
    with pytest.raises(TrainerError, match=f"^{message}"):
        parts(Path("c"), *texts, total=total)


def test_a_file_describes_a_mixture(tmp_path: Path) -> None:
    file = tmp_path / "mine.toml"
    file.write_text(
        'seed = 7\n[[part]]\nsource = "dolly"\nfraction = 0.1\n[[part]]\nfile = "ours.jsonl"\n'
        '[[part]]\nfile = "theirs.json"\nmapping = "alpaca"\noutput = "answer"\ncount = 2\n',
        encoding="utf-8",
    )
    found = from_toml(file, Path("c"))
    assert (found.name, found.seed, found.total) == ("mine", 7, 0)
    assert found.parts[:2] == (
        Part(name="dolly", path=Path("c/dolly.jsonl"), how="fraction", amount=Fraction(1, 10)),
        Part(name="ours", path=tmp_path / "ours.jsonl"),
    )
    assert (found.parts[2].how, found.parts[2].amount) == ("count", Fraction(2))
    assert found.parts[2].source is not None


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("part = 1", r"parts begin with \[\[part\]\]"),
        ("sed = 1", r"No key is named 'sed'\. Did you mean 'seed'\?"),
        ("seed = 'x'", "seed should be a whole number, but is 'x'"),
        ("[[part]]", "part 1: it needs either a source or a file"),
        ("[[part]]\nsource = 'a'\nfile = 'b'", "part 1: it needs either a source or a file"),
        ("[[part]]\nsource = ''", "part 1: source should be text, but is ''"),
        ("[[part]]\nsource = 'a'\ncount = 1\nweight = 2", "part 1: it has count and weight; give one of them"),
        ("[[part]]\nsource = 'a'\nfraction = inf", "part 1: fraction should be a number, but is inf"),
        ("[[part]]\nsource = 'a'\nmapping = 'alpaca'", "part 1: a mapping is for a file"),
        ("[[part]]\nsource = 'a'\nfractoin = 1", r"part 1: No key is named 'fractoin'\. Did you mean 'fraction'"),
        ("[[part]]\nfile = 'a'\nmapping = 'alpca'", r"part 1: No mapping is named 'alpca'\. Did you mean 'alpaca'"),
        ("[[part]]\nfile = 'a'\nmapping = 1", "part 1: mapping should be text, but is 1"),
        ("[[part]]\nfile = 'a'\nmapping = 'alpaca'\noutput = 1", "part 1: output should be text, but is 1"),
        ("[[part]]\nfile = 'a'\nmapping = 'alpaca'\nanswer = 'x'", "part 1: No field of the mapping 'alpaca' is named"),
        ("seed = ", "is not TOML"),
    ],
)
def test_a_description_with_a_fault_says_where(tmp_path: Path, text: str, message: str) -> None:
    file = tmp_path / "mine.toml"
    file.write_text(text, encoding="utf-8")
    with pytest.raises(DataError, match=rf"^{file}:? {message}"):
        from_toml(file, Path("c"))


# --- how many


def allotted(rows: Sequence[int], *amounts: str, total: int = 0) -> list[int]:
    texts = [f"p{place}{amount and ':'}{amount}" for place, amount in enumerate(amounts)]
    return allot(parts(Path("c"), *texts, total=total), rows)


def test_counts_fractions_and_all_are_taken() -> None:
    assert allotted([10, 11, 12], "4", "0.5", "") == [4, 6, 12]
    assert allotted([3, 10], "0.5", "0.05") == [2, 1]


def test_weights_without_a_total_repeat_nothing() -> None:
    assert allotted([100, 100], "weight=3", "weight=1") == [100, 33]
    assert allotted([30, 100], "weight=3", "weight=1") == [30, 10]


def test_weights_share_out_a_total_to_the_last_conversation() -> None:
    assert allotted([5, 5, 5], "weight=1", "weight=1", "weight=1", total=10) == [4, 3, 3]
    assert allotted([5, 500], "weight=0.7", "weight=0.3", total=100) == [70, 30]


@given(weights=st.lists(st.integers(1, 1000), min_size=1, max_size=6), total=st.integers(1, 10_000), data=st.data())
def test_shares_are_whole_fair_and_free_of_order(weights: list[int], total: int, data: st.DataObject) -> None:
    names = [f"p{place}" for place in range(len(weights))]
    made = dict(zip(names, mixing._shares(total, [Fraction(one) for one in weights], names), strict=True))
    assert sum(made.values()) == total
    assert all(abs(made[name] - total * weight / sum(weights)) < 1 for name, weight in zip(names, weights, strict=True))
    order = data.draw(st.permutations(range(len(weights))))
    moved = mixing._shares(total, [Fraction(weights[one]) for one in order], [names[one] for one in order])
    assert dict(zip([names[one] for one in order], moved, strict=True)) == made


def test_more_than_there_is_is_refused_with_all_numbers() -> None:
    message = (
        r"^p0 has 10 conversations, 11 are asked for; p2 has 1,000 conversations, 2,000 are asked for\. Ask for less"
    )
    with pytest.raises(DataError, match=message):
        allotted([10, 10, 1000], "11", "10", "2000")


def test_every_row_is_drawn_equally_often() -> None:
    counts = Counter(place for seed in range(3000) for place in drawn(6, 2, Random(seed)))
    assert set(counts) == set(range(6))
    # 1000 expected; the standard deviation is 26.
    assert all(abs(count - 1000) < 130 for count in counts.values())


@given(rows=st.integers(0, 60), take=st.integers(0, 60), seed=st.integers())
def test_as_many_are_drawn_as_asked_in_order(rows: int, take: int, seed: int) -> None:
    take = min(rows, take)
    found = list(drawn(rows, take, Random(seed)))
    assert len(found) == take
    assert found == sorted(set(found))
    assert set(found) <= set(range(rows))


# --- what is written


def test_a_mix_holds_its_parts_and_its_record_their_hashes(tmp_path: Path) -> None:
    a, b = write(tmp_path, "a", 10), write(tmp_path, "b", 4, extra="left out")
    record = mix(parts(tmp_path, "a:0.3", "b"), tmp_path / "out" / "mix.jsonl")
    content = (tmp_path / "out" / "mix.jsonl").read_bytes()
    found = ids(tmp_path / "out" / "mix.jsonl")
    assert [one[0] for one in found] == ["a"] * 3 + ["b"] * 4
    assert "extra" not in content.decode()
    assert "é 0" in content.decode()
    told = json.loads((tmp_path / "out" / "mix.json").read_bytes())
    assert told["conversations"] == record.conversations == 7
    assert told["bytes"] == len(content)
    assert told["sha256"] == hashlib.sha256(content).hexdigest()
    assert [one["sha256"] for one in told["parts"]] == [
        hashlib.sha256(file.read_bytes()).hexdigest() for file in (a, b)
    ]
    assert [(one["asked"], one["there"], one["taken"]) for one in told["parts"]] == [
        ("fraction 3/10", 10, 3),
        ("all", 4, 4),
    ]
    assert told["seed"] == 42
    assert sorted(one.name for one in (tmp_path / "out").iterdir()) == ["mix.json", "mix.jsonl"]


def test_what_is_drawn_depends_on_name_seed_and_file_alone(tmp_path: Path) -> None:
    for name in ("a", "b"):
        write(tmp_path, name, 100)
    out = tmp_path / "mix.jsonl"

    def made(*texts: str, seed: int = 42) -> list[str]:
        mix(parts(tmp_path, *texts, seed=seed), out)
        return ids(out)

    first = made("a:20", "b:20")
    assert made("a:20", "b:20") == first
    assert sorted(made("b:20", "a:20")) == sorted(first)
    assert made("a:20") == first[:20]
    assert made("a:20", seed=43) != first[:20]
    assert [one[1:] for one in first[20:]] != [one[1:] for one in first[:20]]


def test_what_a_total_repeats_is_named_as_copies(tmp_path: Path) -> None:
    write(tmp_path, "a", 3)
    write(tmp_path, "b", 20)
    mix(parts(tmp_path, "a:weight=1", "b:weight=1", total=16), tmp_path / "mix.jsonl")
    found = [one for one in ids(tmp_path / "mix.jsonl") if one.startswith("a")]
    # Eight of three: each twice, and two of them a third time.
    assert Counter(one.partition("*")[0] for one in found).total() == 8
    assert sorted(Counter(one.partition("*")[0] for one in found).values()) == [2, 3, 3]
    assert {one.partition("*")[2] for one in found} == {"", "2", "3"}
    assert len(set(found)) == 8


def test_ids_that_look_like_copies_are_not_repeated(tmp_path: Path) -> None:
    path = write(tmp_path, "a", 1)
    path.write_text(path.read_text().replace("a_0", "a*2"))
    with pytest.raises(DataError, match=r"has ids like 'a\*2', which copies get"):
        mix(parts(tmp_path, "a:weight=1", total=2), tmp_path / "mix.jsonl")
    assert mix(parts(tmp_path, "a"), tmp_path / "mix.jsonl").conversations == 1


def test_two_conversations_of_one_name_are_refused_with_both_places(tmp_path: Path) -> None:
    write(tmp_path, "a", 5)
    (tmp_path / "b.jsonl").write_text("\n" + (tmp_path / "a.jsonl").read_text(), encoding="utf-8")
    message = r"^a\.jsonl:1 and b\.jsonl:2 are both 'a_0' of dataset 'a' \(4 more like this\)\. Give them other ids"
    with pytest.raises(DataError, match=message):
        mix(parts(tmp_path, "a", "b"), tmp_path / "mix.jsonl")
    assert not (tmp_path / "mix.jsonl").exists()


def test_names_that_only_share_a_mark_are_no_copies(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("trainer.mixing.survey._mark", lambda _: 1)
    write(tmp_path, "a", 5)
    assert mix(parts(tmp_path, "a"), tmp_path / "mix.jsonl").conversations == 5


def test_whole_characters_may_be_spelt_in_halves(tmp_path: Path) -> None:
    (tmp_path / "a.jsonl").write_text('{"messages": [], "id": "\\ud83d\\ude00"}\n')
    mix(parts(tmp_path, "a"), tmp_path / "mix.jsonl")
    assert ids(tmp_path / "mix.jsonl") == ["\N{GRINNING FACE}"]


def test_rows_without_ids_are_numbered(tmp_path: Path) -> None:
    (tmp_path / "own.jsonl").write_text('{"messages": []}\n\n{"messages": []}\n')
    mix(parts(tmp_path, str(tmp_path / "own.jsonl")), tmp_path / "mix.jsonl")
    assert ids(tmp_path / "mix.jsonl") == ["own_1", "own_3"]


def test_all_missing_parts_are_named_with_the_commands_that_make_them(tmp_path: Path) -> None:
    write(tmp_path, "dolly", 1)
    result = run("human", "--from", tmp_path, "--to", tmp_path / "mix.jsonl")
    assert isinstance(result.exception, DataError)
    assert str(result.exception) == (
        f"There is no {tmp_path}/flan_v2.jsonl, {tmp_path}/cot.jsonl, {tmp_path}/oasst1.jsonl. "
        "`trainer data fetch flan_v2 cot oasst1 --to raw` and "
        f"`trainer data convert flan_v2 cot oasst1 --raw raw --to {tmp_path}` make them."
    )


def test_a_misspelt_dataset_names_the_nearest(tmp_path: Path) -> None:
    with pytest.raises(UnknownName, match=r"No source or converted dataset is named 'doly'\. Did you mean 'dolly'\?"):
        mix(parts(tmp_path, "doly"), tmp_path / "mix.jsonl", converted=tmp_path)
    write(tmp_path, "dolly", 1)
    with pytest.raises(UnknownName, match=r"cot, dolly, flan_v2"):  # once, though it is a source and is there
        mix(parts(tmp_path, "doly"), tmp_path / "mix.jsonl", converted=tmp_path)
    with pytest.raises(DataError, match=r"^There is no ours\.jsonl\.$"):
        mix(parts(tmp_path, "ours.jsonl"), tmp_path / "mix.jsonl", converted=tmp_path)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "holds no conversation; leave it out"),
        (b'{"messages": []}\n{"messages": 1}\n', r"a\.jsonl:2: a conversation is an object with a list 'messages'"),
        (b'{"messages": []}\n{', r"a\.jsonl:2: this line is not JSON"),
        (b'{"messages": []}\n\xff', r"a\.jsonl:2: this line is not UTF-8"),
        (b'{"messages": [], "id": "\\ud83d"}', r"a\.jsonl:1: holds half of a surrogate pair, which is no character"),
    ],
)
def test_a_broken_part_stops_a_mix_before_it_is_written(tmp_path: Path, content: bytes, message: str) -> None:
    (tmp_path / "a.jsonl").write_bytes(content)
    with pytest.raises(DataError, match=message):
        mix(parts(tmp_path, "a"), tmp_path / "mix.jsonl")
    assert [one.name for one in tmp_path.iterdir()] == ["a.jsonl"]


def test_a_file_of_another_layout_is_read_by_its_mapping(tmp_path: Path) -> None:
    rows = [{"instruction": "i", "answer": "o"}, {"instruction": "i"}, {"instruction": "i", "answer": "p"}]
    (tmp_path / "theirs.json").write_text(json.dumps(rows))
    file = tmp_path / "mine.toml"
    file.write_text('[[part]]\nfile = "theirs.json"\nmapping = "alpaca"\noutput = "answer"\n')
    record = mix(from_toml(file, tmp_path), tmp_path / "mix.jsonl")
    assert ids(tmp_path / "mix.jsonl") == ["theirs_0", "theirs_2"]
    [taken] = record.parts
    assert (taken.there, taken.rejected) == (2, 1)
    assert taken.first_rejected.startswith("theirs.json[2]: field 'answer' is missing")
    assert taken.sha256 == hashlib.sha256((tmp_path / "theirs.json").read_bytes()).hexdigest()


@pytest.mark.parametrize(
    ("to", "message"),
    [
        ("mix.txt", "should end in .jsonl"),
        ("a.jsonl", "is a part of the mixture"),
        ("a.jsonl/mix.jsonl", r"a\.jsonl/mix\.jsonl cannot be written \(.*/a\.jsonl is a file\)"),
    ],
)
def test_a_mix_is_not_written_just_anywhere(tmp_path: Path, to: str, message: str) -> None:
    write(tmp_path, "a", 1)
    with pytest.raises(TrainerError, match=message):
        mix(parts(tmp_path, "a"), tmp_path / to)


def test_a_part_that_changes_meanwhile_is_noticed(tmp_path: Path) -> None:
    path = write(tmp_path, "a", 3)
    readings = 0

    def tell(_: int) -> None:
        nonlocal readings
        readings += 1
        if readings == 1:
            path.write_text(path.read_text().replace("a_2", "a_9"))

    with pytest.raises(DataError, match=r"a\.jsonl was changed while it was read"):
        mix(parts(tmp_path, "a"), tmp_path / "mix.jsonl", tell=tell)
    assert [one.name for one in tmp_path.iterdir()] == ["a.jsonl"]


def test_two_processes_do_not_write_one_mix(tmp_path: Path) -> None:
    write(tmp_path, "a", 1)
    with (tmp_path / ".mix.jsonl.new").open("wb") as other:
        fcntl.flock(other, fcntl.LOCK_EX)
        with pytest.raises(TrainerError, match="Another process is writing"):
            mix(parts(tmp_path, "a"), tmp_path / "mix.jsonl")
        assert (tmp_path / ".mix.jsonl.new").exists()


def test_a_full_disk_leaves_what_was_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write(tmp_path, "a", 1)
    mix(parts(tmp_path, "a"), tmp_path / "mix.jsonl")
    before = (tmp_path / "mix.jsonl").read_bytes()
    write(tmp_path, "a", 2)

    def full(_: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(TrainerError, match=r"cannot be written \(No space left on device\); make room"):
        mix(parts(tmp_path, "a"), tmp_path / "mix.jsonl")
    assert (tmp_path / "mix.jsonl").read_bytes() == before
    assert sorted(one.name for one in tmp_path.iterdir()) == ["a.jsonl", "mix.json", "mix.jsonl"]


#: The command line, which says when it has drawn half of a mix, and waits there.
HALF = """
import time
from trainer.cli import main
from trainer.mixing import drawing

drawn = drawing._drawn

def held(*given):
    for number, one in enumerate(drawn(*given)):
        if number == 10_000:
            print("half", flush=True)
            time.sleep(600)
        yield one

drawing._drawn = held
main()
"""


@pytest.mark.parametrize("signal_", [signal.SIGINT, signal.SIGKILL])
def test_a_mix_that_was_stopped_is_made_anew(tmp_path: Path, signal_: signal.Signals) -> None:
    write(tmp_path, "a", 20_000)
    arguments = ["mix", "--part", "a", "--from", str(tmp_path), "--to", str(tmp_path / "mix.jsonl")]
    command = [sys.executable, "-P", "-c", HALF, "data", *arguments]
    with killing.hearing():
        process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    with process:
        try:
            assert process.stdout is not None
            assert process.stdout.readline() == b"half\n"
            process.send_signal(signal_)
            process.communicate(timeout=120)
        finally:
            process.kill()
    assert process.returncode == (75 if signal_ is signal.SIGINT else -signal_)
    assert not (tmp_path / "mix.jsonl").exists()
    assert (tmp_path / ".mix.jsonl.new").exists() == (signal_ is signal.SIGKILL)
    assert mix(parts(tmp_path, "a"), tmp_path / "mix.jsonl").conversations == 20_000
    assert not (tmp_path / ".mix.jsonl.new").exists()


# --- the command


def test_the_command_shows_what_was_taken(tmp_path: Path) -> None:
    write(tmp_path, "a", 10)
    write(tmp_path, "b", 30)
    result = run("--part", "a:0.5", "--part", "b:15", "--from", tmp_path, "--to", tmp_path / "mix.jsonl")
    assert [line.split() for line in result.output.splitlines()[:4]] == [
        ["part", "asked", "there", "taken", "share"],
        ["a", "fraction", "1/2", "10", "5", "25.0", "%"],
        ["b", "count", "15", "30", "15", "75.0", "%"],
        ["total", "20"],
    ]
    assert hashlib.sha256((tmp_path / "mix.jsonl").read_bytes()).hexdigest()[:12] in result.output
    again = run("--part", "a:0.5", "--from", tmp_path, "--to", tmp_path / "mix.jsonl", "--json")
    assert json.loads(again.output) == json.loads((tmp_path / "mix.json").read_bytes())


def test_a_part_takes_the_place_of_the_mixtures_part_of_that_name(tmp_path: Path) -> None:
    for name in (*NAMED["human"], "ours"):
        write(tmp_path, name, 4)
    arguments = ("--part", "cot:0.5", "--part", tmp_path / "ours.jsonl", "--from", tmp_path, "--seed", 7)
    result = run("human", *arguments, "--to", tmp_path / "mix.jsonl", "--json")
    told = json.loads(result.output)
    taken = [(one["name"], one["taken"]) for one in told["parts"]]
    assert taken == [("flan_v2", 4), ("cot", 2), ("dolly", 4), ("oasst1", 4), ("ours", 4)]
    assert (told["mixture"], told["seed"]) == ("human", 7)


def test_a_dataset_that_was_only_tried_is_told(tmp_path: Path) -> None:
    path = write(tmp_path, "a", 3)
    report = {"limit": 3, "sha256": hashlib.sha256(path.read_bytes()).hexdigest()}
    (tmp_path / "a.report.json").write_text(json.dumps(report))
    result = run("--part", "a", "--from", tmp_path, "--to", tmp_path / "mix.jsonl")
    assert "a.jsonl is no whole dataset: it was converted with --limit 3." in result.output


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((), "Name a mixture (human, human+gpt), a file, or parts (--part)."),
        (("--part", "dolly"), "Say with --from where the converted datasets are: dolly."),
        (("dolly",), "dolly is no mixture; a dataset or file is a part: --part dolly."),
        (("dolly:10",), "dolly:10 is no mixture; a dataset or file is a part: --part dolly:10."),
        (("mix.jsonl",), "mix.jsonl is no mixture; a dataset or file is a part: --part mix.jsonl."),
        (("human",), "Say with --from where the converted datasets are: flan_v2, cot, dolly, oasst1."),
    ],
)
def test_wrong_usage_says_what_to_give(tmp_path: Path, arguments: Sequence[str], message: str) -> None:
    result = CliRunner().invoke(command, [*arguments, "--to", str(tmp_path / "mix.jsonl")])
    assert result.exit_code == 2
    assert message in " ".join(result.output.split())
