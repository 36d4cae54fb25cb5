"""Adapters are folded into their weights as peft does it, and stand beside them as peft reads them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("peft")

from tests.trainer import small_models
from tests.trainer.exporting import framed, parameters

from trainer.errors import TrainerError
from trainer.exporting import export
from trainer.exporting.merge import merged

pytestmark = [
    pytest.mark.torch,
    # peft 0.21 asks transformers 5.23 by a name that is to go.
    pytest.mark.filterwarnings("ignore:`is_gradient_checkpointing` is deprecated:FutureWarning"),
]


@pytest.fixture(scope="module", params=["llama", "gpt_neox"])
def adapted(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Any, Any]:
    """A checkpoint folder, and its model with an adapter that is no longer the one it began with."""
    import torch
    from peft import LoraConfig, get_peft_model
    from transformers import AutoModelForCausalLM

    folder = small_models.save(request.param, tmp_path_factory.mktemp("models") / request.param)
    lora = LoraConfig(r=4, lora_alpha=12, lora_dropout=0.1, target_modules="all-linear", task_type="CAUSAL_LM")
    model = get_peft_model(AutoModelForCausalLM.from_pretrained(folder), lora)
    torch.manual_seed(1)
    with torch.no_grad():
        for name, one in model.named_parameters():
            if "lora_" in name:
                one.copy_(torch.randn_like(one))
    return folder, model, lora


def exported(adapted: tuple[Path, Any, Any], place: Path) -> Path:
    folder, model, lora = adapted
    return export.export(parameters(model), framed(folder, place / "frame", lora=lora), place / "model")


def test_an_adapted_weight_is_peft_s_merge_bit_for_bit(adapted: tuple[Path, Any, Any], tmp_path: Path) -> None:
    import copy

    import torch
    from transformers import AutoModelForCausalLM

    found = AutoModelForCausalLM.from_pretrained(exported(adapted, tmp_path)).state_dict()
    wanted = copy.deepcopy(adapted[1]).merge_and_unload().state_dict()
    assert list(found) == list(wanted)
    assert all(torch.equal(found[name], one) for name, one in wanted.items())
    base = AutoModelForCausalLM.from_pretrained(adapted[0]).state_dict()
    changed = {name for name, one in wanted.items() if not torch.equal(one, base[name])}
    assert changed == {name for name in base if "layers" in name and base[name].dim() == 2}


def test_the_adapter_beside_it_is_what_peft_reads(adapted: tuple[Path, Any, Any], tmp_path: Path) -> None:
    import torch
    from peft import PeftModel
    from transformers import AutoModelForCausalLM

    out = exported(adapted, tmp_path)
    found = PeftModel.from_pretrained(AutoModelForCausalLM.from_pretrained(adapted[0]), out / "adapter").state_dict()
    told = json.loads((out / "adapter" / "adapter_config.json").read_text())
    assert (told["base_model_name_or_path"], told["r"], told["lora_alpha"]) == (str(adapted[0]), 4, 12)
    wanted = adapted[1].state_dict()
    assert list(found) == list(wanted)
    assert all(torch.equal(found[name], one) for name, one in wanted.items())


def test_a_layer_of_which_a_part_is_missing_is_named() -> None:
    import torch

    parts = [("a.proj.base_layer.weight", torch.ones(2, 2)), ("a.proj.lora_A.default.weight", torch.ones(1, 2))]
    with pytest.raises(TrainerError, match=r"^Of the adapted layer a\.proj not all parts are there"):
        list(merged(parts, 1.0))


def test_what_is_no_adapter_s_passes_as_it_is() -> None:
    import torch

    given = {"base_model.model.a.proj.base_layer.bias": torch.ones(2), "b.weight": torch.ones(2).bfloat16()}
    assert [(name, one.dtype) for name, one in merged(given.items(), 1.0)] == [
        ("a.proj.bias", torch.float32),
        ("b.weight", torch.bfloat16),
    ]
