"""Any checkpoint of a run becomes a model, without the ranks that trained it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from tests.trainer.plugin import Cli

pytest.importorskip("deepspeed")

from tests.trainer import small_models, trained
from tests.trainer.exporting import config, load

pytestmark = [
    pytest.mark.torch,
    # peft 0.21 asks transformers 5.23 by a name that is to go.
    pytest.mark.filterwarnings("ignore:`is_gradient_checkpointing` is deprecated:FutureWarning"),
]


@pytest.fixture(scope="module")
def ingredients(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Path, Path]]:
    """A model's folder, whose embeddings must grow by `<pad>`, and data prepared for it."""
    from trainer.training import engine

    folder = tmp_path_factory.mktemp("ingredients")
    source = small_models.save("llama", folder / "model", vocab_size=500)
    small_models.prepare(source, folder / "data")
    yield source, folder / "data"
    engine.leave()


def ran(ingredients: tuple[Path, Path], out: Path, **changes: Any) -> Path:
    from trainer.training.train import train

    train(trained.settings(*ingredients, out, max_steps=4, save_every=2, **changes), trained.Told())
    return out


@pytest.fixture(scope="module")
def run(ingredients: tuple[Path, Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    return ran(ingredients, tmp_path_factory.mktemp("runs") / "run", precision="bf16")


def weights(folder: Path) -> bytes:
    return (folder / "model.safetensors").read_bytes()


def test_the_last_checkpoint_is_the_model_that_the_run_wrote(run: Path, cli: Cli, tmp_path: Path) -> None:
    assert cli("export", run) == (0, f"{run}/models/step-000004\n", "")
    assert weights(run / "models" / "step-000004") == weights(run / "model")
    assert config(run / "model")["vocab_size"] == 501


def test_an_earlier_one_is_another_model_whose_fp32_weights_are_kept(run: Path, cli: Cli, tmp_path: Path) -> None:
    import torch

    assert cli("export", run, "--step", 2, "--to", "deep/two", "--shard-size", 0.00005)[0] == 0
    assert cli("export", run, "--step", 2, "--to", "whole", "--dtype", "float32")[0] == 0
    rounded, whole = (load(tmp_path / one, dtype="auto").state_dict() for one in ("deep/two", "whole"))
    last = load(run / "model", dtype="auto").state_dict()
    assert all(torch.equal(rounded[name], one.bfloat16()) for name, one in whole.items())
    assert any(not torch.equal(rounded[name].float(), one) for name, one in whole.items())
    assert not any(torch.equal(rounded[name], one) for name, one in last.items())
    assert len(list((tmp_path / "deep" / "two").glob("model-*.safetensors"))) > 2


@pytest.mark.parametrize("family", ["gpt_neox", "opt"])
def test_weights_that_are_tied_or_bear_another_name_in_files_are_found(cli: Cli, tmp_path: Path, family: str) -> None:
    source = small_models.save(family, tmp_path / "model")
    small_models.prepare(source, tmp_path / "data")
    out = ran((source, tmp_path / "data"), tmp_path / "run")
    assert cli("export", out)[0] == 0
    assert weights(out / "models" / "step-000004") == weights(out / "model")
    assert not load(out / "model").get_output_embeddings().weight.equal(load(source).get_output_embeddings().weight)


@pytest.mark.parametrize("precision", ["bf16", "fp32"])
def test_adapters_are_merged_from_a_checkpoint_as_by_the_run(
    ingredients: tuple[Path, Path], cli: Cli, tmp_path: Path, precision: str
) -> None:
    out = ran(ingredients, tmp_path / "lora", lora_rank=4, lora_dropout=0.1, precision=precision)
    assert cli("export", out)[0] == 0
    found = out / "models" / "step-000004"
    assert weights(found) == weights(out / "model")
    assert (found / "adapter" / "adapter_model.safetensors").read_bytes() == (
        out / "model" / "adapter" / "adapter_model.safetensors"
    ).read_bytes()
    base, tuned = load(ingredients[0]).state_dict(), load(found).state_dict()
    changed = {name for name, one in base.items() if not one.equal(tuned[name][: len(one)].to(one.dtype))}
    linear = {name for name in base if "_proj" in name}
    assert linear <= changed
    assert precision == "bf16" or linear == changed  # else all others are rounded


def test_what_is_not_there_is_told_in_a_sentence(run: Path, cli: Cli, tmp_path: Path) -> None:
    assert cli("export", run, "--step", 3) == (1, "", f"Error: {run} holds no checkpoint of step 3; there are 2, 4.\n")
    (tmp_path / "empty").mkdir()
    code, _, told = cli("export", "empty")
    assert (code, told) == (1, "Error: empty holds no checkpoint: give the folder that a recipe names `out`.\n")
    (tmp_path / "notes").mkdir()
    (tmp_path / "notes" / "mine.txt").write_text("mine")
    code, _, told = cli("export", run, "--to", "notes")
    assert (code, told) == (1, "Error: notes holds something else than a model: give another folder with --to.\n")


def test_a_damaged_checkpoint_is_not_exported(ingredients: tuple[Path, Path], cli: Cli, tmp_path: Path) -> None:
    out = ran(ingredients, tmp_path / "run")
    (file,) = (out / "checkpoints" / "step-000004").glob("*.safetensors")
    content = bytearray(file.read_bytes())
    content[-100] ^= 1
    file.write_bytes(content)
    code, _, told = cli("export", out)
    assert code == 1
    assert told.endswith("is not what was written there: export another step with --step; there are 2, 4.\n")
    assert cli("export", out, "--step", 2)[0] == 0
