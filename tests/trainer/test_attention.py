"""Documents in a row do not see each other, and a model in which they do is refused before the first step."""

from __future__ import annotations

from typing import Any

import pytest

from trainer.errors import ModelError, UnknownName

small = pytest.importorskip("tests.trainer.small_models")
torch = pytest.importorskip("torch")
attention = pytest.importorskip("trainer.training.attention")
isolation = pytest.importorskip("trainer.training.isolation")

pytestmark = pytest.mark.torch

KINDS = ("llama", "opt", "gpt_neox")


def learner(family: str, kind: Any = "documents", dtype: Any = torch.float32, **changes: Any) -> Any:
    made = small.causal(family, **changes).to(dtype)
    return small.Learner(made, datasets=1, kind=kind, logits_bytes=2**28)


def rows(*documents: tuple[int, ...]) -> Any:
    none = torch.zeros(0, dtype=torch.long)
    return small.Batch(
        ids=torch.stack([torch.arange(sum(row)) * 31 % 500 for row in documents]),
        positions=torch.stack([torch.cat([torch.arange(length) for length in row]) for row in documents]),
        documents=documents,
        places=none,
        targets=none,
        weights=none.float(),
        datasets=none,
        most=0,
    )


@pytest.mark.parametrize("family", KINDS)
@pytest.mark.parametrize("kind", ["documents", "mask"])
@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_nothing_of_a_document_reaches_another(family: str, kind: str, dtype: str) -> None:
    seen = isolation.check(learner(family, kind, getattr(torch, dtype)), "cpu")
    assert seen.leak == 0
    assert seen.company < (1e-6 if dtype == "float32" else 0.03)
    assert seen.head == 0


@pytest.mark.parametrize("family", KINDS)
def test_attention_by_documents_is_that_by_mask_in_several_rows_with_padding(family: str) -> None:
    batch = rows((7, 5, 12), (24,), (3, 1, 1, 19))
    with torch.no_grad():
        ours = learner(family).hidden(batch)
        theirs = learner(family, "mask").hidden(batch)
    assert float((ours - theirs).abs().max() / theirs.abs().max()) < 1e-6


def test_a_mask_is_causal_within_documents_and_empty_between_them() -> None:
    assert attention.mask(rows((2, 1), (1, 2)))[:, 0].int().tolist() == [
        [[1, 0, 0], [1, 1, 0], [0, 0, 1]],
        [[1, 0, 0], [0, 1, 0], [0, 1, 1]],
    ]


def test_opt_left_to_transformers_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    module = learner("opt")
    module.model.set_attn_implementation("sdpa")
    monkeypatch.setattr(attention, "arguments", lambda *_: {})
    seen = isolation.look(module, "cpu")
    assert seen.leak > 0.01
    with pytest.raises(ModelError, match=r"^Documents of one row are not kept apart in this opt .*: set attention"):
        isolation.check(module, "cpu")


def test_positions_that_run_on_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    module = learner("opt")
    inputs = small.Learner._inputs

    def running(self: Any, batch: Any) -> dict[str, Any]:
        told: dict[str, Any] = inputs(self, batch)
        return told | {"position_ids": torch.arange(batch.ids.shape[1])[None]}

    monkeypatch.setattr(small.Learner, "_inputs", running)
    seen = isolation.look(module, "cpu")
    assert seen.leak == 0
    with pytest.raises(ModelError, match="not kept apart"):
        isolation.check(module, "cpu")


def test_a_head_whose_logits_are_scaled_is_refused() -> None:
    from transformers import CohereConfig, CohereForCausalLM

    config = CohereConfig(
        hidden_size=32, intermediate_size=32, num_hidden_layers=1, num_attention_heads=2, vocab_size=500,
        logit_scale=0.25, pad_token_id=0, bos_token_id=1, eos_token_id=2,
    )  # fmt: skip
    module = small.Learner(CohereForCausalLM(config), datasets=1, kind="documents", logits_bytes=2**28)
    with pytest.raises(ModelError, match=r"^The logits of this cohere are .* scaled or capped"):
        isolation.check(module, "cpu")


def test_families_with_attention_of_their_own_are_refused_or_given_a_mask() -> None:
    from transformers import (
        BloomConfig,
        BloomForCausalLM,
        FalconConfig,
        FalconForCausalLM,
        MambaConfig,
        MambaForCausalLM,
    )

    ids = {"vocab_size": 500, "bos_token_id": 1, "eos_token_id": 2, "pad_token_id": 0}
    bloom = BloomForCausalLM(BloomConfig(hidden_size=32, n_layer=1, n_head=2, **ids))
    falcon = FalconForCausalLM(FalconConfig(hidden_size=32, num_hidden_layers=1, num_attention_heads=2, **ids))
    mamba = MambaForCausalLM(MambaConfig(hidden_size=32, num_hidden_layers=1, state_size=4, **ids))
    told = {"datasets": 1, "logits_bytes": 2**28}
    for causal in (bloom, falcon, mamba):
        with pytest.raises(ModelError, match=r"^Documents of one row are not kept apart in this"):
            isolation.check(small.Learner(causal, kind="documents", **told), "cpu")
    assert isolation.check(small.Learner(falcon, kind="mask", **told), "cpu").leak == 0
    with pytest.raises(ModelError, match=r"^A bloom cannot be read with documents in one row \(ValueError: "):
        isolation.check(small.Learner(bloom, kind="mask", **told), "cpu")
    with pytest.raises(ModelError, match=r"^A mamba cannot attend by mask, so its documents cannot share rows"):
        small.Learner(mamba, kind="mask", **told)


def test_a_window_shorter_than_a_document_is_refused() -> None:
    from transformers import MistralConfig, MistralForCausalLM

    config = MistralConfig(
        hidden_size=32, intermediate_size=32, num_hidden_layers=1, num_attention_heads=2, num_key_value_heads=1,
        vocab_size=500, sliding_window=16,
    )  # fmt: skip
    module = small.Learner(MistralForCausalLM(config), datasets=1, kind="documents", logits_bytes=2**28)
    isolation.check(module, "cpu")
    with pytest.raises(ModelError, match="windows of 16 tokens and a document has 20"):
        module.hidden(rows((20, 4)))


def test_dropout_does_not_disturb_the_look_and_is_left_on() -> None:
    module = learner("opt", dropout=0.5).train()
    assert isolation.check(module, "cpu").leak == 0
    assert module.training
    assert all(one.training for one in module.modules())


def test_what_auto_means_depends_on_the_device() -> None:
    cpu, cuda = torch.device("cpu"), torch.device("cuda")
    assert attention.choose("auto", cpu, torch.bfloat16) == "documents"
    assert attention.choose("auto", cuda, torch.float32) == "documents"
    assert attention.choose("auto", cuda, torch.bfloat16) == "varlen"
    assert attention.choose("mask", cuda, torch.bfloat16) == "mask"
    with pytest.raises(ModelError, match="varlen needs bf16 on an NVIDIA GPU"):
        attention.choose("varlen", cpu, torch.bfloat16)
    with pytest.raises(UnknownName, match="Did you mean 'documents'"):
        attention.choose("document", cpu, torch.bfloat16)


@pytest.mark.parametrize("family", KINDS)
def test_flash_attention_is_told_of_the_same_documents(family: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """FlashAttention needs a GPU: what stands in for it here is plain attention over the ends that it is given."""
    import torch.nn.attention.varlen as module

    monkeypatch.setattr(module, "varlen_attn", over_ends)
    batch = rows((7, 5, 12), (24,), (3, 1, 1, 19))
    with torch.no_grad():
        ours = learner(family, "varlen").hidden(batch)
        theirs = learner(family, "mask").hidden(batch)
    assert float((ours - theirs).abs().max() / theirs.abs().max()) < 1e-6


def over_ends(*given: Any, **told: Any) -> Any:
    """``varlen_attn`` as its documentation describes it: (tokens, heads, size) and the cumulative lengths."""
    query, key, value, ends, also, longest, too = given
    assert ends.dtype == torch.int32
    assert ends is also
    assert told["window_size"] == (-1, 0)
    assert longest == too == int(ends.diff().max())
    pieces = [
        torch.nn.functional.scaled_dot_product_attention(
            *(one[start:end].transpose(0, 1)[None] for one in (query, key, value)),
            is_causal=True,
            scale=told["scale"],
            enable_gqa=told["enable_gqa"],
        )[0].transpose(0, 1)
        for start, end in zip(ends[:-1].tolist(), ends[1:].tolist(), strict=True)
    ]
    return torch.cat(pieces)
