"""The watch of rank 0 leaves run.json and a log behind, and tells who looks on what they need to know."""

from __future__ import annotations

import io
import json
import math
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from types import ModuleType

import pytest
from rich.console import Console
from tests.trainer.watched import START, entry, prepared, resolved, whole_run

from trainer.errors import DataError
from trainer.watching import run_file
from trainer.watching.alarms import Alarm
from trainer.watching.log import read
from trainer.watching.progress import Lines, Live, duration
from trainer.watching.told import HeldOut, Ran
from trainer.watching.watch import Guard, Writer, open_watch


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return prepared(tmp_path_factory.mktemp("prepared"))


def begun(out: Path, data: Path, *more: str, step: int = 0) -> Writer:
    """A watch in front of its first step."""
    writer = Writer(resolved=resolved(out, data, *more), progress=Lines())
    writer.started(replace(START, step=step))
    return writer


def test_the_log_holds_everything_that_happened_in_order(tmp_path: Path, data: Path) -> None:
    whole_run(tmp_path, data)
    lines = read(tmp_path / "log.jsonl")
    kinds = [next(one for one in ("event", "loss", "held_out", "saved", "command") if one in line) for line in lines]
    four = ["loss"] * 4 + ["held_out", "saved"]
    assert kinds == ["event", *four[:3], "event", *four[3:], *four, "command", "event"]
    assert [line["text"] for line in lines if line.get("event") in ("warning", "ended")] == [
        "step 3: skipped, its gradient was not finite; the weights are as before",
        "done",
    ]
    assert all(line["time"] > 1.7e9 for line in lines)
    first = next(line for line in lines if "loss" in line)
    assert {name: first[name] for name in ("step", "loss", "dataset_loss", "norm", "skipped", "seconds_model")} == {
        "step": 1,
        "loss": 2.0,
        "dataset_loss": {"dolly": 2.5, "cot": 1.5},
        "norm": 1.5,
        "skipped": False,
        "seconds_model": 1.5,
    }


def test_run_json_binds_settings_with_their_sources_data_versions_and_machine(tmp_path: Path, data: Path) -> None:
    begun(tmp_path, data, "clip=0.5").ended("done")
    told = run_file.read(tmp_path)
    manifest = json.loads((data / "prepared.json").read_bytes())
    assert (told["settings"]["clip"], told["sources"]["clip"]) == (0.5, "--set")
    assert (told["settings"]["batch"], told["sources"]["batch"]) == (4, "recipe.toml:3")
    assert told["sources"]["seed"] == "default"
    assert told["data"]["train"]["key"] == manifest["key"]
    assert told["data"]["train"]["files"] == {name: one["sha256"] for name, one in manifest["files"].items()}
    assert set(told["data"]["train"]["counts"]) == {"dolly", "cot"}
    (start,) = told["starts"]
    assert (start["world"], start["engine"], start["step"]) == (2, "torch", 0)
    assert start["versions"]["python"] == ".".join(map(str, sys.version_info[:3]))
    assert start["machine"]["cores"] > 0


def test_a_resumed_run_adds_a_start_and_drops_what_is_done_anew(tmp_path: Path, data: Path) -> None:
    whole_run(tmp_path, data)
    again = begun(tmp_path, data, step=4)
    again.stepped(entry(5, loss=9.0))
    again.ended("interrupted")
    lines = read(tmp_path / "log.jsonl")
    assert [(line["step"], line["loss"]) for line in lines if "loss" in line][-2:] == [(4, 0.5), (5, 9.0)]
    assert [line["event"] for line in lines if "event" in line] == ["started", "warning", "ended", "started", "ended"]
    assert [line["step"] for line in lines if "held_out" in line] == [4]
    assert [one["step"] for one in run_file.read(tmp_path)["starts"]] == [0, 4]


def test_secrets_of_settings_stand_in_no_file(tmp_path: Path, data: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "argv", ["trainer", "train", "r.toml", "--set", "evaluate_command=KEY=abc123 judge"])
    begun(tmp_path, data, "evaluate_command=JUDGE_API_KEY=abc123 judge", "evaluate_every=2").ended("done")
    assert run_file.read(tmp_path)["settings"]["evaluate_command"] == "JUDGE_API_KEY=*** judge"
    assert [one.name for one in tmp_path.iterdir() if "abc123" in one.read_text()] == []


def test_an_alarm_is_logged_and_raised_and_leaves_the_log_whole(tmp_path: Path, data: Path) -> None:
    writer = begun(tmp_path, data)
    writer.stepped(entry(1))
    with pytest.raises(Alarm) as stopped:
        writer.stepped(entry(2, loss=math.nan))
    writer.ended("alarm")
    lines = read(tmp_path / "log.jsonl")
    assert [(line["step"], line.get("event")) for line in lines[-3:]] == [(2, None), (2, "alarm"), (2, "ended")]
    assert (lines[-3]["loss"], lines[-2]["text"]) == (None, str(stopped.value))


def test_a_tracker_that_fails_on_the_way_is_told_no_more_and_training_goes_on(
    tmp_path: Path, data: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    class FakeRun:
        def define_metric(self, *_: object, **__: object) -> None: ...

        def log(self, *_: object) -> None:
            raise ConnectionError("no route")

    module = ModuleType("wandb")
    module.init = lambda **_: FakeRun()  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "wandb", module)
    writer = begun(tmp_path, data, "tracker=wandb")
    for step in (1, 2):
        writer.stepped(entry(step))
    writer.ended("done")
    assert capsys.readouterr().err.count("the tracker failed and is told no more; the log goes on: no route") == 1
    assert [line["step"] for line in read(tmp_path / "log.jsonl") if "loss" in line] == [1, 2]


def test_a_watch_that_never_started_ends_without_a_word(tmp_path: Path, data: Path) -> None:
    Writer(resolved=resolved(tmp_path, data), progress=Lines()).ended("the model is missing")
    assert list(tmp_path.iterdir()) == []


def test_only_rank_0_writes(tmp_path: Path, data: Path) -> None:
    assert isinstance(open_watch(resolved(tmp_path, data), rank=0), Writer)
    guard = open_watch(resolved(tmp_path, data, "spike=2"), rank=1)
    assert isinstance(guard, Guard)
    guard.started(START)
    guard.stepped(entry(1))
    guard.ended("done")
    assert list(tmp_path.iterdir()) == []


def test_without_a_terminal_every_nth_step_is_a_line_with_all_its_numbers(
    tmp_path: Path, data: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    writer = begun(tmp_path, data, "log_every=3")
    for step in range(1, 9):
        writer.stepped(entry(step))
    told = capsys.readouterr().err.splitlines()
    assert told == [
        "8 steps · 2 ranks, torch, cpu · 1,000 weights",
        "step 3/8 · loss 2.0000 · lr 2.00e-05 · norm 1.5 · tokens/s 150 · supervised/s 50 · MFU 25.0% · 0:10 left"
        " · cot 1.500, dolly 2.500",
        "step 6/8 · loss 2.0000 · lr 2.00e-05 · norm 1.5 · tokens/s 150 · supervised/s 50 · MFU 25.0% · 0:04 left"
        " · cot 1.500, dolly 2.500",
        "step 8/8 · loss 2.0000 · lr 2.00e-05 · norm 1.5 · tokens/s 150 · supervised/s 50 · MFU 25.0% · 0:00 left"
        " · cot 1.500, dolly 2.500",
    ]
    writer.ended("done")


def test_a_command_s_end_is_told(tmp_path: Path, data: Path, capsys: pytest.CaptureFixture[str]) -> None:
    writer = begun(tmp_path, data)
    ran = Ran(step=4, command="judge", exit_code=0, seconds=1.0, last_line="won 0.5", output=tmp_path / "output.txt")
    writer.ran(ran)
    writer.ran(replace(ran, exit_code=3, last_line=""))
    writer.ended("done")
    assert capsys.readouterr().err.splitlines()[1:-1] == [
        "step 4: the evaluation command: won 0.5",
        f"step 4: the evaluation command failed with exit code 3, its output is in {ran.output}: it said nothing",
    ]


def test_a_terminal_shows_a_bar_and_the_newest_numbers(tmp_path: Path, data: Path) -> None:
    screen = io.StringIO()
    console = Console(file=screen, force_terminal=True, width=100, color_system=None)
    writer = Writer(resolved=resolved(tmp_path, data), progress=Live(console))
    writer.started(START)
    for step in (1, 2):
        writer.stepped(entry(step, loss=float(step)))
    held = HeldOut(step=2, loss=1.25, dataset_loss={"dolly": 1.5, "cot": 1.0}, supervised=9, seconds=1.0)
    writer.evaluated(held)
    writer.say("[b]brackets[/b] are text")
    writer.ended("done")
    shown = screen.getvalue()
    assert "step 2: held-out loss 1.2500 (cot 1.0000, dolly 1.5000)" in shown
    assert "[b]brackets[/b] are text" in shown
    last = shown[shown.rindex("step 2/8") :]
    for part in (
        "25%",
        "0:12 left",
        "loss 2.0000",
        "norm 1.5",
        "tokens/s 150",
        "MFU 25.0%",
        "cot 1.500",
        "dolly 2.500",
    ):
        assert part in last


@pytest.mark.parametrize(
    ("seconds", "told"), [(0, "0:00"), (59.6, "1:00"), (3599, "59:59"), (90_061, "25:01:01"), (-1, "0:00")]
)
def test_times_are_hours_minutes_and_seconds(seconds: float, told: str) -> None:
    assert duration(seconds) == told


def test_a_folder_without_a_run_says_so(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"holds no run: `trainer train` writes run\.json there"):
        run_file.read(tmp_path)
    (tmp_path / "run.json").write_text('{"format": 9}')
    with pytest.raises(DataError, match="has format 9, this version of trainer reads 1"):
        run_file.read(tmp_path)


def test_a_reader_that_has_had_enough_ends_no_run() -> None:
    program = (
        "from trainer.watching.progress import Lines\nfor _ in range(3):\n    Lines().say('step')\nprint('went on')"
    )
    reading, writing = os.pipe()
    os.close(reading)
    with os.fdopen(writing, "wb") as closed:
        ran = subprocess.run([sys.executable, "-c", program], check=False, stdout=subprocess.PIPE, stderr=closed)
    assert ran.stdout == b"went on\n"
