"""Shards of one run, asked by different processes without a lock between them, are scored as one."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from tests.evalkit.killing import until
from tests.evalkit.small import Ran, Recorder, echo, run_small
from tests.evalkit.test_journal import answer, example, keep
from tests.evalkit.test_verify import Counting, verified

from evalkit.errors import Busy, EvalkitError, SharesMissing
from evalkit.journal import Journal, Verdicts, journals
from evalkit.selection import Selection, Shard, select

N = 60


def shard(text: str) -> Shard:
    return Shard.read(text)


def command(out: Path, *more: str, delay: float = 0.0) -> list[str]:
    run = ["run", "-m", "dummy", "-M", f"delay={delay}", "-b", "arithmetic", "-B", f"n={N}", "--out", str(out)]
    return [sys.executable, "-m", "evalkit", *run, *more]


def kept(folder: Path) -> list[int]:
    """The positions in all journals, one for each line."""
    lines = [line for path in journals(folder) for line in path.read_bytes().splitlines()]
    return sorted(json.loads(line)["position"] for line in lines)


def records(out: Path) -> bytes:
    (path,) = out.glob("*/*/records.jsonl")
    return path.read_bytes()


def run_folder(out: Path) -> Path:
    (path,) = out.glob("*/*")
    return path


# Which examples a shard asks


def test_shares_have_no_example_in_common_and_miss_none() -> None:
    chosen = bytearray([1, 1, 0, 1, 1, 1, 0, 1, 1])
    whole = Selection(chosen=chosen, n=7)
    shares = [whole.share(Shard(index=index, count=3)) for index in range(3)]
    assert [[position for position in range(9) if position in share] for share in shares] == [[0, 4, 8], [1, 5], [3, 7]]
    assert [share.n for share in shares] == [3, 2, 2]


def test_what_a_limit_leaves_is_shared() -> None:
    examples = [example(position) for position in range(100)]
    assert select(examples, limit=10).share(shard("1/2")).n == 5


@pytest.mark.parametrize("text", ["2/2", "0/0", "-1/2", "1", "a/b", "1/2/3", ""])
def test_what_names_no_share_is_refused(text: str) -> None:
    with pytest.raises(EvalkitError, match="names no share: of 4, they are 0/4, 1/4, 2/4 and 3/4"):
        Shard.read(text)


# What the journals of several shards say together


def test_journals_of_shards_are_read_as_one(tmp_path: Path) -> None:
    with Journal(tmp_path, write=True, shard=shard("0/2")) as one:
        keep(one, 0)
        with Journal(tmp_path, write=True, shard=shard("1/2")) as other:
            keep(other, 3, answer("5"))
            keep(one, 2)
            assert list(other.positions()) == [0, 3]
            other.catch_up()
            assert list(other.positions()) == [0, 2, 3]
            one.catch_up()
            assert one.read(3)[2] == answer("5")
    with Journal(tmp_path) as journal:
        assert list(journal.positions()) == [0, 2, 3]
        assert journal.read(3)[2] == answer("5")
    assert [path.name for path in journals(tmp_path)] == ["responses-0-of-2.jsonl", "responses-1-of-2.jsonl"]


def test_of_two_answers_to_one_request_one_that_did_not_fail_counts_whichever_file_it_is_in(tmp_path: Path) -> None:
    with (
        Journal(tmp_path, write=True, shard=shard("0/2")) as one,
        Journal(tmp_path, write=True, shard=shard("1/2")) as other,
    ):
        for journal, position, error in ((one, 0, "Busy."), (other, 0, ""), (one, 1, ""), (other, 1, "Busy.")):
            keep(journal, position, answer(str(position), error=error))
        one.catch_up()
        other.catch_up()
        for journal in (one, other):
            assert journal.failed == set()
            assert [journal.read(position)[2] for position in (0, 1)] == [answer("0"), answer("1")]


def test_of_two_answers_to_one_request_the_later_attempt_counts(tmp_path: Path) -> None:
    with Journal(tmp_path, write=True, shard=shard("1/2")) as late:
        keep(late, 0, answer("first"))
        keep(late, 0, answer(error="Busy."))
    with Journal(tmp_path, write=True, shard=shard("0/2")) as journal:
        assert (journal.failed, journal.attempts) == ({0}, {0: 2})
        keep(journal, 0, answer("third"))
    with Journal(tmp_path) as journal:
        assert journal.read(0)[2] == answer("third")
        assert (journal.failed, journal.attempts) == (set(), {0: 3})


def test_what_another_process_is_writing_is_neither_counted_nor_cut_off(tmp_path: Path) -> None:
    with Journal(tmp_path, write=True, shard=shard("0/2")) as journal:
        keep(journal, 0)
        keep(journal, 2)
    path = tmp_path / "responses-0-of-2.jsonl"
    half = path.read_bytes()[:-5]
    path.write_bytes(half)
    with Journal(tmp_path, write=True, shard=shard("1/2")) as other:
        assert list(other.positions()) == [0]
    assert path.read_bytes() == half


@pytest.mark.parametrize(("first", "second"), [("0/2", "0/2"), ("0/2", None), (None, "1/2")])
def test_nobody_asks_what_another_process_asks(tmp_path: Path, first: str | None, second: str | None) -> None:
    def opened(text: str | None) -> Journal:
        return Journal(tmp_path, write=True, shard=shard(text) if text else None)

    with opened(first) as journal:
        keep(journal, 0)
        with pytest.raises(Busy, match="Another process is writing to"):
            opened(second)
    with opened(second) as journal:
        assert list(journal.positions()) == [0]


# Runs


def test_the_last_shard_scores_the_run_and_each_asks_its_share(tmp_path: Path) -> None:
    whole = run_small(echo(n=7), Recorder(), tmp_path / "whole")
    first, second = Recorder(), Recorder()
    with pytest.raises(SharesMissing, match=r"Shard 0/2 of echo is answered; of all shards, 4 of 7 responses are in"):
        run_small(echo(n=7), first, tmp_path / "shards", shard=shard("0/2"))
    summary = run_small(echo(n=7), second, tmp_path / "shards", shard=shard("1/2"))
    assert (first.asked, second.asked) == (["0", "2", "4", "6"], ["1", "3", "5"])
    assert records(tmp_path / "shards") == records(tmp_path / "whole")
    assert {**summary, "run": ""} == {**whole, "run": ""}


def test_a_run_without_shard_asks_what_the_shards_left(tmp_path: Path) -> None:
    with pytest.raises(SharesMissing):
        run_small(echo(n=6), Recorder(), tmp_path, shard=shard("2/3"))
    rest = Recorder()
    assert run_small(echo(n=6), rest, tmp_path)["n"] == 6
    assert rest.asked == ["0", "1", "3", "4"]


def test_a_shard_that_has_nothing_to_ask_opens_no_model(tmp_path: Path) -> None:
    run_small(echo(n=6), Recorder(), tmp_path)
    again = Recorder()
    assert run_small(echo(n=6), again, tmp_path, shard=shard("0/2"))["n"] == 6
    assert again.opened == 0


def test_a_shard_that_ends_while_another_one_verifies_leaves_that_to_it(tmp_path: Path) -> None:
    benchmark = verified(Counting(), n=4)
    with pytest.raises(SharesMissing):
        run_small(benchmark, Recorder(), tmp_path, shard=shard("0/2"))
    with (
        Verdicts(run_folder(tmp_path), write=True),
        pytest.raises(SharesMissing, match="All shards are answered; another process is about to score"),
    ):
        run_small(benchmark, Recorder(), tmp_path, shard=shard("1/2"))
    assert run_small(benchmark, Recorder(), tmp_path, shard=shard("1/2"))["n"] == 4


def test_two_shards_at_once_and_one_that_is_killed_make_the_records_of_one_run(tmp_path: Path) -> None:
    whole, out = tmp_path / "whole", tmp_path / "shards"
    subprocess.run(command(whole), check=True, capture_output=True)
    other = subprocess.Popen(command(out, "--shard", "1/2", delay=0.02), stderr=subprocess.PIPE, text=True)
    # Half a minute for all: it is still asking when the kill comes late.
    killed = subprocess.Popen(command(out, "--shard", "0/2", delay=1), stderr=subprocess.DEVNULL)
    until(lambda: any(path.stat().st_size for path in out.glob("*/*/responses-0-*")))
    assert killed.poll() is None
    killed.kill()
    killed.wait()
    _, told = other.communicate()
    assert other.returncode == 75, told
    assert "Shard 1/2 of arithmetic is answered; of all shards, " in told
    assert f"or `evalkit score {run_folder(out)}`." in told
    subprocess.run(command(out, "--shard", "0/2"), check=True, capture_output=True)
    assert kept(run_folder(out)) == list(range(N))
    assert records(out) == records(whole)


def test_score_reads_all_shards(tmp_path: Path, cli: Callable[..., Ran]) -> None:
    arguments = ("run", "-m", "dummy", "-b", "arithmetic", "--out", tmp_path)
    assert cli(*arguments, "--shard", "0/2").code == 75
    (folder,) = tmp_path.glob("*/*")
    assert cli("score", folder, "--json").document[0]["n"] == 10
    assert cli(*arguments, "--shard", "1/2").code == 0
    assert cli("score", folder, "--json").document[0]["n"] == 20


def test_a_benchmark_whose_shares_are_missing_does_not_keep_the_next_from_being_asked(
    tmp_path: Path, cli: Callable[..., Ran]
) -> None:
    ended = cli(
        "run", "-m", "dummy", "-b", "mmlu", "-b", "gsm", "--data", "sample", "--shard", "0/2", "--out", tmp_path
    )
    assert ended.code == 75
    assert len(list(tmp_path.glob("*/*/responses-0-of-2.jsonl"))) == 2
    assert ended.err.count("is answered; of all shards, ") == 2
