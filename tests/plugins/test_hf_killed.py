"""A run of the real backend that is killed again and again ends as an undisturbed one does."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from tests.evalkit.killing import kill_and_resume, positions, records

pytestmark = pytest.mark.torch
#: Batch size -> how many are asked: so many that a run lasts some seconds, and a kill that comes late finds it asking.
ASKED = {1: 400, 8: 1600}


def command(model: Path, out: Path, *, batch_size: int) -> list[str]:
    n = ASKED[batch_size]
    run = ["run", "-m", f"hf:{model}", "-b", "arithmetic", "-B", f"n={n}", "--batch-size", str(batch_size)]
    return [sys.executable, "-m", "evalkit", *run, "--out", str(out)]


@pytest.mark.parametrize("batch_size", ASKED)
def test_nothing_is_lost_or_asked_again(tiny: Callable[[str], Path], tmp_path: Path, batch_size: int) -> None:
    """The records are the same byte for byte, batched too: in float32 this model's choices are no near-ties."""
    whole, broken = tmp_path / "whole", tmp_path / "broken"
    subprocess.run(command(tiny("llama"), whole, batch_size=batch_size), check=True, capture_output=True)
    kill_and_resume(command(tiny("llama"), broken, batch_size=batch_size), broken, kills=2, seed=batch_size)
    assert sorted(positions(broken)) == list(range(ASKED[batch_size]))
    assert records(broken) == records(whole)
