"""What autograd keeps of a token between forward and backward, layer by layer, and what backward needs beside it.

Each number is a count of the tensors that the code of transformers 5 makes and autograd saves, with elements as the
unit: `docs/training-plan.md` goes through them, and a test holds them against what torch really saves, byte by byte.
"""

from __future__ import annotations

from dataclasses import dataclass

from trainer.estimating.shape import Shape

#: Bytes of a statistic that norms and attention keep in 32 bits.
_FLOAT = 4
#: Bytes of a token's id, and of its position where those are learnt.
_PLACE = 8


@dataclass(frozen=True, slots=True, kw_only=True)
class Kept:
    """Bytes to a token."""

    #: Of one layer, from its forward to its backward.
    layer: int
    #: Of one layer that is computed anew: its input.
    checkpoint: int
    #: The most that a layer's backward holds beside what was kept and the gradients of weights.
    backward: int
    #: Of what stands outside the layers: ids, rotations, and the last norm but for its result, which nothing keeps.
    rest: int


def kept(shape: Shape, width: int, *, gpu: bool = False) -> Kept:
    """The bytes that one token costs where activations have ``width`` bytes, 2 in bf16 and 4 in fp32.

    On a GPU LayerNorm keeps its statistics in 32 bits and dropout a byte for each element; the CPU's kernels keep both
    in the activations' own type.
    """
    layer = _LAYERS[shape.family](shape, width, gpu) + _attention(shape, width)
    hidden = width * shape.hidden
    if shape.family == "llama":
        backward = 2 * width * shape.inner + hidden
        norm = _rms_norm(shape, width) - hidden
    else:
        # The MLP's activation is made anew from what it kept: the gradients of its output and input live at once; the
        # one of ReLU keeps its output, which is the next matrix's input and so still there.
        backward = (2 if shape.family == "opt" else 1) * width * shape.inner + 2 * hidden
        norm = hidden + 2 * _statistic(width, gpu)
    ids = _PLACE * (2 if shape.family == "opt" else 1)
    return Kept(layer=layer, checkpoint=hidden, backward=backward, rest=ids + 2 * width * shape.rotation + norm)


def _attention(shape: Shape, width: int) -> int:
    """Queries, keys and values as they are multiplied, the result, and a logarithm for each head."""
    return width * (2 * shape.queries + 2 * shape.keys) + _FLOAT * shape.heads


def _llama(shape: Shape, width: int, gpu: bool) -> int:
    """Two norms, and of the MLP: the gate before and after SiLU, what it gates, and the product."""
    return 2 * _rms_norm(shape, width) + 4 * width * shape.inner


def _rms_norm(shape: Shape, width: int) -> int:
    """Its input in 32 bits, the root, the normalized input, and the result, which the next matrix keeps."""
    return _FLOAT * shape.hidden + _FLOAT + 2 * width * shape.hidden


def _opt(shape: Shape, width: int, gpu: bool) -> int:
    """Two norms, each with input and result; ReLU's result; two dropouts' choices."""
    norms = 4 * width * shape.hidden + 4 * _statistic(width, gpu)
    dropout = 2 * shape.hidden * (1 if gpu else width) if shape.dropout else 0
    return norms + width * shape.inner + dropout


def _gpt_neox(shape: Shape, width: int, gpu: bool) -> int:
    """Two norms of one input; queries, keys and values as they came, which values are a view of; the MLP, GELU twice.

    Attention's result is copied into the order that the next matrix wants, so it is there twice.
    """
    norms = 3 * width * shape.hidden + 4 * _statistic(width, gpu)
    attention = width * (3 * shape.hidden - shape.keys + shape.queries)
    dropout = 2 * shape.hidden * (1 if gpu else width) if shape.dropout else 0
    return norms + attention + 2 * width * shape.inner + dropout


def _statistic(width: int, gpu: bool) -> int:
    """A norm's mean, or its standard deviation."""
    return _FLOAT if gpu else width


_LAYERS = {"llama": _llama, "opt": _opt, "gpt_neox": _gpt_neox}
