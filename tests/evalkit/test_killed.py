"""Whenever a run is killed or stopped: nothing is lost, nothing is asked again, and the records are the same."""

from __future__ import annotations

import random
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from tests.evalkit.killing import kept, kill_and_resume, positions, records, stopped
from tests.evalkit.small import Ran

N = 700
#: So many that, at a delay of 3 ms, a run takes a minute.
MANY = 20_000


def command(out: Path, *, delay: float, n: int = N) -> list[str]:
    run = ["run", "-m", "dummy", "-b", "arithmetic", "-M", f"delay={delay}", "-B", f"n={n}", "--out", str(out)]
    return [sys.executable, "-m", "evalkit", *run]


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    """The records of a run that nobody disturbed."""
    out = tmp_path_factory.mktemp("undisturbed")
    subprocess.run(command(out, delay=0), check=True, capture_output=True)
    return records(out)


def test_a_run_that_is_killed_25_times_is_the_same_run(tmp_path: Path) -> None:
    whole, broken = tmp_path / "whole", tmp_path / "broken"
    slow, fast = command(broken, delay=0.003, n=MANY), command(broken, delay=0, n=MANY)
    kill_and_resume(slow, broken, kills=25, seed=1, last=fast)
    assert positions(broken) == list(range(MANY))
    subprocess.run(command(whole, delay=0, n=MANY), check=True, capture_output=True)
    assert records(broken) == records(whole)


def test_a_run_that_is_killed_while_it_sums_up_is_the_same_run(tmp_path: Path, undisturbed: bytes) -> None:
    subprocess.run(command(tmp_path, delay=0), check=True, capture_output=True)
    (summary,) = tmp_path.glob("*/*/summary.json")
    whole, chance = summary.read_bytes(), random.Random(2)
    began = time.monotonic()
    subprocess.run(command(tmp_path, delay=0), check=True, capture_output=True)
    lasts = time.monotonic() - began
    for _ in range(5):
        process = subprocess.Popen(command(tmp_path, delay=0), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        time.sleep(chance.uniform(0.6, 1.0) * lasts)
        process.kill()
        process.wait()
        assert (records(tmp_path), summary.read_bytes()) == (undisturbed, whole)
    assert positions(tmp_path) == list(range(N))


@pytest.mark.parametrize("by", [signal.SIGINT, signal.SIGTERM], ids=["Ctrl-C", "SIGTERM"])
def test_a_run_that_is_stopped_says_how_to_go_on(tmp_path: Path, undisturbed: bytes, by: signal.Signals) -> None:
    # Half a minute for all: it is still asking when the signal comes late.
    code, told = stopped(command(tmp_path, delay=0.05), tmp_path, by=by, after=5000)
    (folder,) = tmp_path.glob("*/*")
    count = len(positions(tmp_path))
    assert (code, told.splitlines()[-1]) == (
        75,
        f"Stopped: {count} of {N} responses are kept in {folder}; repeat the command to go on.",
    )
    assert 0 < count < N
    assert "Traceback" not in told
    before = kept(tmp_path)
    ran = subprocess.run(command(tmp_path, delay=0), check=True, capture_output=True, text=True)
    assert f"arithmetic: {count} of {N} responses are there already." in ran.stderr
    assert kept(tmp_path) > before
    assert positions(tmp_path) == list(range(N))
    assert records(tmp_path) == undisturbed


def test_a_run_that_is_stopped_before_it_asks_says_how_to_go_on(cli: Callable[..., Ran], tmp_path: Path) -> None:
    (tmp_path / "slow.py").write_text(
        "from evalkit_dummy import arithmetic\n"
        "from dataclasses import replace\n"
        "from evalkit import hookimpl\n\n"
        "def rows(source):\n    raise KeyboardInterrupt\n    yield\n\n"
        "def slow():\n    made = arithmetic()\n    return replace(made, data=replace(made.data, rows=rows))\n\n"
        "@hookimpl\ndef benchmarks():\n    return [slow]\n"
    )
    ran = cli("run", "-m", "dummy", "-b", "./slow.py", "--json")
    assert ran == Ran(75, "", "\nStopped; repeat the command to go on.\n")


def test_a_torn_last_line_is_asked_again_and_nothing_else(tmp_path: Path, undisturbed: bytes) -> None:
    subprocess.run(command(tmp_path, delay=0), check=True, capture_output=True)
    (journal,) = tmp_path.glob("*/*/responses.jsonl")
    whole = journal.read_bytes()
    journal.write_bytes(whole[:-20])
    ran = subprocess.run(command(tmp_path, delay=0), check=True, capture_output=True, text=True)
    assert re.search(rf"arithmetic: {N - 1} of {N} responses are there already\.", ran.stderr)
    assert (journal.read_bytes(), records(tmp_path)) == (whole, undisturbed)
