"""Kills a run at random moments and resumes it, for any backend."""

from __future__ import annotations

import json
import random
import signal
import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any


def kill_and_resume(
    command: list[str], out: Path, kills: int, seed: int, *, within: float = 0.1, last: list[str] | None = None
) -> None:
    """Start a run again after each ``kill -9``, and let it finish after the last one, by another command if need be.

    ``out`` is what the command passes to --out. Four of five kills come at a random moment ``within`` so many seconds
    after the process has kept its first response, the others while it starts up. Fails when the run ends too soon: let
    it ask so much that a busy machine, on which the kills come late, finds it asking still.
    """
    chance = random.Random(seed)
    for kill in range(kills):
        started_up, before = chance.random() < 0.8, kept(out)
        process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        while started_up and process.poll() is None and kept(out) == before:
            time.sleep(0.001)
        time.sleep(chance.uniform(0, within))
        assert process.poll() is None, f"The run ended before kill {kill} of {kills}: let it ask more."
        process.kill()
        process.wait()
    subprocess.run(last or command, check=True, capture_output=True)


def stopped(
    command: list[str], out: Path, *, by: signal.Signals, after: int, met: Callable[[], bool] = lambda: True
) -> tuple[int, str]:
    """The exit code and standard error of a run that gets a signal once it has kept so many bytes and ``met`` holds."""
    # A shell that starts a suite in the background has it, and what it starts, ignore Ctrl-C.
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
    signal.signal(signal.SIGINT, before)
    with process:
        try:
            while process.poll() is None and not (kept(out) >= after and met()):
                time.sleep(0.001)
            process.send_signal(by)
            _, told = process.communicate(timeout=120)
        finally:  # one that does not end would disturb the tests that follow
            process.kill()
    return process.returncode, told


def until(condition: Callable[[], bool]) -> None:
    """Wait for what another thread or process does; fails when that never comes."""
    deadline = time.monotonic() + 120
    while not condition():
        assert time.monotonic() < deadline, "What the test waits for has not come."
        time.sleep(0.001)


def kept(out: Path) -> int:
    """How many bytes of responses are there."""
    return sum(path.stat().st_size for path in out.glob("*/*/responses.jsonl"))


def positions(out: Path) -> list[int]:
    """The position of each response of the one run that is there, in the order in which they were kept."""
    (path,) = out.glob("*/*/responses.jsonl")
    lines: list[dict[str, Any]] = [json.loads(line) for line in path.read_bytes().splitlines()]
    return [line["position"] for line in lines]


def records(out: Path) -> bytes:
    """The records of the one run that is there."""
    (path,) = out.glob("*/*/records.jsonl")
    return path.read_bytes()
