"""Sizes of models and the operations of training them."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from trainer.errors import DataError
from trainer.estimating.compute import device, flops, flops_per_token, pairs, peak_flops
from trainer.estimating.shape import KNOWN, find, read


@pytest.mark.parametrize(
    ("name", "parameters"),
    [
        ("llama-7b", 6_738_415_616),
        ("llama-13b", 13_015_864_320),
        ("llama-30b", 32_528_943_616),
        ("llama-65b", 65_285_660_672),
        ("opt-6.7b", 6_658_473_984),
        ("pythia-6.9b", 6_857_302_016),
    ],
)
def test_a_known_model_has_the_parameters_its_authors_publish(name: str, parameters: int) -> None:
    assert KNOWN[name].parameters == parameters


@pytest.mark.parametrize("model", ["llama-7b", "models/Llama_7B", "huggyllama/llama-7b", "weights/llama-7b-hf"])
def test_a_known_size_is_found_by_name(model: str) -> None:
    assert find(model) == KNOWN["llama-7b"]


def test_llama_2_is_not_taken_for_llama() -> None:
    with pytest.raises(DataError, match="ends in no known size"):
        find("meta-llama/Llama-2-70b")


def test_a_folder_s_config_is_read_before_its_name(tmp_path: Path) -> None:
    folder = tmp_path / "llama-7b"
    folder.mkdir()
    config = {"model_type": "llama", "num_hidden_layers": 2, "hidden_size": 8, "intermediate_size": 16}
    (folder / "config.json").write_text(json.dumps(config | {"num_attention_heads": 2, "vocab_size": 10}))
    assert find(str(folder)).parameters == 2 * (4 * 64 + 3 * 128 + 2 * 8) + 2 * 80 + 8


def test_a_config_that_lacks_a_size_says_which() -> None:
    with pytest.raises(DataError, match=r"config\.json lacks 'num_attention_heads'"):
        read({"model_type": "opt", "hidden_size": 8})


def test_an_underived_family_is_refused_by_name() -> None:
    with pytest.raises(DataError, match="of type 'mamba'"):
        read({"model_type": "mamba"})


def test_a_grown_vocabulary_costs_a_row_of_embedding_and_of_head() -> None:
    assert KNOWN["llama-7b"].with_vocabulary(32_001).parameters - KNOWN["llama-7b"].parameters == 2 * 4096
    assert KNOWN["llama-7b"].with_vocabulary(10) == KNOWN["llama-7b"]


def test_operations_are_six_to_a_matrix_element() -> None:
    shape = KNOWN["llama-7b"]
    matrices = shape.layers * shape.layer_matrices + shape.table
    assert flops_per_token(shape) == 6 * matrices
    assert flops(shape, tokens=10, supervised=10, pairs=0) == 60 * matrices


def test_the_head_costs_where_something_is_learnt() -> None:
    shape = KNOWN["pythia-6.9b"]
    assert flops_per_token(shape, supervised=0) == 6 * shape.layers * shape.layer_matrices
    assert flops_per_token(shape) - flops_per_token(shape, supervised=0.25) == 6 * 0.75 * shape.table


def test_attention_counts_a_document_s_own_past() -> None:
    shape = KNOWN["opt-6.7b"]
    assert pairs([1, 3, 2]) == 1 + 6 + 3
    both = flops(shape, tokens=6, supervised=0, pairs=pairs([1, 3, 2]))
    assert both - flops(shape, tokens=6, supervised=0, pairs=0) == 12 * 10 * 32 * 4096


def test_recomputing_adds_the_layers_forward() -> None:
    shape = KNOWN["llama-7b"]
    more = flops_per_token(shape, length=1, recompute=True) - flops_per_token(shape, length=1)
    assert more == shape.layers * (2 * shape.layer_matrices + 4 * shape.queries)


def test_frozen_matrices_have_no_gradient_of_their_own() -> None:
    assert flops_per_token(KNOWN["llama-7b"], trained=0) == flops_per_token(KNOWN["llama-7b"]) * 2 / 3


@pytest.mark.parametrize(
    ("name", "peak"),
    [
        ("NVIDIA A100-SXM4-80GB", 312e12),
        ("NVIDIA H100 80GB HBM3", 989e12),
        ("NVIDIA H100 PCIe", 756e12),
        ("AMD Instinct MI250X/MI250", 191.5e12),
        ("NVIDIA A10", 125e12),
        ("NVIDIA A10G", 70e12),
        ("NVIDIA RTX A6000", 154.8e12),
        ("h100", 989e12),
        ("cpu", None),
    ],
)
def test_a_device_is_known_by_torch_s_name_for_it(name: str, peak: float | None) -> None:
    assert peak_flops(name) == peak


def test_half_a_card_of_mi250x_is_a_device() -> None:
    found = device("mi250x")
    assert found is not None
    assert (found.memory, found.note) == (64, "one of a card's two dies, which torch calls a device")
