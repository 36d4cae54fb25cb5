"""The held-out loss is a mean over tokens whoever computes it; a command's fate is told and stops nothing."""

from __future__ import annotations

import os
import threading
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from tests.trainer import killing

from trainer.watching import evaluation
from trainer.watching.evaluation import by_command
from trainer.watching.told import Ran

SECRET = "sk-0123456789abcdefghij"


class Alone:
    """A single rank, which has nobody to sum with."""

    rank, world = 0, 1

    def evaluate(self, batch: Any) -> Any:
        raise NotImplementedError

    def sum(self, values: Sequence[float]) -> list[float]:
        return list(values)


@pytest.fixture(autouse=True)
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(evaluation, "POLL", 0.01)
    # No command of these tests needs to be killed, and none leaves anything behind that holds its output.
    monkeypatch.setattr(evaluation, "GRACE", 300.0)


def ran(text: str, out: Path, **more: Any) -> Ran:
    """What is told of a command on a model that is one file."""

    def export(folder: Path) -> None:
        folder.mkdir(parents=True)
        (folder / "config.json").write_text("{}")

    told = by_command(Alone(), text, out=out, step=120, export=export, **more)
    assert told is not None
    return told


def test_a_command_s_code_and_last_line_are_told_and_its_output_is_kept(tmp_path: Path) -> None:
    told = ran("echo begun; printf ' 1/2\\r 2/2\\n'; echo 'gsm 0.25'; echo >&2; exit 3", tmp_path)
    output = tmp_path / "evaluations" / "step-000120" / "output.txt"
    assert (told.exit_code, told.last_line, told.output, told.step) == (3, "gsm 0.25", output, 120)
    assert output.read_text() == "begun\n 1/2\n 2/2\ngsm 0.25\n\n"


def test_of_a_bar_that_is_written_over_the_last_state_is_told(tmp_path: Path) -> None:
    assert ran("printf ' 1/2\\r 2/2'", tmp_path).last_line == "2/2"


def test_placeholders_are_quoted_for_the_shell_and_other_braces_stay(tmp_path: Path) -> None:
    out = tmp_path / "my runs; exit 9"
    told = ran('cat {model}/config.json; X=1; echo " ${X} {step} {y}"; touch {out}/made', out)
    place = out / "evaluations" / "step-000120"
    assert (told.exit_code, told.last_line) == (0, "{} 1 120 {y}")
    assert sorted(one.name for one in place.iterdir()) == ["made", "output.txt"]  # the model is gone again


def test_the_model_is_exported_only_for_a_command_that_reads_it(tmp_path: Path) -> None:
    exported: list[Path] = []
    for text in ("true", "ls {model}"):
        by_command(Alone(), text, out=tmp_path, step=3, export=exported.append)
    assert exported == [tmp_path / "evaluations" / "step-000003" / "model"]


def test_a_command_is_not_told_that_it_is_a_rank(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("RANK", "LOCAL_RANK", "WORLD_SIZE", "MASTER_ADDR", "TORCHELASTIC_RUN_ID"):
        monkeypatch.setenv(name, "7")
    monkeypatch.setenv("MY_RANKING", "kept")
    ran("env", tmp_path)
    text = (tmp_path / "evaluations" / "step-000120" / "output.txt").read_text()
    names = {line.partition("=")[0] for line in text.splitlines()}
    assert names & {"RANK", "LOCAL_RANK", "WORLD_SIZE", "MASTER_ADDR", "TORCHELASTIC_RUN_ID", "MY_RANKING"} == {
        "MY_RANKING"
    }


def test_secrets_reach_neither_the_command_as_told_nor_its_output(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("JUDGE_API_KEY", "not-of-a-known-form")
    told = ran(f"OPENAI_API_KEY={SECRET} sh -c 'echo $JUDGE_API_KEY $OPENAI_API_KEY'", tmp_path)
    assert told.command == "OPENAI_API_KEY=*** sh -c 'echo $JUDGE_API_KEY $OPENAI_API_KEY'"
    assert told.last_line == "*** ***"
    assert told.output.read_text() == "*** ***\n"


def gone(process: int) -> bool:
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return True
    return False


def test_a_run_that_should_stop_ends_the_command_and_all_it_started(tmp_path: Path) -> None:
    pid = tmp_path / "pid"
    told = ran(
        f"sleep 1000 & echo $! > {pid}; wait",
        tmp_path,
        stopping=lambda: pid.exists() and pid.read_text().endswith("\n"),  # the shell makes the file before it writes
    )
    assert told.exit_code == -15
    assert killing.until(lambda: gone(int(pid.read_text())), [])  # once init has seen the end of the orphan


def test_other_ranks_wait_and_tell_nothing(tmp_path: Path) -> None:
    meeting = threading.Barrier(2, timeout=300)
    shares: dict[int, Sequence[float]] = {}

    class OfTwo(Alone):
        world = 2

        def __init__(self, rank: int) -> None:
            self.rank = rank

        def sum(self, values: Sequence[float]) -> list[float]:
            meeting.wait()
            shares[self.rank] = values
            meeting.wait()
            return [sum(one) for one in zip(*shares.values(), strict=True)]

    def work(rank: int) -> None:
        told[rank] = by_command(OfTwo(rank), "sleep 0.1; echo ok", out=tmp_path, step=1, export=lambda _: None)

    told: dict[int, Ran | None] = {}
    threads = [threading.Thread(target=work, args=(rank,)) for rank in (0, 1)]
    for one in threads:
        one.start()
    for one in threads:
        one.join()
    assert told[1] is None
    assert told[0] is not None
    assert told[0].last_line == "ok"
