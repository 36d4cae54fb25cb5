"""A run that was stopped and goes on ends where one that was not does, to the last bit, or does not go on at all."""

from __future__ import annotations

import shutil
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from tests.trainer import killing, trained

from trainer.errors import DataError, Interrupted, TrainerError

small = pytest.importorskip("tests.trainer.small_models")
training = pytest.importorskip("trainer.training.train")

pytestmark = pytest.mark.torch

#: Each of them draws or rounds something that has to be as it would have been.
RUNS: dict[str, dict[str, Any]] = {
    "bf16": {"precision": "bf16"},
    "LoRA with dropout": {"lora_rank": 4, "lora_dropout": 0.1, "weight_decay": 0.1},
}


@pytest.fixture(scope="module")
def ingredients(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Path, Path]]:
    """A model's folder and data prepared for it."""
    from trainer.training import engine

    folder = tmp_path_factory.mktemp("ingredients")
    source = small.save("llama", folder / "model")
    small.prepare(source, folder / "data")
    yield source, folder / "data"
    engine.leave()


def run(ingredients: tuple[Path, Path], out: Path, until: int = 0, **changes: Any) -> Any:
    """What a run told, whether it was stopped or came to its end."""
    told = trained.Told()
    settings = trained.settings(*ingredients, out, **({"save_every": 2} | changes))
    if until:
        with pytest.raises(Interrupted, match=f"behind step {until}; repeat the command"):
            training.train(settings, told, until=until)
    else:
        training.train(settings, told)
    return told


@pytest.fixture(scope="module", params=RUNS)
def both(
    request: pytest.FixtureRequest, ingredients: tuple[Path, Path], tmp_path_factory: pytest.TempPathFactory
) -> Any:
    """A run from its first step to its last, and one that was stopped twice."""
    folder, changes = tmp_path_factory.mktemp("runs"), RUNS[request.param]
    straight = run(ingredients, folder / "straight", **changes)
    stopped = [run(ingredients, folder / "stopped", until=step, **changes) for step in (1, 3)]
    return folder, straight, [*stopped, run(ingredients, folder / "stopped", **changes)]


def test_a_run_that_was_stopped_ends_with_the_same_weights_to_the_last_bit(both: Any) -> None:
    folder, straight, parts = both
    assert [len(part.entries) for part in parts] == [1, 2, 3]
    assert [one.loss for part in parts for one in part.entries] == straight.losses
    assert trained.weights(folder / "stopped") == trained.weights(folder / "straight")


def test_a_run_says_where_it_goes_on(both: Any) -> None:
    _, straight, parts = both
    assert straight.said == []
    assert [part.said for part in parts] == [[], ["Going on behind step 1."], ["Going on behind step 3."]]


@pytest.fixture
def stopped(ingredients: tuple[Path, Path], tmp_path_factory: pytest.TempPathFactory, cache: dict[str, Path]) -> Path:
    """A copy of a run that was stopped behind step 3."""
    if "run" not in cache:
        cache["run"] = tmp_path_factory.mktemp("stopped") / "run"
        run(ingredients, cache["run"], until=3)
    copy = tmp_path_factory.mktemp("copy") / "run"
    shutil.copytree(cache["run"], copy)
    return copy


@pytest.fixture(scope="module")
def cache() -> dict[str, Path]:
    """What is made once for the tests of this file."""
    return {}


@pytest.mark.parametrize(
    ("field", "value"),
    [("learning_rate", 2e-3), ("batch", 8), ("seed", 1), ("max_steps", 8), ("reduction", "example"), ("clip", 0.0)],
)
def test_settings_that_would_learn_something_else_are_refused_by_name(
    stopped: Path, ingredients: tuple[Path, Path], field: str, value: Any
) -> None:
    with pytest.raises(TrainerError, match=f"holds a run with {field} = .*, and now it is {value!r}, which would"):
        run(ingredients, stopped, **{field: value})


def test_other_data_is_refused(stopped: Path, ingredients: tuple[Path, Path], tmp_path: Path) -> None:
    small.prepare(ingredients[0], tmp_path / "other", count=40)
    with pytest.raises(DataError, match="holds a run on other data than"):
        run((ingredients[0], tmp_path / "other"), stopped)


def test_settings_that_only_round_otherwise_may_change_and_are_told(
    stopped: Path, ingredients: tuple[Path, Path]
) -> None:
    told = run(ingredients, stopped, tokens=150, attention="mask", keep=1, save_every=5, log_every=3)
    assert told.said == [
        "Going on behind step 3, with tokens 300 → 150, attention auto → mask: the same mathematics, rounded otherwise."
    ]
    assert trained.checkpoints(stopped) == ["step-000006"]


def test_a_damaged_checkpoint_is_set_aside_and_the_one_before_taken(
    stopped: Path, ingredients: tuple[Path, Path], tmp_path: Path
) -> None:
    file = stopped / "checkpoints" / "step-000003" / "rank-00000.safetensors"
    content = bytearray(file.read_bytes())
    content[-1] ^= 1
    file.write_bytes(content)
    told = run(ingredients, stopped)
    assert [one.step for one in told.entries] == [3, 4, 5, 6]
    assert told.said == [
        f"{file} is not what was written there; the checkpoint is set aside as step-000003.damaged and the one before"
        " it is taken.",
        "Going on behind step 2.",
    ]
    run(ingredients, tmp_path / "straight")
    assert trained.weights(stopped) == trained.weights(tmp_path / "straight")


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGUSR1, signal.SIGINT])
def test_a_signal_saves_behind_the_step_and_stops(
    ingredients: tuple[Path, Path], tmp_path: Path, number: signal.Signals
) -> None:
    class Signalling(trained.Told):
        def stepped(self, entry: Any) -> None:
            super().stepped(entry)
            if entry.step == 2:
                signal.raise_signal(number)

    settings, told = trained.settings(*ingredients, tmp_path / "run"), Signalling()
    before = signal.getsignal(number)
    with pytest.raises(Interrupted, match=rf"^{number.name} was received behind step 3; repeat the command to go on.$"):
        training.train(settings, told)
    assert signal.getsignal(number) == before
    assert trained.checkpoints(tmp_path / "run") == ["step-000003"]
    assert told.ends == [f"{number.name} was received behind step 3; repeat the command to go on."]


def test_a_time_limit_saves_and_stops(ingredients: tuple[Path, Path], tmp_path: Path) -> None:
    settings, told = trained.settings(*ingredients, tmp_path / "run", time_limit=1e-6), trained.Told()
    with pytest.raises(Interrupted, match=r"^Its time limit is reached behind step 1; repeat"):
        training.train(settings, told)
    assert trained.checkpoints(tmp_path / "run") == ["step-000001"]


def test_a_run_killed_while_it_exports_only_exports(
    ingredients: tuple[Path, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patched, killing.hearing():
        patched.setattr(training, "export", lambda *_: signal.raise_signal(signal.SIGINT))
        with pytest.raises(KeyboardInterrupt):
            run(ingredients, tmp_path / "run")
    told = run(ingredients, tmp_path / "run")
    assert told.entries == []
    assert (tmp_path / "run" / "model" / "model.safetensors").exists()
