"""Progress is told by a bar on a terminal, by lines elsewhere, and not at all under --json."""

from __future__ import annotations

import os
import pty
import re
import subprocess
import sys
from pathlib import Path

import pytest

from evalkit.cli import progress
from evalkit.cli.progress import Lines, Live, Running, Silent


def running(*scores: float | None) -> str:
    found = Running()
    for score in scores:
        found.add(score)
    return str(found)


def test_a_running_proportion_has_wilsons_interval() -> None:
    assert running(*[1.0] * 7, *[0.0] * 13) == "35.0 % [18.1, 56.7]"
    assert running(0.0) == "0.0 % [0.0, 79.3]"


def test_other_running_scores_have_the_normal_interval() -> None:
    assert running(0.25, 0.75) == "50.0 % [15.4, 84.6]"
    assert running(0.5, 0.5) == "50.0 % [50.0, 50.0]"


def test_failed_responses_are_no_scores() -> None:
    assert running(None, 1.0, None) == running(1.0)
    assert running(None) == ""


def test_lines_tell_rate_time_left_and_score(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    now = 0.0
    monkeypatch.setattr("evalkit.cli.progress.time.monotonic", lambda: now)
    lines = Lines()
    lines.start("gsm", total=100, done=20)
    for _ in range(40):
        now += 1
        lines.answered(1.0)
    lines.stop()
    assert capsys.readouterr().err.splitlines() == [
        "gsm: 20 of 100 responses are there already.",
        "gsm 35/100 · 1.0/s · 65 s left · 100.0 % [79.6, 100.0]",
        "gsm 50/100 · 1.0/s · 50 s left · 100.0 % [88.6, 100.0]",
        "gsm 60/100 · 1.0/s · 40 s left · 100.0 % [91.2, 100.0]",
    ]


def test_a_run_in_which_nothing_was_asked_has_no_last_line(capsys: pytest.CaptureFixture[str]) -> None:
    lines = Lines()
    lines.start("gsm", total=1, done=0)
    lines.stop()
    assert capsys.readouterr() == ("", "")


def test_failures_alone_have_no_score(capsys: pytest.CaptureFixture[str]) -> None:
    lines = Lines()
    lines.start("gsm", total=1, done=0)
    lines.answered(None)
    lines.stop()
    assert re.fullmatch(r"gsm 1/1 · ([\d.]+/s|\d+ s each)\n", capsys.readouterr().err)


@pytest.mark.parametrize(("seconds", "shown"), [(5, "5 s"), (600, "10 min"), (7200, "2.0 h")])
def test_time_left_is_told_in_a_fitting_unit(seconds: float, shown: str) -> None:
    assert progress._duration(seconds) == shown


def test_silence_is_silent(capsys: pytest.CaptureFixture[str]) -> None:
    watch = progress.watch(silent=True)
    assert isinstance(watch, Silent)
    watch.say("x")
    watch.start("gsm", total=1, done=0)
    watch.answered(1.0)
    watch.stop()
    assert capsys.readouterr() == ("", "")


def test_without_a_terminal_there_are_lines() -> None:
    assert isinstance(progress.watch(silent=False), Lines)


def test_a_bar_shows_count_and_score(capsys: pytest.CaptureFixture[str]) -> None:
    live = Live()
    live.answered(1.0)
    live.say("[bold]not markup :tada:")
    live.start("gsm", total=3, done=1)
    live.answered(1.0)
    live.answered(None)
    live.stop()
    live.stop()
    told = capsys.readouterr().err
    assert "[bold]not markup" in told
    assert re.search(r"gsm .*3/3 .*(/s|\d s each) .*100\.0 % \[20\.7, 100\.0\]", told)


def test_a_terminal_gets_a_bar_that_ends_with_the_whole(tmp_path: Path) -> None:
    controller, terminal = pty.openpty()
    command = [sys.executable, "-m", "evalkit", "run", "-m", "dummy", "-b", "arithmetic", "-M", "delay=0.01"]
    env = {**os.environ, "TERM": "xterm", "COLUMNS": "120", "LINES": "30"}
    ran = subprocess.Popen(command, cwd=tmp_path, env=env, stdout=subprocess.PIPE, stderr=terminal)
    os.close(terminal)
    told = b""
    while True:
        try:
            chunk = os.read(controller, 4096)
        except OSError:  # the other end is closed
            break
        if not chunk:
            break
        told += chunk
    out, _ = ran.communicate()
    os.close(controller)
    assert ran.returncode == 0
    assert b"20/20" in told and "━".encode() in told
    assert b"exact_match" in out and b"\x1b" not in out


@pytest.mark.parametrize(
    ("rate", "shown"), [(250.0, "250.0/s"), (0.5, "0.5/s"), (0.4, "2 s each"), (0.02, "50 s each")]
)
def test_a_slow_rate_is_told_as_seconds_each(rate: float, shown: str) -> None:
    assert progress._pace(rate) == shown
