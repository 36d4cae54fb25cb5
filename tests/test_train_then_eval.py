"""From conversations to an evaluation, by the two command lines alone."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

pytest.importorskip("deepspeed")

from tests.trainer import preparing, small_models

pytestmark = pytest.mark.torch

RECIPE = """
model = "base"
data = "train"
held_out = "held-out"
out = "run"
max_steps = 8
batch = 16
learning_rate = 3e-3
"""


def run(program: str, *arguments: str, cwd: Path, ranks: int = 1) -> str:
    """What a command prints, in a process of its own, or in as many as torchrun is asked for."""
    launcher = ["-m", "torch.distributed.run", "--standalone", f"--nproc-per-node={ranks}"] if ranks > 1 else []
    ran = subprocess.run(
        [sys.executable, *launcher, "-m", program, *arguments],
        check=False,
        capture_output=True,
        text=True,
        cwd=cwd,
        env={**os.environ, "DS_ACCELERATOR": "cpu", "OMP_NUM_THREADS": "1"},
        timeout=500,
    )
    assert ran.returncode == 0, ran.stderr
    return ran.stdout


def test_what_deepspeed_trains_on_two_ranks_is_better_on_other_rows_and_evalkit_opens_it(tmp_path: Path) -> None:
    small_models.save("llama", tmp_path / "base")
    small_models.prepare(tmp_path / "base", tmp_path / "held-out", count=40, seed=1)
    preparing.write(tmp_path / "train.jsonl", preparing.rows(120))
    which = ("--tokenizer", "base", "--max-length", "120", "--to", "train", "--workers", "1")
    run("trainer", "data", "prepare", "train.jsonl", *which, cwd=tmp_path)
    (tmp_path / "recipe.toml").write_text(RECIPE)
    assert "run/model" in run("trainer", "train", "recipe.toml", cwd=tmp_path, ranks=2)
    log = [json.loads(line) for line in (tmp_path / "run" / "log.jsonl").read_text().splitlines()]
    losses = [line["loss"] for line in log if "loss" in line]
    held_out = {line["step"]: line["held_out"] for line in log if "held_out" in line}
    assert losses[-1] < losses[0] - 0.5
    assert list(held_out) == [0, 8]
    assert held_out[8] < held_out[0] - 0.5

    printed = run("evalkit", "run", "-m", "hf:run/model", "-b", "arithmetic", "--json", cwd=tmp_path)
    (summary,) = json.loads(printed)
    assert (summary["benchmark"], summary["failed"]) == ("arithmetic", 0)
    record = json.loads((tmp_path / summary["run"] / "records.jsonl").read_text().splitlines()[0])
    assert record["request"]["chat"] is True
    # <s>, then <|user|> and the question and <|assistant|> in the Tülu template.
    assert record["response"]["usage"]["prompt_tokens"] == 14
