"""Loss and gradients of packed batches against transformers' own, one document at a time."""

from __future__ import annotations

from typing import Any

import pytest

from trainer.errors import ModelError
from trainer.planning.plan import Balanced, Examples, Micro, Padded, Plan

small = pytest.importorskip("tests.trainer.small_models")
torch = pytest.importorskip("torch")

pytestmark = pytest.mark.torch

LAYOUTS = ((1, 8), (2, 4), (4, 2))


@pytest.fixture(scope="module", params=("llama", "opt", "gpt_neox"))
def family(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Any:
    """A model's folder and data prepared for it."""
    return _made(request.param, tmp_path_factory)


@pytest.fixture(scope="module")
def llama(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """The same of one family, for what no family can change."""
    return _made("llama", tmp_path_factory)


def _made(kind: str, folders: pytest.TempPathFactory) -> Any:
    folder = folders.mktemp(kind)
    source = small.save(kind, folder / "model")
    return source, small.prepare(source, folder / "data")


def sixteen(prepared: Any) -> Examples:
    return Examples(lengths=prepared.lengths, batch=16)


CHANGES: dict[str, dict[str, Any]] = {
    "documents": {},
    "mask": {"attention": "mask"},
    "checkpointed": {"activation_checkpointing": True},
    "head in pieces": {"logits_bytes": 30 * 512 * 4},
}


@pytest.mark.parametrize("changes", CHANGES.values(), ids=CHANGES)
def test_packed_rows_learn_what_each_document_alone_does(family: Any, changes: dict[str, Any]) -> None:
    source, prepared = family
    examples = sixteen(prepared)
    of_each = small.weigh(examples.ids(0, 0), prepared, reduction="token")
    wanted, theirs = small.one_by_one(source, prepared, of_each)
    packed = Balanced(examples=examples, ranks=1, tokens=400)
    assert any(len(row) > 2 for micro in packed.step(0, 0).ranks[0] for row in micro.rows)
    found, ours, _ = small.step(small.built(source, prepared, **changes), prepared, packed, of_each)
    assert abs(found - wanted) < 1e-5 * wanted
    assert small.distance(ours, theirs) < 1e-5
    assert max(float((ours[name] - one).abs().max()) for name, one in theirs.items()) < 1e-5


@pytest.mark.parametrize("reduction", ["token", "example", "tulu1"])
def test_layouts_give_the_same_gradient(llama: Any, reduction: str) -> None:
    source, prepared = llama
    examples = sixteen(prepared)
    of_each = small.weigh(examples.ids(0, 0), prepared, reduction=reduction, size=2)
    plans: list[Plan] = [Padded(examples=examples, ranks=ranks, size=size) for ranks, size in LAYOUTS]
    plans += [Balanced(examples=examples, ranks=ranks, tokens=130 + 40 * ranks) for ranks in (1, 2, 4)]
    assert len({tuple(map(len, plan.step(0, 0).ranks)) for plan in plans}) == 6
    learner = small.built(source, prepared)
    wanted, theirs, sums = small.step(learner, prepared, plans[0], of_each)
    for plan in plans[1:]:
        found, ours, more = small.step(learner, prepared, plan, of_each)
        assert abs(found - wanted) < 1e-5 * wanted
        assert small.distance(ours, theirs) < 1e-5
        assert torch.allclose(more, sums, rtol=1e-6)


@pytest.mark.parametrize(("ranks", "size"), LAYOUTS)
def test_tulu1_is_the_mean_over_ranks_of_the_means_over_padded_micro_batches(llama: Any, ranks: int, size: int) -> None:
    source, prepared = llama
    examples = sixteen(prepared)
    ids = examples.ids(0, 0)
    wanted, theirs = mean_of_means(source, prepared, ids.tolist(), ranks, size)
    learner = small.built(source, prepared)
    packed = Balanced(examples=examples, ranks=2, tokens=400)
    found, ours, _ = small.step(learner, prepared, packed, small.weigh(ids, prepared, reduction="tulu1", size=size))
    assert abs(found - wanted) < 1e-5 * wanted
    assert small.distance(ours, theirs) < 1e-5
    if size > 1:  # and it is not what the other means give
        for other in ("token", "example"):
            _, others, _ = small.step(learner, prepared, packed, small.weigh(ids, prepared, reduction=other))
            assert small.distance(others, theirs) > 1e-3


def mean_of_means(source: Any, prepared: Any, ids: list[int], ranks: int, size: int) -> tuple[float, Any]:
    """The loop of 2023 as it stood: padded micro-batches in turn to ranks, each loss the library's mean."""
    from transformers import AutoModelForCausalLM

    plain = AutoModelForCausalLM.from_pretrained(source, dtype=torch.float32)
    batches = [ids[start : start + size] for start in range(0, len(ids), size)]
    total = 0.0
    for rank in range(ranks):
        mine = batches[rank::ranks]
        for chosen in mine:
            rows = [prepared[index] for index in chosen]
            width = max(len(row.ids) for row in rows)
            tokens, labels, mask = torch.zeros(3, len(rows), width, dtype=torch.long)
            labels.fill_(-100)
            for place, row in enumerate(rows):
                tokens[place, : len(row.ids)] = torch.from_numpy(row.ids)
                labels[place, : len(row.ids)] = torch.from_numpy(row.labels)
                mask[place, : len(row.ids)] = 1
            loss = plain(input_ids=tokens, attention_mask=mask, labels=labels).loss / len(mine) / ranks
            loss.backward()
            total += loss.item()
    return total, small.gradients(plain)


def test_the_log_s_sums_are_each_dataset_s_own(llama: Any) -> None:
    source, prepared = llama
    examples = sixteen(prepared)
    ids = examples.ids(0, 0)
    plan = Balanced(examples=examples, ranks=2, tokens=300)
    _, _, sums = small.step(
        small.built(source, prepared), prepared, plan, small.weigh(ids, prepared, reduction="example")
    )
    assert prepared.names == ("dolly", "cot")
    for place in (0, 1):
        mine = ids[prepared.datasets[ids] == place]
        weights = small.weigh(mine, prepared, reduction="token")
        mean, _ = small.one_by_one(source, prepared, weights)
        count = round(1 / next(iter(weights.values())))
        assert sums[place, 1] == count
        assert float(sums[place, 0]) / count == pytest.approx(mean, rel=1e-5)


def test_a_rank_without_rows_adds_nothing_and_still_runs_every_layer_and_the_head(llama: Any) -> None:
    source, prepared = llama
    learner = small.built(source, prepared)
    loss, sums = learner(small.batch.make(Micro(rows=(), width=0), prepared, {}))
    loss.backward()
    assert loss.item() == 0
    assert sums.tolist() == [[0, 0], [0, 0]]
    gradients = small.gradients(learner)
    assert gradients.keys() == {name for name, _ in learner.named_parameters()}
    assert not any(one.any() for one in gradients.values())


def test_a_rank_with_few_targets_cuts_them_into_as_many_pieces_as_the_others(llama: Any) -> None:
    source, prepared = llama
    learner = small.built(source, prepared, logits_bytes=512 * 4 * 10)
    calls = []
    learner.model.get_output_embeddings().register_forward_hook(lambda _, inputs, __: calls.append(len(inputs[0])))
    made = small.batch.make(Micro(rows=((0,),), width=int(prepared.lengths[0])), prepared, {0: 1.0}, most=95)
    targets = len(made.targets)
    learner(made)
    assert len(calls) == 10
    assert sum(calls) == targets


def test_bf16_is_near_fp32(family: Any) -> None:
    source, prepared = family
    examples = sixteen(prepared)
    of_each = small.weigh(examples.ids(0, 0), prepared, reduction="token")
    plan = Balanced(examples=examples, ranks=1, tokens=400)
    wanted, theirs, _ = small.step(small.built(source, prepared), prepared, plan, of_each)
    rounded = small.built(source, prepared, precision="bf16")
    found, ours, sums = small.step(rounded, prepared, plan, of_each)
    assert {one.dtype for one in ours.values()} == {torch.bfloat16}
    assert sums.dtype == torch.float64
    assert abs(found - wanted) < 0.02 * wanted
    assert small.distance({name: one.float() for name, one in ours.items()}, theirs) < 0.15


def test_with_lora_only_the_adapters_learn_and_they_begin_as_nothing(family: Any) -> None:
    pytest.importorskip("peft")
    source, prepared = family
    examples = sixteen(prepared)
    of_each = small.weigh(examples.ids(0, 0), prepared, reduction="token")
    plan = Balanced(examples=examples, ranks=1, tokens=400)
    wanted, _, _ = small.step(small.built(source, prepared), prepared, plan, of_each)
    for more in ({}, {"activation_checkpointing": True}):
        learner = small.built(source, prepared, lora_rank=4, **more)
        found, gradients, _ = small.step(learner, prepared, plan, of_each)
        assert found == pytest.approx(wanted, rel=1e-6)
        assert gradients
        assert all("lora_" in name for name in gradients)
        assert any(one.any() for name, one in gradients.items() if "lora_B" in name)
        trained = {name for name, one in learner.model.named_parameters() if one.requires_grad}
        assert trained == gradients.keys()
        layers = {name.split(".lora_")[0].rpartition(".")[2] for name in trained}
        assert "lm_head" not in layers
        assert "embed_out" not in layers
        assert len(layers) >= 4


def test_lora_s_matrices_are_drawn_alike_on_every_rank(llama: Any) -> None:
    pytest.importorskip("peft")
    source, prepared = llama
    first, again, other = (
        dict(small.built(source, prepared, lora_rank=4, seed=seed).model.named_parameters()) for seed in (1, 1, 2)
    )
    drawn = [name for name in first if "lora_A" in name]
    assert all(torch.equal(first[name], again[name]) for name in drawn)
    assert not any(torch.equal(first[name], other[name]) for name in drawn)


def test_lora_targets_that_no_layer_bears_are_told_with_those_there_are(llama: Any) -> None:
    pytest.importorskip("peft")
    source, prepared = llama
    with pytest.raises(ModelError, match=r"lora_targets = 'q_prj' says; there are down_proj, gate_proj, .*q_proj"):
        small.built(source, prepared, lora_rank=4, lora_targets="q_prj")
    with pytest.raises(ModelError, match=r"lora_targets = 'q_prj' says"):
        small.built(source, prepared, lora_rank=4, lora_targets="v_proj,q_prj")
    learner = small.built(source, prepared, lora_rank=4, lora_targets="q_proj, v_proj")
    trained = {
        name.split(".lora_")[0].rpartition(".")[2] for name, one in learner.named_parameters() if one.requires_grad
    }
    assert trained == {"q_proj", "v_proj"}
