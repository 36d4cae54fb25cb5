"""The log is appended, survives a kill, and is cut back to the checkpoint that a run resumes from."""

from __future__ import annotations

import json
import math
import os
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

import pytest
from tests.trainer.watched import START, entry

from trainer.errors import DataError, Interrupted
from trainer.watching.log import Log, read
from trainer.watching.watch import step_line

#: Writes lines until it is killed; slowly once that may happen, so that a late kill does not find the disk full.
ENDLESS = """
import itertools, sys, time
from collections.abc import Mapping
from pathlib import Path
from trainer.watching.log import Log
log = Log(Path(sys.argv[1]), step=0)
for step in itertools.count(1):
    log.write({"step": step, "loss": 1 / step, "text": "x" * 500})
    if step == 50:
        print("begun", flush=True)
    if step >= 50:
        time.sleep(0.0005)
"""


def append(path: Path, *lines: Mapping[str, object], step: int = 0) -> None:
    """Open a log at a checkpoint's step, write lines, close it."""
    log = Log(path, step=step)
    for line in lines:
        log.write(line)
    log.close()


def test_a_line_can_be_read_when_write_returns(tmp_path: Path) -> None:
    log = Log(tmp_path / "log.jsonl", step=0)
    log.write({"step": 1, "loss": 2.5})
    assert read(tmp_path / "log.jsonl") == [{"step": 1, "loss": 2.5}]
    log.close()


def test_numbers_that_are_not_finite_become_null(tmp_path: Path) -> None:
    append(tmp_path / "log.jsonl", {"step": 1, "loss": math.nan, "dataset_loss": {"dolly": math.inf, "cot": 1.0}})
    assert (tmp_path / "log.jsonl").read_text() == (
        '{"step": 1, "loss": null, "dataset_loss": {"dolly": null, "cot": 1.0}}\n'
    )


def test_resuming_forgets_the_steps_behind_the_checkpoint_and_keeps_what_happened(tmp_path: Path) -> None:
    path = tmp_path / "log.jsonl"
    steps = [{"step": step, "loss": float(step)} for step in (1, 2, 3, 4)]
    append(path, *steps, {"step": 4, "event": "alarm", "text": "why"})
    append(path, {"step": 3, "loss": 30.0}, step=2)
    assert [(line["step"], line.get("loss", line.get("event"))) for line in read(path)] == [
        (1, 1.0),
        (2, 2.0),
        (4, "alarm"),
        (3, 30.0),
    ]
    assert [one.name for one in tmp_path.iterdir()] == ["log.jsonl"]


def test_a_torn_last_line_is_dropped(tmp_path: Path) -> None:
    path = tmp_path / "log.jsonl"
    whole = '{"step": 1, "loss": 2.5}\n'
    for size in range(1, len(whole)):
        path.write_text(whole + '{"step": 2, "loss": 2.5}'[:size])
        assert [line["step"] for line in read(path)] == ([1] if size < len(whole) - 1 else [1, 2])
    path.write_text(whole + '{"step": 2, "lo')
    append(path, {"step": 2}, step=5)
    assert path.read_text() == whole + '{"step": 2}\n'


def test_a_bad_line_elsewhere_is_named(tmp_path: Path) -> None:
    path = tmp_path / "log.jsonl"
    path.write_text('{"step": 1}\nnonsense\n{"step": 2}\n')
    with pytest.raises(DataError, match=r"log\.jsonl:2: this is no line of a log"):
        read(path)


def test_a_log_whose_writer_was_killed_goes_on_behind_its_last_whole_line(tmp_path: Path) -> None:
    path = tmp_path / "log.jsonl"
    with subprocess.Popen([sys.executable, "-c", ENDLESS, str(path)], stdout=subprocess.PIPE) as running:
        try:
            assert running.stdout is not None
            assert running.stdout.readline() == b"begun\n"
        finally:
            running.kill()
    steps = [line["step"] for line in read(path)]
    assert len(steps) >= 50
    assert steps == list(range(1, len(steps) + 1))
    append(path, {"step": 41}, step=40)
    assert [line["step"] for line in map(json.loads, path.read_text().splitlines())] == list(range(1, 42))


def test_a_full_disk_is_told_and_leaves_a_run_to_be_resumed(tmp_path: Path) -> None:
    log = Log(tmp_path / "log.jsonl", step=0)
    log.write({"step": 1})
    with Path("/dev/full").open("w") as full, pytest.raises(Interrupted) as stopped:
        os.dup2(full.fileno(), log._file.fileno())
        log.write({"step": 2})
    told = "log.jsonl cannot be written (No space left on device): make room, then repeat the command to go on."
    assert str(stopped.value) == f"{tmp_path}/{told}"
    with pytest.raises(Interrupted):
        log.close()
    assert read(tmp_path / "log.jsonl") == [{"step": 1}]


def test_the_line_of_a_step_has_its_paces_without_padding_and_its_mfu() -> None:
    line = step_line(entry(3), peak=START.peak)
    assert {name: line[name] for name in ("tokens_per_second", "supervised_per_second", "mfu", "slots")} == {
        "tokens_per_second": 150.0,
        "supervised_per_second": 50.0,
        "mfu": 0.25,
        "slots": 310,
    }
    assert step_line(entry(3), peak=0.0)["mfu"] is None
    assert step_line(entry(3, flops=0.0), peak=1e9)["mfu"] is None
