"""What the estimate says that autograd keeps, against what it keeps: byte by byte."""

from __future__ import annotations

from typing import Any

import pytest

from trainer.estimating.activations import kept
from trainer.estimating.memory import Job, _all_layers
from trainer.estimating.shape import Shape, read

pytestmark = pytest.mark.torch

torch = pytest.importorskip("torch")
small = pytest.importorskip("tests.trainer.small_models")

TOKENS = (40, 24)


def held(shape_of: Any, dtype: Any, *, checkpointing: bool, documents: tuple[int, ...]) -> int:
    """The bytes of all tensors but parameters that a model's hidden states hold on to."""
    from trainer.training.batch import Batch
    from trainer.training.learner import Learner

    model = small.transformers.AutoModelForCausalLM.from_config(shape_of, dtype=dtype)
    if checkpointing:
        enable = getattr(model, "activation_checkpointing_enable", model.gradient_checkpointing_enable)
        enable({"use_reentrant": False})
    learner = Learner(model, datasets=1, kind="documents", logits_bytes=1 << 20)
    learner.train()
    weights = {one.untyped_storage().data_ptr() for one in model.parameters()}
    found: dict[int, Any] = {}

    def keep(tensor: Any) -> Any:
        if (place := tensor.untyped_storage().data_ptr()) not in weights:
            found[place] = tensor  # itself too, lest its place be given to another
        return tensor

    none = torch.zeros(0, dtype=torch.int64)
    batch = Batch(
        ids=torch.arange(sum(documents))[None],
        positions=torch.cat([torch.arange(one) for one in documents])[None],
        documents=(documents,),
        places=none,
        targets=none,
        weights=none.float(),
        datasets=none,
        most=0,
    )
    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        hidden = learner.hidden(batch)
    assert hidden.requires_grad
    return sum(one.untyped_storage().nbytes() for one in found.values())


def job(shape: Shape, width: int, *, checkpointing: bool, documents: tuple[int, ...]) -> Job:
    """What the estimate is told of the same."""
    return Job(
        shape=shape,
        width=width,
        ranks=1,
        deepspeed=False,
        zero=0,
        offload="none",
        tokens=sum(documents),
        targets=0,
        documents=len(documents),
        micros=1,
        attention="documents",
        checkpointing=checkpointing,
        logits_bytes=1,
        gpu=False,
        trained=shape.parameters,
    )


@pytest.mark.parametrize("kind", ["llama", "opt", "gpt_neox"])
@pytest.mark.parametrize(
    ("precision", "checkpointing", "documents"),
    [("fp32", False, TOKENS), ("bf16", False, TOKENS), ("bf16", True, TOKENS), ("fp32", False, (64,))],
    ids=["fp32", "bf16", "checkpointing", "one document"],
)
def test_forward_keeps_what_the_estimate_says_to_the_byte(
    kind: str, precision: str, checkpointing: bool, documents: tuple[int, ...]
) -> None:
    dtype, width = (torch.bfloat16, 2) if precision == "bf16" else (torch.float32, 4)
    config = small.config(kind, num_hidden_layers=3, **({"dropout": 0.1} if kind == "opt" else {}))
    told = job(read(config.to_dict()), width, checkpointing=checkpointing, documents=documents)
    measured = held(config, dtype, checkpointing=checkpointing, documents=documents)
    # Checkpoints hand the rotations on to the layers that are computed anew, which autograd does not know of.
    unseen = 2 * width * told.shape.rotation * told.tokens if checkpointing else 0
    assert measured == _all_layers(told, kept(told.shape, width)) - unseen


@pytest.mark.parametrize("kind", ["llama", "opt", "gpt_neox"])
def test_a_config_alone_gives_the_parameters_that_transformers_makes(kind: str) -> None:
    config = small.config(kind)
    model = small.transformers.AutoModelForCausalLM.from_config(config)
    assert read(config.to_dict()).parameters == sum(one.numel() for one in model.parameters())
