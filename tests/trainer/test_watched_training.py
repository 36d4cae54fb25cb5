"""A real run under the real watch: what is left of it, and how it stops where it looks wrong."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from trainer.watching.alarms import Alarm
from trainer.watching.log import read

small = pytest.importorskip("tests.trainer.small_models")

pytestmark = pytest.mark.torch


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A folder with a model, data and held-out data."""
    from trainer.training import engine

    folder = tmp_path_factory.mktemp("watched")
    source = small.save("llama", folder / "start")
    small.prepare(source, folder / "data", count=60)
    small.prepare(source, folder / "held", count=12, seed=9)
    yield folder
    engine.leave()


def trained(place: Path, out: Path, *more: str) -> list[dict[str, Any]]:
    """Train for four steps under the watch that the command line makes; the log."""
    from trainer.training import settings, train
    from trainer.watching.watch import open_watch

    folders = [f"model={place / 'start'}", f"data={place / 'data'}", f"out={out}"]
    recipe = "batch = 16\nlearning_rate = 1e-2\nprecision = 'fp32'\ntokens = 300\nmax_steps = 4\nsave_every = 2\n"
    resolved = settings.parse(recipe, [*folders, *more], name="recipe.toml")
    train.train(resolved.settings, open_watch(resolved, rank=0))
    return read(out / "log.jsonl")


def test_a_run_leaves_its_log_its_curves_its_evaluations_and_its_card(place: Path, tmp_path: Path) -> None:
    out = tmp_path / "run"
    command = "ls {model} > {out}/files; exit {step}"
    lines = trained(
        place,
        out,
        f"held_out={place / 'held'}",
        "evaluate_every=2",
        f"evaluate_command={command}",
        "tracker=tensorboard",
    )
    held = [(line["step"], line["held_out"]) for line in lines if "held_out" in line]
    assert [step for step, _ in held] == [0, 2, 4]
    assert held[0][1] > held[1][1] > held[2][1]
    assert [(line["step"], line["exit_code"]) for line in lines if "command" in line] == [(2, 2), (4, 4)]
    files = (out / "evaluations" / "step-000002" / "files").read_text().split()
    assert {"config.json", "model.safetensors", "tokenizer_config.json"} <= set(files)
    assert not (out / "evaluations" / "step-000002" / "model").exists()
    assert [line["step"] for line in lines if "saved" in line] == [2, 4]
    assert lines[-1]["text"] == "done"
    curves = pytest.importorskip("tests.trainer.test_trackers").curves(out / "tensorboard")
    losses = [(line["step"], round(line["loss"], 4)) for line in lines if "dataset_loss" in line]
    assert [(step, pytest.approx(loss, abs=1e-4)) for step, loss in losses] == curves["loss"]
    assert "Held-out loss by dataset" in (out / "card.html").read_text()
    assert json.loads((out / "run.json").read_bytes())["trainable"] == sum(
        one.numel() for one in small.causal("llama").parameters()
    )


def test_a_run_that_loses_its_loss_stops_before_it_saves_and_can_be_repeated(place: Path, tmp_path: Path) -> None:
    out = tmp_path / "run"
    # The first step takes every weight out of the range of numbers.
    wild = ("learning_rate=1e38", "clip=0", "warmup=0", "save_every=1")
    with pytest.raises(Alarm, match=r"^The loss of step 2 is nan\."):
        trained(place, out, *wild)
    assert [one.name for one in (out / "checkpoints").iterdir()] == ["step-000001"]
    with pytest.raises(Alarm, match=r"^The loss of step 2 is nan\."):
        trained(place, out, *wild)
    lines = read(out / "log.jsonl")
    assert [line["step"] for line in lines if "dataset_loss" in line] == [1, 2]
    assert [line["event"] for line in lines if "event" in line] == ["started", "alarm", "ended"] * 2
    assert not (out / "model").exists()
