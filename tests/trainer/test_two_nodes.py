"""Two machines, simulated by two launchers that each start one rank on this one, train together or say why not."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from trainer.launching import launch
from trainer.launching.hosts import Host
from trainer.launching.ports import meeting_port
from trainer.training import settings as settings_of

small = pytest.importorskip("tests.trainer.small_models")
trained = pytest.importorskip("tests.trainer.trained")

pytestmark = pytest.mark.torch

#: Both are this machine.
HOSTS = (Host(name="127.0.0.1", slots=1), Host(name="localhost", slots=1))
STEPS = 3


@pytest.fixture(scope="module")
def recipe(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A recipe with a small model and data prepared for it."""
    folder = tmp_path_factory.mktemp("nodes")
    source = small.save("llama", folder / "model")
    small.prepare(source, folder / "data")
    told = trained.settings(source, folder / "data", folder / "out", max_steps=STEPS)
    resolved = settings_of.Resolved(settings=told, sources=dict.fromkeys(settings_of.TYPES, "test"))
    (folder / "recipe.toml").write_text(resolved.toml())
    (folder / "hosts").write_text("".join(f"{host.name} slots={host.slots}\n" for host in HOSTS))
    return folder / "recipe.toml"


@pytest.fixture(scope="module")
def alone(recipe: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[list[float]]:
    """The losses of the same run in one process."""
    from trainer.training import engine
    from trainer.training.train import train

    told = trained.Told()
    train(settings_of.load(recipe, [f"out={tmp_path_factory.mktemp('alone') / 'run'}"]).settings, told)
    yield told.losses
    engine.leave()


def start(kind: launch.Kind, recipe: Path, *sets: tuple[str, ...]) -> list[tuple[int, str]]:
    """Start the command that is printed for each machine, with its own settings; exit codes and errors of both."""
    given = {"DS_ACCELERATOR": "cpu", "OMP_NUM_THREADS": "1", "NO_COLOR": "1"}
    beside = Path(sys.executable).parent
    started = []
    with meeting_port() as port:
        try:
            for place, own in enumerate(sets):
                hostfile = str(recipe.parent / "hosts")
                made = launch.Launch(
                    kind=kind, recipe=str(recipe), sets=own, hosts=HOSTS, port=port, hostfile=hostfile, by_hand=True
                )
                program, *words = launch.commands(made)[place]
                command = [str(beside / program), *words]
                started.append(
                    subprocess.Popen(command, env={**os.environ, **given}, stderr=subprocess.PIPE, text=True)
                )
            told = [one.communicate(timeout=600)[1] for one in started]
        finally:
            for one in started:
                one.kill()
    return [(one.returncode, text) for one, text in zip(started, told, strict=True)]


@pytest.mark.parametrize(("kind", "zero"), [("torchrun", 0), ("deepspeed", 2)])
def test_two_machines_learn_what_one_process_learns(
    kind: launch.Kind, zero: int, recipe: Path, alone: list[float], tmp_path: Path
) -> None:
    ends = start(kind, recipe, *[(f"out={tmp_path / 'run'}", f"zero={zero}")] * 2)
    assert [code for code, _ in ends] == [0, 0], ends
    losses = [line["loss"] for line in trained.log(tmp_path / "run")]
    assert len(losses) == STEPS
    assert losses == pytest.approx(alone, abs=1e-5)
    assert (tmp_path / "run" / "model" / "model.safetensors").exists()


def test_a_machine_with_another_recipe_is_named_on_both(recipe: Path, tmp_path: Path) -> None:
    out = f"out={tmp_path / 'run'}"
    ends = start("torchrun", recipe, (out,), (out, "learning_rate=0.5"))
    name = socket.gethostname()
    says = f"Error: Rank 1 ({name}) differs from Rank 0 ({name}): learning_rate is 0.5 there and 0.001 elsewhere."
    assert [(code, says in text.splitlines()) for code, text in ends] == [(1, True)] * 2, ends
