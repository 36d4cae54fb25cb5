"""Runs as a loop would tell them, for the tests of what watches it and of what is made of it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from tests.trainer import preparing, small_tokenizers

from trainer.rendering import render
from trainer.training import settings
from trainer.training.settings import Resolved
from trainer.watching.progress import Lines
from trainer.watching.told import Entry, HeldOut, Ran, Saved, Start
from trainer.watching.watch import Writer

START = Start(step=0, steps=8, world=2, engine="torch", device="cpu", parameters=1000, trainable=1000, peak=1e9)


def entry(step: int, loss: float = 2.0, **values: Any) -> Entry:
    """A step of two datasets that took two seconds."""
    told: dict[str, Any] = {
        "step": step,
        "epoch": step / 4,
        "loss": loss,
        "dataset_loss": {"dolly": loss + 0.5, "cot": loss - 0.5},
        "lr": 2e-5,
        "norm": 1.5,
        "skipped": False,
        "tokens": 300,
        "supervised": 100,
        "slots": 310,
        "seconds": 2.0,
        "seconds_model": 1.5,
        "flops": 5e8,
    }
    return Entry(**{**told, **values})


def prepared(place: Path) -> Path:
    """A prepared folder of twenty conversations of two datasets."""
    tokenizer = small_tokenizers.save("opt", place / "tokenizer")
    file = preparing.write(place / "mix.jsonl", preparing.rows(20))
    preparing.made(file, render.load(str(tokenizer), max_length=120), place / "data")
    return place / "data"


def resolved(out: Path, data: Path, *more: str) -> Resolved:
    """Settings as a recipe and ``--set`` make them."""
    recipe = f'model = "models/small"\ndata = "{data}"\nbatch = 4\n'
    return settings.parse(recipe, [f"out={out}", *more], name="recipe.toml")


def whole_run(out: Path, data: Path, *more: str, loss: float = 2.0) -> None:
    """Write the folder of a run of eight steps with two evaluations, a command and two checkpoints."""
    writer = Writer(resolved=resolved(out, data, *more), progress=Lines())
    writer.started(START)
    for step in range(1, 9):
        writer.stepped(entry(step, loss=loss / step, skipped=step == 3))
        if step % 4 == 0:
            each = {"dolly": loss, "cot": loss / 2}
            writer.evaluated(HeldOut(step=step, loss=loss / step, dataset_loss=each, supervised=50, seconds=0.5))
            folder = out / "checkpoints" / f"step-{step:06}"
            writer.saved(Saved(step=step, folder=folder, bytes=12_345_678, seconds=1.5))
    command = "evalkit run -m hf:model -b gsm"
    output = out / "evaluations" / "step-000008" / "output.txt"
    writer.ran(Ran(step=8, command=command, exit_code=0, seconds=60.0, last_line="gsm 0.25", output=output))
    writer.ended("done")
