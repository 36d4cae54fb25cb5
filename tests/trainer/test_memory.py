"""The peak of real training steps against what `trainer plan` estimates; `benchmarks/memory.py` measures five such."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

BENCHMARK = Path(__file__).parents[2] / "benchmarks" / "memory.py"

pytestmark = [
    pytest.mark.torch,
    pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="peaks are read from /proc, which Linux has"),
]


def test_a_real_run_s_peak_is_within_15_percent_of_the_estimate() -> None:
    pytest.importorskip("torch")
    ran = subprocess.run([sys.executable, BENCHMARK, "short"], check=False, capture_output=True, text=True)
    assert ran.returncode == 0, ran.stdout + ran.stderr
    assert "gpt_neox fp32, short" in ran.stdout
