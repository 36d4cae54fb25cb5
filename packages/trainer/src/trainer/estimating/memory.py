"""What a rank holds at the moments when it holds most, term by term, from the code that allocates it.

Memory peaks at one of five moments: at the head, where logits join what all layers kept; as backward enters the last
layer; as a bucket of gradients is sent; as backward reaches the embedding, when gradients are whole; and in the
optimizer's step. Each is a sum of terms, and the largest sum is the estimate. `docs/training-plan.md` derives them.
"""

from __future__ import annotations

from dataclasses import dataclass, fields, replace

from trainer.estimating.activations import Kept, kept
from trainer.estimating.shape import Shape

#: Elements of gradient that DeepSpeed sends at once, and that plain torch does.
BUCKET = 200_000_000
TORCH_BUCKET = 1 << 24
#: Parameters that ZeRO 3 keeps gathered at most (``stage3_max_live_parameters``), and fetches ahead.
LIVE = 1_000_000_000
PREFETCHED = 50_000_000
#: Bytes of logits in 32 bits that the cross entropy works on at once (`trainer.training.loss`).
SLICE, SLICE_GPU = 1 << 22, 1 << 26
_FLOAT = 4


@dataclass(frozen=True, slots=True, kw_only=True)
class Job:
    """All that a rank's memory depends on."""

    shape: Shape
    #: Bytes of a weight and of an activation: 2 in bf16, 4 in fp32.
    width: int
    ranks: int
    #: Whether DeepSpeed runs it; plain torch shares nothing out.
    deepspeed: bool
    zero: int
    offload: str
    #: Of the largest micro-step: its tokens, its targets, and the documents in its row.
    tokens: int
    targets: int
    documents: int
    #: Micro-steps of a step, the most.
    micros: int
    #: ``documents``, ``varlen`` or ``mask``.
    attention: str
    checkpointing: bool
    logits_bytes: int
    gpu: bool
    #: Parameters that are tuned; those of the model, but for LoRA.
    trained: int
    #: Parameters that LoRA adds.
    added: int = 0

    @property
    def tuned_all(self) -> bool:
        """Whether the model's own weights are tuned."""
        return not self.added


@dataclass(frozen=True, slots=True, kw_only=True)
class Moment:
    """What is held at one moment, in bytes."""

    name: str
    weights: float
    gradients: float
    optimizer: float
    activations: float = 0
    logits: float = 0
    #: What communication, one layer's backward and the like hold for a while.
    buffers: float = 0

    @property
    def total(self) -> float:
        """The bytes of all terms."""
        return float(sum(getattr(self, one) for one in TERMS))


TERMS = tuple(field.name for field in fields(Moment) if field.name != "name")


def peak(job: Job) -> Moment:
    """The moment at which a rank's device holds most."""
    return max(moments(job), key=lambda one: one.total)


def moments(job: Job) -> list[Moment]:
    """The moments at which it may, in the order of a step."""
    held = _states(job)
    per_token = kept(job.shape, job.width, gpu=job.gpu)
    # ZeRO 3 keeps a place for its part of the gradients from the first step on.
    whole = held.gradients if job.micros > 1 or (job.deepspeed and job.zero == 3) else 0.0
    head = _head_gradient(job)
    found = [
        replace(
            held,
            name="the head",
            gradients=whole,
            activations=_all_layers(job, per_token),
            logits=logits_bytes(job),
            buffers=_head_buffers(job),
        ),
        replace(
            held,
            name="backward of the last layer",
            gradients=max(whole, head if not job.shape.tied else 0),
            activations=_all_layers(job, per_token) + _one_layer(job, per_token),
            buffers=_matrix_gradient(job) + (head if job.shape.tied else 0) + (_reserved(job) if job.gpu else 0),
        ),
        replace(
            held,
            name="the embedding's gradient",
            activations=_bottom(job, per_token),
            buffers=2 * head + _reserved(job),
        ),
        replace(held, name="the optimizer's step", buffers=_step_buffers(job)),
    ]
    if job.deepspeed:
        found.append(_sending(job, held, per_token))
    return [replace(one, buffers=one.buffers + (_fetched(job) if one.activations else 0)) for one in found]


def host(job: Job) -> float:
    """Bytes of a machine's own memory that a rank needs for what is offloaded to it."""
    if job.offload == "none" or not job.gpu:
        return 0.0
    share = job.trained / job.ranks
    states = 3 * _FLOAT * share + _FLOAT * share  # weights in 32 bits, two means, the gradient
    staging = job.width * share if job.zero < 3 else 0
    weights = job.width * (job.shape.parameters + job.added) / job.ranks if job.offload == "all" else 0
    return states + staging + weights


def logits_bytes(job: Job) -> float:
    """The logits that are held at once, over which their gradient is written."""
    return job.width * job.targets * job.shape.vocabulary / _pieces(job)


def _pieces(job: Job) -> int:
    """In how many pieces the head works, each within the budget."""
    return max(1, -(-job.width * job.targets * job.shape.vocabulary // job.logits_bytes))


def _head_buffers(job: Job) -> float:
    """Beside the logits: what the head reads and that one's gradient, and the matrix's own, which pieces add up.

    The cross entropy before that needs a slice of the logits in 32 bits, and as much again twice.
    """
    read = 2 * job.width * job.targets * job.shape.embedding
    matrix = _head_gradient(job) * (2 if _pieces(job) > 1 else 1)
    return read + max(matrix, 3 * (SLICE_GPU if job.gpu else SLICE))


def _states(job: Job) -> Moment:
    """Weights, gradients and optimizer as they are between two micro-steps of a step."""
    parameters = job.shape.parameters + job.added
    share = job.ranks if job.deepspeed else 1
    weights: float = job.width * parameters
    masters = _FLOAT if job.width == 2 or job.deepspeed else 0
    optimizer = (masters + 2 * _FLOAT) * job.trained / share
    gradients = _FLOAT * job.trained / (share if job.zero > 1 else 1)
    # Where there is no GPU, what is offloaded stays where it is.
    offload = job.offload if job.gpu else "none"
    if offload != "none":
        optimizer = 0
    if job.deepspeed and job.zero == 3:
        weights = 0 if offload == "all" else weights / share
        gradients = gradients if offload == "none" else 0
    return Moment(name="between", weights=weights, gradients=gradients, optimizer=optimizer)


def _fetched(job: Job) -> float:
    """Weights that ZeRO 3 has gathered for the layers at work."""
    if not job.deepspeed or job.zero < 3 or (job.ranks == 1 and job.offload != "all"):
        return 0
    return job.width * min(job.shape.parameters + job.added, LIVE + PREFETCHED)


def _all_layers(job: Job, per_token: Kept) -> float:
    """What is kept as forward ends."""
    layer = per_token.checkpoint if job.checkpointing else per_token.layer + _joined(job)
    mask = 0.0
    if job.attention == "mask":
        # True or false once, and for each layer as numbers to add; a layer computed anew makes its own and forgets it.
        mask = job.tokens * (1 + job.width * (0 if job.checkpointing else job.shape.layers))
    return job.tokens * (job.shape.layers * layer + per_token.rest + mask)


def _joined(job: Job) -> float:
    """Attention's results, document by document, beside the row that they are joined to; GPT-NeoX has both anyway."""
    several = job.attention == "documents" and job.documents > 1
    return job.width * job.shape.queries if several and job.shape.family != "gpt_neox" else 0


def _one_layer(job: Job, per_token: Kept) -> float:
    """What a layer's backward needs beside what forward kept; with checkpointing all of the layer, made anew."""
    mask = job.width * job.tokens if job.attention == "mask" and job.checkpointing else 0
    anew = per_token.layer + _joined(job) + mask if job.checkpointing else 0
    return job.tokens * (per_token.backward + anew)


def _bottom(job: Job, per_token: Kept) -> float:
    """What is left as backward reaches the embedding: the gradient of its result."""
    return job.tokens * (per_token.checkpoint + per_token.rest)


def _head_gradient(job: Job) -> float:
    """The gradient of head or embedding as autograd makes it."""
    return job.width * job.shape.table if job.tuned_all else 0


def _matrix_gradient(job: Job) -> float:
    """The gradient of one matrix of the MLP, before it is added to what is there."""
    return job.width * job.shape.hidden * job.shape.inner if job.tuned_all else 0


def _largest(job: Job) -> float:
    """Elements of the largest parameter."""
    return job.shape.table if job.tuned_all else job.trained / max(1, 2 * job.shape.layers)


def _step_buffers(job: Job) -> float:
    """A parameter's gradient in 64 bits for its norm; what plain torch sends at once; DeepSpeed's copy of gradients."""
    largest = _largest(job)
    if not job.deepspeed:
        return max(8 * largest, _FLOAT * max(largest, TORCH_BUCKET) if job.ranks > 1 else 0)
    share = job.trained / job.ranks
    copy = 0.0
    if job.offload == "none" and (job.zero == 3 or job.width == _FLOAT):
        copy = _FLOAT * min(share, LIVE)
    return max(8 * min(largest, share), copy)


def _bucket(job: Job) -> tuple[int, int]:
    """Elements of gradient that are sent at once, and the bytes of each in DeepSpeed's bucket.

    What is summed in 32 bits before it is sent (ZeRO 1), or sent so from the bucket itself (ZeRO 3), is kept so there.
    """
    return min(job.trained, BUCKET), job.width if job.zero == 2 else _FLOAT


def _reserved(job: Job) -> float:
    """DeepSpeed's bucket: allocated whole, of which a CPU holds only what was written to."""
    if not job.deepspeed:
        return 0.0
    elements, width = _bucket(job)
    return width * (BUCKET if job.gpu else elements)


def _sending(job: Job, held: Moment, per_token: Kept) -> Moment:
    """As a bucket of gradients is full: what backward has not come to yet is still kept."""
    elements, width = _bucket(job)
    # It is flattened once more, and where it is not in 32 bits turned into them to be summed.
    sent = elements * (width + (_FLOAT if width < _FLOAT else 0))
    if job.zero == 3 and not job.gpu:
        sent += elements * _FLOAT  # gloo, which CPUs talk by, works on a copy of what it reduces and scatters
    return replace(
        held,
        name="sending gradients",
        activations=(1 - elements / job.trained) * _all_layers(job, per_token) + _bottom(job, per_token),
        buffers=_reserved(job) + sent,
    )
