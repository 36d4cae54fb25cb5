"""A run's parameters become a checkpoint folder, whole or not at all, one tensor at a time."""

from __future__ import annotations

import json
import resource
import weakref
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("torch")

from tests.trainer import small_models
from tests.trainer.exporting import config, framed, load, made_of, parameters

from trainer.errors import TrainerError
from trainer.exporting import export, frame

pytestmark = pytest.mark.torch


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    root = tmp_path_factory.mktemp("models")
    return {family: small_models.save(family, root / family) for family in small_models.KINDS}


@pytest.mark.parametrize("limit", [30_000, 10**9])
@pytest.mark.parametrize("family", small_models.KINDS)
def test_what_is_exported_is_what_was_trained(
    folders: dict[str, Path], tmp_path: Path, family: str, limit: int
) -> None:
    import torch

    model = load(folders[family])
    with torch.no_grad():
        for one in model.parameters():
            one.add_(torch.randn_like(one))
    out = export.export(
        parameters(model), framed(folders[family], tmp_path / "frame"), tmp_path / "model", shard_bytes=limit
    )
    found = load(out).state_dict()
    assert all(torch.equal(found[name], one) for name, one in model.state_dict().items())
    assert len(found) == len(model.state_dict())
    several = sorted(one.name for one in out.glob("*.safetensors*"))
    assert (several == ["model.safetensors"]) == (limit == 10**9)
    assert ("model.safetensors.index.json" in several) == (limit != 10**9)
    if family == "gpt_neox":
        assert b'"embed_out.weight"' in b"".join(one.read_bytes()[:9000] for one in out.glob("*.safetensors"))
    assert all(one.stat().st_size < limit + 100_000 for one in out.glob("*.safetensors"))  # an embedding is 98,304


@pytest.mark.parametrize("tied", [True, False])
def test_tied_weights_are_written_once(tmp_path: Path, tied: bool) -> None:
    from safetensors import safe_open

    folder = small_models.save("llama", tmp_path / "base", tie_word_embeddings=tied)
    out = export.export(parameters(load(folder)), framed(folder, tmp_path / "frame"), tmp_path / "model")
    with safe_open(out / "model.safetensors", "pt") as file:
        assert ("lm_head.weight" in file.keys()) is not tied  # noqa: SIM118
        assert file.metadata()["format"] == "pt"


def test_other_weights_have_another_header(folders: dict[str, Path], tmp_path: Path) -> None:
    from safetensors import safe_open

    model = load(folders["llama"])
    place = framed(folders["llama"], tmp_path / "frame")
    others = [("model.norm", 0.0), ("none", 0.0), ("model.norm", 1e-3)]
    found = []
    for number, (changed, by) in enumerate(others):
        given = ((name, one + by if changed in name else one) for name, one in parameters(model))
        out = export.export(given, place, tmp_path / str(number))
        with safe_open(out / "model.safetensors", "pt") as file:
            found.append(file.metadata()["sha256"])
    assert found[0] == found[1] != found[2]
    assert all(len(one) == 64 and set(one) != {"0"} for one in found)


def test_a_bf16_run_is_exported_in_bf16_from_its_fp32_weights(folders: dict[str, Path], tmp_path: Path) -> None:
    import torch

    model = load(folders["llama"])
    place = framed(folders["llama"], tmp_path / "frame", dtype="bfloat16")
    out = export.export(parameters(model), place, tmp_path / "model")
    assert config(out)["dtype"] == "bfloat16"
    found = load(out, dtype="auto").state_dict()
    assert all(torch.equal(found[name], one.bfloat16()) for name, one in model.state_dict().items())
    whole = export.export(parameters(model), place, tmp_path / "whole", dtype="float32")
    assert config(whole)["dtype"] == "float32"
    assert torch.equal(load(whole, dtype="auto").state_dict()["lm_head.weight"], model.state_dict()["lm_head.weight"])


def test_no_more_than_one_parameter_is_alive_at_a_time(folders: dict[str, Path], tmp_path: Path) -> None:
    import torch

    model = load(folders["llama"])
    alive: list[Any] = []
    most = 0

    def gathered() -> Iterator[tuple[str, torch.Tensor]]:
        nonlocal most
        for name, one in parameters(model):
            whole = one.clone()
            alive.append(weakref.ref(whole))
            most = max(most, sum(ref() is not None for ref in alive))
            yield name, whole
            del whole

    export.export(gathered(), framed(folders["llama"], tmp_path / "frame"), tmp_path / "model", shard_bytes=30_000)
    assert len(alive) == len(list(model.parameters()))
    assert most <= 2  # the one that is made, and the one that was written, which the loop's variable still names


def test_a_folder_is_replaced_by_a_whole_one_only(folders: dict[str, Path], tmp_path: Path) -> None:
    model = load(folders["opt"])
    place = framed(folders["opt"], tmp_path / "frame")
    out = export.export(parameters(model), place, tmp_path / "model")
    before = (out / "model.safetensors").read_bytes()

    def killed() -> Iterator[tuple[str, Any]]:
        yield from list(parameters(model))[:5]
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        export.export(killed(), place, out)
    assert (out / "model.safetensors").read_bytes() == before
    assert sorted(one.name for one in tmp_path.iterdir()) == ["frame", "model"]
    export.export(((name, one + 1) for name, one in parameters(model)), place, out)
    assert (out / "model.safetensors").read_bytes() != before
    assert sorted(one.name for one in tmp_path.iterdir()) == ["frame", "model"]


def test_weights_that_are_missing_or_others_are_named(folders: dict[str, Path], tmp_path: Path) -> None:
    model = load(folders["opt"])
    place = framed(folders["opt"], tmp_path / "frame")
    some = [(name, one) for name, one in parameters(model) if "final_layer_norm" not in name]
    with pytest.raises(TrainerError, match=r"^6 of 36 weights are missing, model\.decoder\.final_layer_norm\.weight "):
        export.export(some, place, tmp_path / "model")
    with pytest.raises(TrainerError, match=r"^The weight lm\.head has the shape \(\d+, \d+\); .* no such weight"):
        export.export([("model.lm.head", one) for _, one in some[:1]], place, tmp_path / "model")
    with pytest.raises(TrainerError, match=r"came twice"):
        export.export([some[0], some[0]], place, tmp_path / "model")
    assert not (tmp_path / "model").exists()


def test_a_full_disk_is_one_sentence_and_leaves_nothing(folders: dict[str, Path], tmp_path: Path) -> None:
    model = load(folders["opt"])
    place = framed(folders["opt"], tmp_path / "frame")
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (40_000, before[1]))  # what a full disk is to a program, nearly
    try:
        with pytest.raises(TrainerError, match=r"model could not be written \(File too large\); nothing is lost"):
            export.export(parameters(model), place, tmp_path / "model")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert [one.name for one in tmp_path.iterdir()] == ["frame"]


@pytest.mark.parametrize(
    ("family", "vocabulary", "ids"),
    [("llama", 513, (1, 2, 500)), ("gpt_neox", 512, (None, 0, 1)), ("opt", 512, (2, 2, 1))],
)
def test_the_frame_says_where_texts_begin_and_end(
    folders: dict[str, Path], tmp_path: Path, family: str, vocabulary: int, ids: tuple[int | None, int, int]
) -> None:
    from transformers import AutoTokenizer

    from trainer.rendering import template

    place = framed(folders[family], tmp_path / "frame", dtype="bfloat16", vocabulary=vocabulary)
    made = config(place)
    assert (made["vocab_size"], made["dtype"], made["architectures"]) == (
        vocabulary,
        "bfloat16",
        config(folders[family])["architectures"],
    )
    told = json.loads((place / "generation_config.json").read_text())
    assert (told.get("bos_token_id"), told["eos_token_id"], told["pad_token_id"]) == ids
    assert (made["eos_token_id"], made["pad_token_id"]) == ids[1:]
    loaded = AutoTokenizer.from_pretrained(place)
    assert (loaded.eos_token_id, loaded.pad_token_id) == ids[1:]
    assert loaded.chat_template == template.tulu_jinja()


def test_an_answer_that_ends_otherwise_than_a_text_ends_generation_too(
    folders: dict[str, Path], tmp_path: Path
) -> None:
    jinja = tmp_path / "own.jinja"
    jinja.write_text("{% for m in messages %}{{ m['role'] + ':' + m['content'] + '<s>' }}{% endfor %}")
    told = made_of(folders["llama"], str(jinja))
    place = frame.write(tmp_path / "frame", model=str(folders["llama"]), made_of=told, vocabulary=512, dtype="float32")
    assert json.loads((place.folder / "generation_config.json").read_text())["eos_token_id"] == [1, 2]
    assert (place.folder / "chat_template.jinja").read_text() == jinja.read_text()
    jinja.write_text(jinja.read_text().replace(":", "-"))
    with pytest.raises(TrainerError, match=r"was prepared with the template .*own\.jinja, which is another one now"):
        frame.write(tmp_path / "other", model=str(folders["llama"]), made_of=told, vocabulary=512, dtype="float32")


def test_a_family_that_would_be_written_in_another_form_is_refused_before_training(tmp_path: Path) -> None:
    from transformers import MixtralConfig

    folder = small_models.save("llama", tmp_path / "base")
    MixtralConfig(num_hidden_layers=1, hidden_size=32, intermediate_size=32, vocab_size=512).save_pretrained(folder)
    with pytest.raises(
        TrainerError, match=r"with weights of mixtral in another form than its checkpoints have \(model\.layers"
    ):
        framed(folder, tmp_path / "frame")
    assert [one.name for one in tmp_path.iterdir()] == ["base"]
