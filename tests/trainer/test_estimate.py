"""Memory by ZeRO stage, work, time and disk of a run, from arithmetic that can be done by hand; and what would fit."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from trainer.errors import DataError, ModelError
from trainer.estimating import advice, memory, shape
from trainer.estimating.activations import kept
from trainer.estimating.compute import device, flops
from trainer.estimating.estimate import Estimate, Machines, adapters, estimate, layouts
from trainer.estimating.shape import KNOWN, Shape
from trainer.estimating.workload import Data, find, named
from trainer.preparation.prepared import MANIFEST
from trainer.recipes.recipes import Recipe, recipes
from trainer.table1 import TABLE_1
from trainer.training.settings import Settings

SEVEN = KNOWN["llama-7b"]
P = SEVEN.parameters


def settings(**changes: Any) -> Settings:
    told: dict[str, Any] = {"model": "llama-7b", "data": "prepared/none", "out": "out", "batch": 8, "tokens": 1024}
    return Settings(**told | changes)


def machines(gpus: int = 8, kind: str = "a100") -> Machines:
    found = device(kind)
    assert found is not None
    return Machines(gpus=gpus, device=found, memory=found.memory * 1e9, mfu=0.5)


DATA = Data(
    told="there", prepared=True, lengths=np.full(64, 256), targets=np.full(64, 64.0), limit=512
)  # two examples to a rank of four


def made(gpus: int = 8, shape: Shape = SEVEN, **changes: Any) -> Estimate:
    return estimate(settings(**changes), shape, DATA, machines(gpus))


@pytest.mark.parametrize(
    ("zero", "weights", "gradients", "optimizer"),
    [(0, 2, 4, 12), (1, 2, 4, 12 / 8), (2, 2, 4 / 8, 12 / 8), (3, 2 / 8, 4 / 8, 12 / 8)],
)
def test_a_stage_shares_out_what_its_name_says(zero: int, weights: float, gradients: float, optimizer: float) -> None:
    step = memory.moments(made(zero=zero).job)[3]
    assert step.name == "the optimizer's step"
    assert [step.weights, step.gradients, step.optimizer] == [P * weights, P * gradients, P * optimizer]


def test_one_process_shares_nothing_out_whatever_the_stage() -> None:
    states = {(one.peak.weights, one.peak.optimizer) for _, one in layouts(made(gpus=1))[:4]}
    assert states == {(2 * P, 12 * P)}


def test_fp32_without_deepspeed_has_no_second_copy_of_the_weights() -> None:
    step = memory.moments(made(gpus=1, precision="fp32").job)[3]
    assert [step.weights, step.gradients, step.optimizer] == [4 * P, 4 * P, 8 * P]


def test_offloading_moves_the_optimizer_and_then_the_weights_to_the_machine() -> None:
    found = dict(layouts(made()))
    assert found["3 + CPU AdamW"].peak.optimizer == 0
    assert found["3 + CPU AdamW"].peak.weights == 2 * P / 8
    assert found["3 + CPU all"].peak.weights == 0
    assert memory.host(found["3 + CPU AdamW"].job) == 16 * P / 8
    assert memory.host(found["3 + CPU all"].job) == 18 * P / 8
    assert memory.host(made().job) == 0


def test_checkpointing_keeps_a_layer_s_input_and_computes_one_layer_anew() -> None:
    job = made(activation_checkpointing=True, tokens=1024).job
    of_a_token = kept(SEVEN, 2)
    assert memory._all_layers(job, of_a_token) == 1024 * (32 * 2 * 4096 + of_a_token.rest)
    assert memory._one_layer(job, of_a_token) == 1024 * (of_a_token.layer + of_a_token.backward)


def test_an_explicit_mask_costs_the_square_of_the_row() -> None:
    of_a_token = kept(SEVEN, 2)
    plain = memory._all_layers(made(attention="varlen").job, of_a_token)
    assert memory._all_layers(made(attention="mask").job, of_a_token) - plain == 1024**2 * (1 + 2 * 32)


def test_logits_stay_within_their_budget() -> None:
    job = made().job
    assert memory.logits_bytes(job) == 2 * job.targets * 32_000
    assert memory.logits_bytes(replace(job, logits_bytes=3_000_000)) == 2 * job.targets * 32_000 / 2


def test_a_run_s_work_is_that_of_its_examples() -> None:
    found = made(epochs=3)
    assert (found.steps.total, found.steps.epoch, found.tokens, found.targets) == (24, 8, 3 * 64 * 256, 3 * 64 * 64)
    pairs = 3 * 64 * 256 * 257 / 2
    assert found.flops() == flops(SEVEN, tokens=found.tokens, supervised=found.targets, pairs=pairs)


def test_time_is_work_over_what_the_gpus_do_of_it() -> None:
    found = made()
    assert found.steps.summary.efficiency == 1
    assert found.seconds == found.flops() / (8 * 312e12 * 0.5)
    again = made(activation_checkpointing=True)
    assert again.seconds == found.flops(recompute=True) / (8 * 312e12 * 0.5)


def test_a_measured_speed_takes_the_place_of_an_assumed_one() -> None:
    found = estimate(settings(), SEVEN, DATA, replace(machines(), measured=512.0))
    assert found.seconds == found.tokens / 512


def test_disk_holds_the_kept_checkpoints_the_next_and_the_model() -> None:
    assert made().checkpoint == 12 * P
    assert made(epochs=1).disk == 12 * P + 2 * P
    assert made(save_every=1).disk == 3 * 12 * P + 2 * P


def test_lora_tunes_two_narrow_matrices_to_a_layer() -> None:
    found = made(lora_rank=4, lora_targets="q_proj, v_proj")
    assert found.job.trained == found.job.added == 32 * 4 * 2 * (4096 + 4096)
    assert found.checkpoint == 12 * found.job.added
    assert adapters(settings(lora_rank=1), KNOWN["pythia-6.9b"]) == 32 * (4 * 4096 + 2 * 4096 + 2 * 5 * 4096)
    with pytest.raises(DataError, match=r"named nothing; there are q_proj, .*, down_proj"):
        adapters(settings(lora_rank=1, lora_targets="nothing"), SEVEN)


def test_a_micro_step_shorter_than_the_longest_example_is_refused() -> None:
    with pytest.raises(DataError, match="has 256 tokens and a micro-step holds 255"):
        made(tokens=255)


@pytest.mark.parametrize(
    ("data", "examples", "longest"),
    [
        ("prepared/cot-llama-1024", 100_000, 1024),
        ("prepared/flan_v2-pythia-2048", 100_000, 2048),
        ("tulu", 490_694, 2048),
    ],
)
def test_data_that_is_not_there_yet_is_modelled_by_its_name(data: str, examples: int, longest: int) -> None:
    found = find(settings(data=data))
    assert (len(found.lengths), int(found.lengths.max()), found.prepared) == (examples, longest, False)


@pytest.mark.parametrize(
    ("name", "meant"),
    [
        ("prepared/dolyl-llama-2048", "prepared/dolly-llama-2048"),
        ("human+gtp", "human+gpt"),
        ("flan-v2-opt-1024", "flan_v2-opt-1024"),
        ("dollyx", "dolly"),
    ],
)
def test_a_mistyped_dataset_is_refused_with_the_nearest(name: str, meant: str) -> None:
    with pytest.raises(DataError, match=re.escape(f"{name} holds no prepared data") + ".*" + re.escape(f"{meant}?")):
        find(settings(data=name))


def test_a_mistyped_folder_is_refused_with_the_prepared_one_beside_it(tmp_path: Path) -> None:
    (tmp_path / "train").mkdir()
    (tmp_path / "train" / MANIFEST).write_text("{}")
    with pytest.raises(DataError, match=re.escape(f"Did you mean {tmp_path / 'train'}?")):
        named(tmp_path / "trian")


def test_a_name_near_nothing_is_refused_with_all_that_is_known(tmp_path: Path) -> None:
    folder = tmp_path / "nodir"
    with pytest.raises(DataError) as refused:
        named(folder)
    assert str(refused.value) == (
        f"{folder} holds no prepared data, and its name begins with no dataset after which lengths could be modelled."
        f" Run `trainer data prepare FILE... --to {folder}` first, or name the folder after one of these,"
        f" as in cot-llama-2048: {', '.join([*TABLE_1, 'human', 'human+gpt', 'tulu'])}."
    )


@pytest.mark.parametrize("recipe", recipes().values(), ids=lambda recipe: recipe.name)
def test_each_recipe_of_the_paper_is_known_by_its_names(recipe: Recipe) -> None:
    assert named(Path(recipe.prepared)) == recipe.data
    assert shape.find(recipe.model).limit >= recipe.base.max_length


def test_an_example_longer_than_the_model_s_positions_is_refused() -> None:
    with pytest.raises(ModelError, match=r"^The longest example of prepared/none has 256 tokens and llama-7b has posi"):
        made(shape=replace(SEVEN, limit=255))
    assert made(shape=replace(SEVEN, limit=256)).steps == made(shape=replace(SEVEN, limit=0)).steps


def options(found: Estimate) -> list[list[str]]:
    return [[change.option for change in way.changes] for way in advice.advise(found)]


def with_memory(found: Estimate, size: float) -> Estimate:
    return estimate(found.settings, found.shape, found.data, replace(found.machines, memory=size))


def total(**changes: Any) -> float:
    return made(**changes).peak.total


@pytest.mark.parametrize(
    ("limit", "wanted"),
    [
        (lambda: total(activation_checkpointing=True), ["--set activation_checkpointing=true"]),
        (
            lambda: total(tokens=256, activation_checkpointing=True),
            ["--set activation_checkpointing=true", "--set tokens=256"],
        ),
        (lambda: total(zero=3), ["--set zero=3"]),
    ],
    ids=["checkpointing", "shorter micro-steps too", "a higher stage"],
)
def test_the_first_change_that_is_enough_is_advised(limit: Callable[[], float], wanted: list[str]) -> None:
    found = with_memory(made(zero=2), limit())
    assert not found.fits
    (way,) = options(found)
    assert way == wanted
    assert advice.advise(found)[0].estimate.fits


def test_65b_on_eight_gpus_is_offloaded_or_given_more() -> None:
    found = made(shape=KNOWN["llama-65b"], zero=3, activation_checkpointing=True, batch=16)
    assert not found.fits
    assert options(found) == [["--set offload=optimizer"], ["--gpus 16"]]


def test_what_no_change_makes_fit_is_said_to() -> None:
    assert options(with_memory(made(), 1e9)) == []


def test_no_more_gpus_are_advised_than_a_batch_has_examples() -> None:
    found = made(shape=KNOWN["llama-65b"], zero=3, activation_checkpointing=True, batch=15)
    assert options(found) == [["--set offload=optimizer"]]
