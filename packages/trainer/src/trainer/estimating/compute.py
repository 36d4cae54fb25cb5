"""Floating-point operations of a training step, and what devices can do of them in a second.

A multiplication of a token with a matrix of p elements is 2 p operations forward, and 4 p backward (the gradients of
its input and of the matrix): the 6 N a token of Kaplan et al. 2020. Counted is what has to be computed: the head only
where a token is supervised, and attention only over the pairs that a document's own past makes (so causal, half of a
square), 4 operations a pair and element forward and twice that backward. Norms, rotations and activations are left out,
as everybody does.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from trainer.estimating.shape import Shape


def pairs(lengths: Iterable[int]) -> int:
    """Query and key pairs of causal attention over documents of these lengths, each seeing only itself."""
    return sum(int(length) * (int(length) + 1) // 2 for length in lengths)


def flops(
    shape: Shape, *, tokens: float, supervised: float, pairs: float, trained: float = 1.0, recompute: bool = False
) -> float:
    """Operations of forward and backward over ``tokens`` in which ``pairs`` attend and ``supervised`` are learnt.

    ``trained`` is the share of the matrices that get a gradient of their own: about 0 with LoRA. ``recompute`` counts
    the layers' second forward of activation checkpointing, which is work but no progress: leave it out for MFU.
    """
    layers = 2 * tokens * (shape.layers * shape.layer_matrices + shape.projections)
    attention = 4 * pairs * shape.layers * shape.queries
    head = 2 * supervised * shape.table
    times = 2 + trained
    return layers * (times + recompute) + attention * (3 + recompute) + head * times


def flops_per_token(
    shape: Shape, *, length: float = 0.0, supervised: float = 1.0, trained: float = 1.0, recompute: bool = False
) -> float:
    """Operations to a token; ``supervised`` is the share of tokens that are learnt.

    ``length`` is that of the document in which a token stands, as a mean over tokens; 0 leaves attention out.
    """
    return flops(
        shape,
        tokens=1.0,
        supervised=supervised,
        pairs=(length + 1) / 2 if length else 0.0,
        trained=trained,
        recompute=recompute,
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class Device:
    """A kind of GPU as torch sees it: one device, hence half a card of MI250X."""

    name: str
    #: Matrix operations in a second in bf16 without sparsity, as the maker states them.
    flops: float
    #: Memory in GB (10^9), of the larger model where there are two.
    memory: float
    note: str = ""


#: Looked for in this order in what torch calls a device.
DEVICES = (
    Device(name="B200", flops=2250e12, memory=180),
    Device(name="GH200", flops=989e12, memory=96),
    Device(name="H200", flops=989e12, memory=141),
    Device(name="H100 PCIe", flops=756e12, memory=80),
    Device(name="H100 NVL", flops=835e12, memory=94),
    Device(name="H100", flops=989e12, memory=80, note="SXM"),
    Device(name="A100", flops=312e12, memory=80),
    Device(name="A800", flops=312e12, memory=80),
    Device(name="A30", flops=165e12, memory=24),
    Device(name="A40", flops=149.7e12, memory=48),
    Device(name="A10G", flops=70e12, memory=24),
    Device(name="A10", flops=125e12, memory=24),
    Device(name="L40S", flops=362e12, memory=48),
    Device(name="L40", flops=181e12, memory=48),
    Device(name="L4", flops=121e12, memory=24),
    Device(name="A6000", flops=154.8e12, memory=48),
    Device(name="4090", flops=165.2e12, memory=24),
    Device(name="3090", flops=71e12, memory=24),
    Device(name="MI300X", flops=1307e12, memory=192),
    Device(name="MI250X", flops=191.5e12, memory=64, note="one of a card's two dies, which torch calls a device"),
    Device(name="MI250", flops=181e12, memory=64, note="one of a card's two dies, which torch calls a device"),
    Device(name="MI210", flops=181e12, memory=64),
)


def device(name: str) -> Device | None:
    """The kind of GPU that a name means: torch's own (``NVIDIA A100-SXM4-80GB``) or as people write it (``a100``)."""
    words = name.lower().replace("-", " ").replace("_", " ").split()
    return next((one for one in DEVICES if _names(words, one.name.lower().split())), None)


def _names(words: list[str], sought: list[str]) -> bool:
    """Whether the sought words stand in a name, which may be written ``A100-SXM4-80GB`` or ``MI250X/MI250``."""
    return all(any(part == one for word in words for part in word.split("/")) for one in sought)


def peak_flops(name: str) -> float | None:
    """Operations a second in bf16 of a device by torch's name for it; None where it is not known (any CPU)."""
    found = device(name)
    return found.flops if found else None
