"""What runs a model's steps: which engine, its gradients, clipping, skipped steps and weights that were lost."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from tests.trainer import trained

from trainer.errors import TrainerError

torch = pytest.importorskip("torch")
small = pytest.importorskip("tests.trainer.small_models")
engines = pytest.importorskip("trainer.training.engine")
feeds = pytest.importorskip("trainer.training.feed")

pytestmark = pytest.mark.torch

DATA = Path("data")


@pytest.fixture(scope="module")
def ingredients(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Path, Path]]:
    """A model's folder and data prepared for it."""
    folder = tmp_path_factory.mktemp("ingredients")
    source = small.save("llama", folder / "model")
    small.prepare(source, folder / "data")
    yield source, folder / "data"
    engines.leave()


def opened(ingredients: tuple[Path, Path], **changes: Any) -> tuple[Any, Any]:
    """An engine of a recipe, and what it reads."""
    from trainer.preparation.prepared import Prepared
    from trainer.training import learner, model

    settings, prepared = trained.settings(*ingredients, Path("out"), **changes), Prepared.open(ingredients[1])
    tokenizer = model.check(settings.model, prepared)
    build = partial(learner.build, settings, tokenizer, datasets=len(prepared.names))
    return engines.open_engine(settings, build), feeds.Feed.open(settings, prepared, rank=0, world=1)


def steps(engine: Any, feed: Any, rates: list[float]) -> tuple[list[tuple[float, float]], dict[str, Any]]:
    """The loss and norm of each of a few steps, and the weights behind them."""
    found = []
    for rate, reading in zip(rates, feed.readings(0), strict=False):
        losses = [float(engine.micro(batch)[0]) for batch in reading.batches]
        assert len(losses) > 1
        found.append((sum(losses), engine.step(rate).norm))
    return found, {name: tensor.clone() for name, tensor in engine.parameters()}


@pytest.mark.parametrize(
    ("changes", "ranks", "engine"),
    [
        ({}, 1, "torch"),
        ({"zero": 3}, 1, "torch"),
        ({"offload": "optimizer"}, 1, "deepspeed"),
        ({}, 2, "deepspeed"),
        ({"zero": 0}, 8, "torch"),
        ({"engine": "deepspeed"}, 1, "deepspeed"),
    ],
)
def test_deepspeed_runs_where_it_shares_something_out(changes: dict[str, Any], ranks: int, engine: str) -> None:
    assert engines.choose(trained.settings(DATA, DATA, Path("out"), **changes), ranks) == engine


@pytest.mark.parametrize(
    ("changes", "ranks", "says"),
    [
        ({"engine": "deepspeed", "zero": 0}, 2, "zero = 0 shares nothing out and is run by torch"),
        ({"engine": "torch"}, 2, "engine = torch shares nothing out over 2 ranks: set zero = 0, or engine = auto."),
    ],
)
def test_an_engine_that_cannot_do_what_is_asked_is_refused(changes: dict[str, Any], ranks: int, says: str) -> None:
    with pytest.raises(TrainerError, match=says):
        engines.choose(trained.settings(DATA, DATA, Path("out"), **changes), ranks)


def test_without_deepspeed_zero_0_is_the_way_out(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(engines, "find_spec", lambda name: None)
    with pytest.raises(TrainerError, match=r"zero = 2 on 4 ranks needs DeepSpeed, .* `pip install 'trainer\[train\]'`"):
        engines.choose(trained.settings(DATA, DATA, Path("out")), 4)
    assert engines.choose(trained.settings(DATA, DATA, Path("out"), zero=0), 4) == "torch"


@pytest.mark.parametrize(
    ("environment", "says"),
    [
        ({"RANK": "2", "WORLD_SIZE": "2"}, "This process has rank 2 of 2: RANK must be below WORLD_SIZE."),
        ({"RANK": "0", "WORLD_SIZE": "0"}, "This process has rank 0 of 0: RANK must be below WORLD_SIZE."),
        ({"RANK": "a"}, "not one of whole numbers: RANK='a', WORLD_SIZE='1', LOCAL_RANK='0'"),
    ],
)
def test_a_wrong_world_is_told_before_anybody_waits(
    environment: dict[str, str], says: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    with pytest.raises(TrainerError, match=says):
        engines.world()


@pytest.fixture(scope="module")
def plain(ingredients: tuple[Path, Path]) -> Any:
    """Three steps in fp32 as a few lines of torch take them: the whole step in one sum, clipped, plain AdamW."""
    from torch.nn.utils import clip_grad_norm_

    engine, feed = opened(ingredients)
    module = engine.learner
    optimizer = torch.optim.AdamW(module.parameters(), lr=1e-3, weight_decay=0.0, foreach=False)
    found = []
    for _, reading in zip(range(3), feed.readings(0), strict=False):
        loss = sum(module(batch)[0] for batch in reading.batches)
        loss.backward()
        found.append((loss.item(), float(clip_grad_norm_(module.parameters(), 1.0))))
        optimizer.step()
        optimizer.zero_grad()
    return found, {name: one.detach().clone() for name, one in module.named_parameters()}


def distance(ours: dict[str, Any], theirs: dict[str, Any]) -> float:
    assert ours.keys() == theirs.keys()
    return max(float((ours[name] - theirs[name]).abs().max()) for name in ours)


def test_torch_takes_the_steps_of_plain_adamw(ingredients: tuple[Path, Path], plain: Any) -> None:
    found, weights = steps(*opened(ingredients), rates=[1e-3] * 3)
    assert [norm for _, norm in found] == pytest.approx([norm for _, norm in plain[0]], rel=1e-5)
    assert min(norm for _, norm in found) > 1.5  # so it was clipped
    assert [loss for loss, _ in found] == pytest.approx([loss for loss, _ in plain[0]], rel=1e-6)
    assert distance(weights, plain[1]) < 1e-6


def test_a_gradient_below_the_limit_is_left_alone(ingredients: tuple[Path, Path]) -> None:
    # AdamW divides by the gradient's own size; with an epsilon as large, its size is seen in the weights.
    free, limited = (steps(*opened(ingredients, epsilon=1.0, clip=clip), rates=[1e-1] * 2) for clip in (0.0, 1e3))
    assert free[0] == limited[0]
    assert distance(free[1], limited[1]) == 0


def test_in_bf16_small_updates_are_not_lost(ingredients: tuple[Path, Path]) -> None:
    engine, feed = opened(ingredients, precision="bf16")
    before = {name: tensor.clone() for name, tensor in engine.parameters()}
    steps(engine, feed, rates=[1e-7])
    after = dict(engine.parameters())
    assert {tensor.dtype for tensor in after.values()} == {torch.bfloat16}
    same = [torch.equal(before[name], after[name]) for name in before]
    assert sum(same) > len(same) / 2  # too small for 8 bits
    masters = [one.tensors[0] for one in engine.fragments()]
    moved = [not torch.equal(one, after[name].float().view(-1)) for name, one in zip(after, masters, strict=True)]
    assert all(moved)


def test_a_gradient_that_is_not_finite_changes_nothing(ingredients: tuple[Path, Path]) -> None:
    engine, feed = opened(ingredients)
    batches = feed.read(0).batches
    before = {name: tensor.clone() for name, tensor in engine.parameters()}
    for batch in batches:
        engine.micro(batch)
    next(engine.learner.parameters()).grad[0] = float("nan")
    stepped = engine.step(1e-3)
    assert (stepped.norm, stepped.skipped) == (float("inf"), True)
    assert distance(before, dict(engine.parameters())) == 0
    for batch in batches:
        engine.micro(batch)
    assert not engine.step(1e-3).skipped
    assert distance(before, dict(engine.parameters())) > 0


def test_weight_decay_is_for_matrices_alone(ingredients: tuple[Path, Path]) -> None:
    engine, _ = opened(ingredients, weight_decay=0.1)
    groups = {group["weight_decay"]: group["params"] for group in engine._optimizer.param_groups}
    assert {one.ndim for one in groups[0.0]} == {1}
    assert {one.ndim for one in groups[0.1]} == {2}


def test_weights_that_are_not_the_checkpoints_are_refused(ingredients: tuple[Path, Path], tmp_path: Path) -> None:
    from trainer.errors import ModelError
    from trainer.training import intact

    engine, _ = opened(ingredients, precision="bf16")
    intact.check(engine, str(ingredients[0]))
    other = small.save("llama", tmp_path / "other", seed=1)
    with pytest.raises(ModelError, match=r"\d of \d weights that were looked at \(.*\) are not those of .*/other: "):
        intact.check(engine, str(other))


@pytest.mark.parametrize(("zero", "apart"), [(1, 0.0), (2, 0.0), (3, 1e-6)])
def test_deepspeed_on_one_rank_takes_the_steps_of_torch_to_the_last_bit(
    ingredients: tuple[Path, Path], zero: int, apart: float
) -> None:
    """With ZeRO 3 the norm that gradients are clipped to is summed in another order."""
    pytest.importorskip("deepspeed")
    rates = [1e-3, 5e-4, 2e-4]
    ours, weights = steps(*opened(ingredients), rates=rates)
    theirs, others = steps(*opened(ingredients, engine="deepspeed", zero=zero), rates=rates)
    assert [loss for loss, _ in theirs] == pytest.approx([loss for loss, _ in ours], rel=apart, abs=0)
    assert distance(weights, others) <= apart
