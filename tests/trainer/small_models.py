"""Small models with the tokenizers of their families, data prepared for them, and steps of training in this process."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
import transformers
from numpy.typing import NDArray
from tests.trainer import preparing, small_tokenizers

from trainer.planning.plan import Plan
from trainer.preparation.prepared import Prepared
from trainer.rendering import render
from trainer.training import batch, learner, model, weights
from trainer.training.batch import Batch
from trainer.training.learner import Learner
from trainer.training.settings import Settings

#: The families that are trained: how they attend, place and scale differs.
KINDS = ("llama", "opt", "gpt_neox")
ROWS = 512
POSITIONS = 256
SIZE = 48


def config(kind: str, **changes: Any) -> Any:
    """The settings of a model of two layers, without dropout."""
    of_kind: dict[str, dict[str, Any]] = {
        # Two queries to a key, as in LLaMA's larger models.
        "llama": {"num_key_value_heads": 2, "intermediate_size": 96},
        "opt": {"ffn_dim": 96, "word_embed_proj_dim": SIZE, "dropout": 0.0},
        "gpt_neox": {"intermediate_size": 96},
    }
    shape = {"hidden_size": SIZE, "num_hidden_layers": 2, "num_attention_heads": 4, "vocab_size": ROWS}
    ids = {"bos_token_id": 1, "eos_token_id": 2, "pad_token_id": None}
    told = of_kind[kind] | shape | ids | {"max_position_embeddings": POSITIONS} | changes
    return transformers.AutoConfig.for_model(kind, **told)


def causal(kind: str, seed: int = 0, **changes: Any) -> Any:
    """A model with random weights, large enough that its documents differ and its gradients have a size."""
    torch.manual_seed(seed)
    made = transformers.AutoModelForCausalLM.from_config(config(kind, **changes))
    with torch.no_grad():
        for one in made.parameters():
            one.add_(torch.randn_like(one) * 0.1)
    return made


def save(kind: str, folder: Path, seed: int = 0, tokenizer: str = "", **changes: Any) -> Path:
    """A model's folder with weights, settings and tokenizer."""
    small_tokenizers.save(tokenizer or kind, folder)
    transformers.utils.logging.disable_progress_bar()
    causal(kind, seed, **changes).save_pretrained(folder)
    return folder


def prepare(
    source: Path, folder: Path, count: int = 60, *, seed: int = 0, max_length: int = 120, template: str = "tulu"
) -> Prepared:
    """Conversations of two datasets, prepared for a model's folder."""
    file = preparing.write(folder.parent / f"{folder.name}.jsonl", preparing.rows(count, seed))
    made, _ = preparing.made(file, render.load(str(source), template=template, max_length=max_length), folder)
    return made


def built(source: Path, prepared: Prepared, **changes: Any) -> Learner:
    """A learner in float32, or as told."""
    told = {"precision": "fp32", "attention": "documents"} | changes
    settings = Settings(model=str(source), data=str(prepared.folder), out="out", **told)
    tokenizer = model.check(str(source), prepared)
    return learner.build(settings, tokenizer, datasets=len(prepared.names), device=torch.device("cpu"))


def batches(prepared: Prepared, plan: Plan, of_each: dict[int, float]) -> Iterator[Batch]:
    """All that the ranks read in the first step of a plan, one rank after the other."""
    first = plan.step(0, 0)
    for rank in range(len(first.ranks)):
        yield from batch.read(first, rank, prepared, weights.targets(prepared), of_each)


def step(module: Learner, prepared: Prepared, plan: Plan, of_each: dict[int, float]) -> tuple[float, Any, Any]:
    """Loss, gradients and sums of the first step of a plan, all its ranks in this process."""
    module.zero_grad()
    total, sums = 0.0, torch.zeros(len(prepared.names), 2, dtype=torch.float64)
    for one in batches(prepared, plan, of_each):
        loss, told = module(one)
        loss.backward()
        total += loss.item()
        sums += told
    return total, gradients(module.model), sums


def one_by_one(source: Path, prepared: Prepared, of_each: dict[int, float]) -> tuple[float, Any]:
    """The same from transformers: each example alone in a batch, its labels shifted and averaged by the library."""
    plain = transformers.AutoModelForCausalLM.from_pretrained(source, dtype=torch.float32, attn_implementation="eager")
    total = 0.0
    for index, weight in of_each.items():
        ids, labels = (torch.from_numpy(one).long()[None] for one in (prepared[index].ids, prepared[index].labels))
        loss = plain(input_ids=ids, labels=labels).loss * int((labels[:, 1:] != -100).sum()) * weight
        loss.backward()
        total += loss.item()
    return total, gradients(plain)


def gradients(module: Any) -> dict[str, Any]:
    """The gradient of each parameter, by name."""
    return {name: one.grad.clone() for name, one in module.named_parameters() if one.grad is not None}


def distance(ours: dict[str, Any], theirs: dict[str, Any]) -> float:
    """The largest difference between two gradients, relative to their largest entry."""
    assert ours.keys() == theirs.keys()
    largest = max(float(one.abs().max()) for one in theirs.values())
    return max(float((ours[name] - one).abs().max()) for name, one in theirs.items()) / largest


def weigh(ids: NDArray[Any], prepared: Prepared, **reduction: Any) -> dict[int, float]:
    """The weights of a step's examples."""
    return weights.weigh(ids.tolist(), weights.targets(prepared)[ids], **reduction)
