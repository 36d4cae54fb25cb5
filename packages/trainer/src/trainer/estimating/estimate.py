"""A run before it is started: settings, sizes, data and machines in; memory, work, time and disk out."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from trainer.errors import DataError
from trainer.estimating import disk, memory, workload
from trainer.estimating.compute import Device, flops
from trainer.estimating.memory import Job, Moment
from trainer.estimating.shape import Shape
from trainer.estimating.workload import Data, Steps
from trainer.training.model import check_positions

if TYPE_CHECKING:
    from trainer.training.settings import Settings


@dataclass(frozen=True, slots=True, kw_only=True)
class Machines:
    """What a run would be given."""

    gpus: int
    #: None: CPUs, one rank each.
    device: Device | None
    #: Bytes of one GPU.
    memory: float
    #: The share of the device's peak that training reaches, where nothing was measured.
    mfu: float
    #: Tokens a second of all GPUs as measured; 0: not.
    measured: float = 0.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Estimate:
    """What a run comes to."""

    settings: Settings
    shape: Shape
    data: Data
    machines: Machines
    steps: Steps
    job: Job
    #: What a GPU holds at most.
    peak: Moment

    @property
    def fits(self) -> bool:
        """Whether a GPU holds it."""
        return self.peak.total <= self.machines.memory

    @property
    def passes(self) -> float:
        """How often the run goes through its examples."""
        return self.steps.total / self.steps.epoch

    @property
    def tokens(self) -> float:
        """Tokens of the whole run, without padding."""
        return self.passes * float(self.data.lengths.sum())

    @property
    def targets(self) -> float:
        """Those of them that are learnt."""
        return self.passes * float(self.data.targets.sum())

    def flops(self, *, recompute: bool = False) -> float:
        """Operations of the whole run: the model's own, or all that are computed."""
        return flops(
            self.shape,
            tokens=self.tokens,
            supervised=self.targets,
            pairs=self.passes * self.data.pairs,
            trained=1.0 if self.job.tuned_all else 0.0,
            recompute=recompute,
        )

    @property
    def seconds(self) -> float | None:
        """How long it takes; None where neither a measured speed nor the device's peak is known.

        By the peak: the operations over what the GPUs do of them, and over the share of slots that hold a token of the
        rank that the others wait for. The MFU counts the model's own operations, so those of checkpointing come on top.
        """
        if self.machines.measured:
            return self.tokens / self.machines.measured
        if self.machines.device is None:
            return None
        pace = self.machines.gpus * self.machines.device.flops * self.machines.mfu
        waiting = self.steps.summary.efficiency if self.job.zero == 3 else self.steps.summary.balance[0]
        return self.flops(recompute=self.job.checkpointing) / pace / waiting

    @property
    def checkpoint(self) -> int:
        """Bytes of a checkpoint."""
        return disk.checkpoint(self.job.trained)

    @property
    def model(self) -> int:
        """Bytes of the model that is exported in the end."""
        return disk.model(self.shape.parameters, self.settings)

    @property
    def disk(self) -> int:
        """Bytes of the run folder at most."""
        return disk.run(
            self.settings,
            parameters=self.shape.parameters,
            trained=self.job.trained,
            steps=self.steps.total,
            epoch=self.steps.epoch,
        )


def estimate(
    settings: Settings, shape: Shape, data: Data, machines: Machines, *, steps: Steps | None = None
) -> Estimate:
    """What a run comes to; ``steps`` are those of the same settings and ranks where they are known.

    Raises ModelError where the model has too few positions for the longest example, DataError where a micro-step cannot
    hold it: what training would refuse has no size.
    """
    name = str(Path(settings.data)) + ("" if data.prepared else ", as modelled,")
    check_positions(settings.model, shape.limit or None, name, int(data.lengths.max()))
    steps = steps or workload.deal(settings, data, machines.gpus)
    made = job(settings, shape, steps, machines)
    return Estimate(
        settings=settings,
        shape=shape,
        data=data,
        machines=machines,
        steps=steps,
        job=made,
        peak=memory.peak(made),
    )


def changed(found: Estimate, settings: Settings, machines: Machines | None = None) -> Estimate:
    """The estimate with other settings or machines; deals anew only what reads otherwise."""
    machines = machines or found.machines
    same = (settings.tokens or 2 * found.data.limit) == found.steps.tokens and machines.gpus == found.machines.gpus
    return estimate(settings, found.shape, found.data, machines, steps=found.steps if same else None)


def job(settings: Settings, shape: Shape, steps: Steps, machines: Machines) -> Job:
    """All that memory depends on."""
    gpu = machines.device is not None
    shared = machines.gpus > 1 and settings.zero > 0
    added = adapters(settings, shape) if settings.lora_rank else 0
    return Job(
        shape=shape,
        width=2 if settings.precision == "bf16" else 4,
        ranks=machines.gpus,
        deepspeed=settings.engine == "deepspeed" or shared or settings.offload != "none",
        zero=settings.zero,
        offload=settings.offload,
        tokens=steps.tokens,
        targets=min(steps.targets, steps.tokens),
        documents=steps.documents,
        micros=steps.micros,
        attention=_attention(settings, machines),
        checkpointing=settings.activation_checkpointing,
        logits_bytes=settings.logits_bytes,
        gpu=gpu,
        trained=added or shape.parameters,
        added=added,
    )


def _attention(settings: Settings, machines: Machines) -> str:
    """What ``auto`` means on the device, as `trainer.training.attention` chooses it."""
    if settings.attention != "auto":
        return settings.attention
    nvidia = machines.device is not None and not machines.device.name.startswith("MI")
    return "varlen" if nvidia and settings.precision == "bf16" else "documents"


def linears(shape: Shape) -> dict[str, tuple[int, int]]:
    """The linear layers of a layer by name: how wide is what goes in, and what comes out."""
    hidden, inner, queries, keys = shape.hidden, shape.inner, shape.queries, shape.keys
    if shape.family == "gpt_neox":
        attention = {"query_key_value": (hidden, 3 * hidden), "dense": (hidden, hidden)}
        return attention | {"dense_h_to_4h": (hidden, inner), "dense_4h_to_h": (inner, hidden)}
    out = "o_proj" if shape.family == "llama" else "out_proj"
    attention = {"q_proj": (hidden, queries), "k_proj": (hidden, keys), "v_proj": (hidden, keys)}
    attention[out] = (queries, hidden)
    if shape.family == "opt":
        return attention | {"fc1": (hidden, inner), "fc2": (inner, hidden)}
    return attention | {"gate_proj": (hidden, inner), "up_proj": (hidden, inner), "down_proj": (inner, hidden)}


def adapters(settings: Settings, shape: Shape) -> int:
    """The parameters that LoRA adds; raises DataError where no layer bears a name of ``lora_targets``."""
    known = linears(shape)
    wanted = [one.strip() for one in settings.lora_targets.split(",") if one.strip()] or list(known)
    found = [sum(known[name]) for name in wanted if name in known]
    if not found:
        raise DataError(f"No layer of this family is named {settings.lora_targets}; there are {', '.join(known)}.")
    return shape.layers * settings.lora_rank * sum(found)


#: What offloading keeps in the machine's own memory, as a reader calls it.
_KEPT = {"optimizer": "CPU AdamW", "all": "CPU all"}


def layouts(found: Estimate) -> list[tuple[str, Estimate]]:
    """The same run under every ZeRO stage and offload, as what it is called and its estimate."""
    wanted = [(zero, "none") for zero in range(4)]
    if found.job.gpu:
        wanted += [(2, "optimizer"), (3, "optimizer"), (3, "all")]
    engine = "auto" if found.settings.engine == "torch" else found.settings.engine
    made = []
    for zero, offload in wanted:
        one = replace(found.settings, zero=zero, offload=offload, engine="auto" if zero == 0 else engine)  # type: ignore[arg-type]
        made.append((f"{zero}" if offload == "none" else f"{zero} + {_KEPT[offload]}", changed(found, one)))
    return made
