"""A model is loaded whole or refused in one sentence that says what to do; so is one that does not fit its data."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from tests.trainer import preparing
from tests.trainer.plugin import Cli

from trainer.errors import DataError, ModelError, TokenizerError
from trainer.rendering import render

small = pytest.importorskip("tests.trainer.small_models")
torch = pytest.importorskip("torch")
model = pytest.importorskip("trainer.training.model")

pytestmark = pytest.mark.torch


@pytest.fixture(scope="module")
def sound(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """A model's folder and data that fits it."""
    folder = tmp_path_factory.mktemp("sound")
    source = small.save("llama", folder / "model")
    return source, small.prepare(source, folder / "data")


@pytest.fixture
def copy(sound: Any, tmp_path: Path) -> Path:
    """A copy of the model's folder to damage."""
    return Path(shutil.copytree(sound[0], tmp_path / "model"))


def without(name: str) -> Callable[[dict[str, Any]], None]:
    def change(weights: dict[str, Any]) -> None:
        for one in [one for one in weights if name in one]:
            del weights[one]

    return change


def rewrite(folder: Path, change: Callable[[dict[str, Any]], None]) -> None:
    from safetensors.torch import load_file, save_file

    weights = load_file(folder / "model.safetensors")
    change(weights)
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})


@pytest.mark.parametrize("family", small.KINDS)
@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_a_model_comes_whole_in_the_precision_that_is_asked(family: str, dtype: str, tmp_path: Path) -> None:
    source = small.save(family, tmp_path / "model")
    found = model.load(str(source), getattr(torch, dtype))
    assert {one.dtype for one in found.parameters()} == {getattr(torch, dtype)}
    assert found.config.use_cache is False
    wanted = small.causal(family)
    for name, one in found.named_parameters():
        assert torch.equal(one, wanted.get_parameter(name).to(one.dtype))


def test_a_weight_that_is_missing_is_named_and_never_drawn_at_random(copy: Path) -> None:
    rewrite(copy, without("layers.1.mlp"))
    with pytest.raises(ModelError) as error:
        model.load(str(copy), torch.float32)
    assert str(error.value) == (
        f"{copy} lacks weights that a llama has, or has them in other shapes: model.layers.1.mlp.down_proj.weight,"
        " model.layers.1.mlp.gate_proj.weight, model.layers.1.mlp.up_proj.weight; copy the model anew."
    )


def test_a_weight_of_another_shape_is_named(copy: Path, capfd: pytest.CaptureFixture[str]) -> None:
    rewrite(copy, lambda weights: weights.update({"model.norm.weight": torch.ones(7)}))
    with pytest.raises(ModelError, match=r"model\.norm\.weight"):
        model.load(str(copy), torch.float32)
    assert capfd.readouterr() == ("", "")


def test_files_that_are_missing_or_cut_off_are_told(copy: Path) -> None:
    weights = copy / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-1000])
    with pytest.raises(ModelError, match=r"^The weights of .* cannot be loaded \(.*\); copy the model anew\.$"):
        model.load(str(copy), torch.float32)
    weights.unlink()
    with pytest.raises(ModelError, match=r"^The weights of .* cannot be loaded \(.*model\.safetensors.*\); copy"):
        model.load(str(copy), torch.float32)
    (copy / "config.json").unlink()
    with pytest.raises(ModelError, match=r"holds no config\.json: give the folder of a model"):
        model.load(str(copy), torch.float32)


def test_settings_that_are_no_json_or_of_no_causal_model_are_told(copy: Path) -> None:
    (copy / "config.json").write_text("{")
    with pytest.raises(ModelError, match=r"^The settings of the model .* cannot be read"):
        model.read_config(str(copy))
    (copy / "config.json").write_text(json.dumps({"model_type": "vit"}))
    with pytest.raises(ModelError, match="is a vit, which predicts no next token"):
        model.read_config(str(copy))


def test_a_model_and_the_data_prepared_for_it_fit(sound: Any) -> None:
    source, prepared = sound
    tokenizer = model.check(str(source), prepared)
    assert tokenizer.source == str(source)
    assert model.growth(str(source), tokenizer) == ""


def test_data_of_another_tokenizer_is_refused(sound: Any, tmp_path: Path) -> None:
    other = small.save("gpt_neox", tmp_path / "other")
    with pytest.raises(ModelError, match=r"was prepared with another tokenizer than that of .* --tokenizer .*other"):
        model.check(str(other), sound[1])


def test_a_folder_without_a_tokenizer_says_which_files_it_needs(copy: Path, sound: Any) -> None:
    (copy / "tokenizer.model").unlink()
    with pytest.raises(TokenizerError, match="holds no tokenizer: copy there the tokenizer files"):
        model.check(str(copy), sound[1])


def test_ids_beyond_the_embeddings_are_refused(sound: Any) -> None:
    from dataclasses import replace

    tokens = sound[1].tokens.copy()
    tokens[17] = 512
    with pytest.raises(ModelError, match=r"holds token 512 and .* has 512 embeddings: prepare the data anew"):
        model.check(str(sound[0]), replace(sound[1], tokens=tokens))


def test_examples_longer_than_the_model_s_positions_are_refused(copy: Path, sound: Any) -> None:
    config = json.loads((copy / "config.json").read_text())
    longest = int(sound[1].lengths.max())
    (copy / "config.json").write_text(json.dumps(config | {"max_position_embeddings": longest}))
    model.check(str(copy), sound[1])
    (copy / "config.json").write_text(json.dumps(config | {"max_position_embeddings": longest - 1}))
    with pytest.raises(ModelError) as error:
        model.check(str(copy), sound[1])
    assert str(error.value) == (
        f"The longest example of {sound[1].folder} has {longest} tokens and {copy} has positions for {longest - 1}:"
        f" prepare the data with --max-length {longest - 1}."
    )


def test_a_plan_refuses_examples_longer_than_the_positions_in_the_same_words(
    cli: Cli, copy: Path, sound: Any, tmp_path: Path
) -> None:
    config = json.loads((copy / "config.json").read_text())
    (copy / "config.json").write_text(json.dumps(config | {"max_position_embeddings": 64}))
    with pytest.raises(ModelError) as error:
        model.check(str(copy), sound[1])
    recipe = tmp_path / "recipe.toml"
    recipe.write_text(f'model = "{copy}"\ndata = "{sound[1].folder}"\nout = "out"\n')
    code, out, err = cli("plan", recipe, "--gpus", 1)
    assert (code, out) == (1, "")
    assert str(error.value) in err


def test_a_dataset_with_nothing_to_learn_is_refused_by_name(sound: Any, tmp_path: Path) -> None:
    rows = preparing.rows(20)
    rows += [
        {"dataset": "silent", "id": f"s{number}", "messages": [{"role": "user", "content": "Hello"}]}
        for number in range(3)
    ]
    file = preparing.write(tmp_path / "rows.jsonl", rows)
    made, _ = preparing.made(file, render.load(str(sound[0]), max_length=120), tmp_path / "data")
    with pytest.raises(DataError, match=r"^Nothing is learnt from silent: of 3 conversations none leaves a learnt"):
        model.check(str(sound[0]), made)


@pytest.mark.parametrize("family", small.KINDS)
@pytest.mark.parametrize("tied", [True, False])
def test_new_embeddings_are_the_mean_of_the_old(family: str, tied: bool, tmp_path: Path) -> None:
    source = small.save(family, tmp_path / "model", tie_word_embeddings=tied)
    old, new = (model.load(str(source), torch.float32, rows=rows) for rows in (0, 515))
    assert new.config.vocab_size == 515
    for get in ("get_input_embeddings", "get_output_embeddings"):
        before, after = (getattr(one, get)().weight for one in (old, new))
        assert after.shape == (515, small.SIZE)
        assert torch.equal(after[:512], before)
        assert torch.allclose(after[512:], before.mean(0).expand(3, -1), atol=1e-7)
    same = new.get_input_embeddings().weight is new.get_output_embeddings().weight
    assert same is tied
    none = model.load(str(source), torch.float32, rows=500)
    assert none.config.vocab_size == 512


def test_a_tokenizer_with_more_entries_than_the_model_makes_it_grow(tmp_path: Path) -> None:
    """LLaMA's own 32,000 and the <pad> that is added to them, in small."""
    source = small.save("llama", tmp_path / "model", vocab_size=500)
    prepared = small.prepare(source, tmp_path / "data")
    tokenizer = model.check(str(source), prepared)
    assert tokenizer.new == ("<pad>",)
    assert tokenizer.size == 501
    assert model.growth(str(source), tokenizer) == (
        f"The tokenizer of {source} has 501 entries and the model 500 embeddings: the new ones (<pad>) begin as the"
        " mean of the others."
    )
    learner = small.built(source, prepared)
    assert learner.model.config.vocab_size == 501
    assert len(learner.model.get_output_embeddings().weight) == 501


def test_a_model_folder_that_is_not_there_is_told_without_a_network(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=r"^There is no model folder .*nowhere: give one in Hugging Face's layout"):
        model.read_config(str(tmp_path / "nowhere"))
