"""What runs a model's steps: one protocol, and the choice between plain torch and DeepSpeed behind it.

With ``engine = "auto"`` DeepSpeed runs where it shares something out: several processes and ``zero`` above 0, or
offloading. Else it is torch: alone, ZeRO shares nothing out and would give the same numbers later and with more
memory; and ``zero = 0`` is to average gradients, which takes no library.
"""

from __future__ import annotations

import os
import warnings
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any, Protocol

from trainer.errors import TrainerError

if TYPE_CHECKING:
    import torch
    from torch import Tensor, nn

    from trainer.training.batch import Batch
    from trainer.training.fragments import Fragment
    from trainer.training.learner import Learner
    from trainer.training.model import Gather
    from trainer.training.settings import Settings

#: Minutes after which a rank that waits for another gives up; DeepSpeed 0.19 would take 10, torch takes 10 or 30.
TIMEOUT = 30


@dataclass(frozen=True, slots=True, kw_only=True)
class Stepped:
    """What an optimizer step did."""

    #: The norm of the gradient before it was clipped; infinite where it was not finite.
    norm: float
    #: Whether the weights were left as they were because the gradient was not finite.
    skipped: bool


class Build(Protocol):
    """Loads the model, after the ranks have found each other; ``gathered`` makes shared-out parameters whole."""

    def __call__(self, *, device: torch.device, gathered: Gather) -> Learner:
        """The learner to train; its weights may still be elsewhere than on the device."""


class Engine(Protocol):
    """A model that is trained in optimizer steps of any number of micro-steps, by this process and its peers."""

    rank: int
    world: int
    device: torch.device
    learner: Learner

    def micro(self, batch: Batch) -> tuple[Tensor, Tensor]:
        """Forward and backward of this rank's part of a step: what a Learner gives, without gradients."""

    def step(self, learning_rate: float) -> Stepped:
        """Sum the gradients of all micro-steps and ranks, clip them and update the weights."""

    def evaluate(self, batch: Batch) -> Tensor:
        """The forward of a micro-step without dropout and gradients; summed losses and counts, (datasets, 2)."""

    def fragments(self) -> Iterator[Fragment]:
        """The live trained state that this rank keeps, for checkpoints to read from and to fill."""

    def restored(self, updates: int) -> None:
        """Take over what the fragments were filled with, after so many updates."""

    def parameters(self) -> Iterator[tuple[str, Tensor]]:
        """The model's parameters, one after the other whole on rank 0; all ranks go through them together."""

    def sum(self, values: Sequence[float]) -> list[float]:
        """A few numbers summed over all ranks, in 64 bits."""

    def barrier(self) -> None:
        """Wait for all ranks."""

    def close(self) -> None:
        """Free what the model takes; the ranks stay together for another one."""


def world() -> tuple[int, int, int]:
    """Rank, number of ranks and rank on this machine, as launchers put them into the environment; raises TrainerError.

    A wrong number would be found much later, by ranks that wait for others which do not exist.
    """
    numbers = [os.environ.get(name, default) for name, default in _VARIABLES.items()]
    if not all(number.isdecimal() for number in numbers):
        told = ", ".join(f"{name}={number!r}" for name, number in zip(_VARIABLES, numbers, strict=True))
        raise TrainerError(f"The launcher's environment is not one of whole numbers: {told}.")
    rank, size, local = map(int, numbers)
    if rank >= size:
        raise TrainerError(
            f"This process has rank {rank} of {size}: RANK must be below WORLD_SIZE. Start it with torchrun or"
            " `trainer launch`, or unset both."
        )
    return rank, size, local


_VARIABLES = {"RANK": "0", "WORLD_SIZE": "1", "LOCAL_RANK": "0"}


def choose(settings: Settings, size: int) -> str:
    """``torch`` or ``deepspeed``; raises TrainerError where what is asked for is not there or does not fit."""
    wanted = settings.engine
    if wanted == "auto":
        shared = size > 1 and settings.zero > 0
        wanted = "deepspeed" if shared or settings.offload != "none" else "torch"
    if wanted == "deepspeed" and settings.zero == 0:
        raise TrainerError("zero = 0 shares nothing out and is run by torch: set engine = auto or torch, or zero to 1.")
    if wanted == "deepspeed" and find_spec("deepspeed") is None:
        raise TrainerError(
            f"zero = {settings.zero} on {size} ranks needs DeepSpeed, which is not installed: `pip install"
            " 'trainer[train]'`, or set zero = 0, which averages gradients with torch alone."
        )
    if wanted == "torch" and settings.offload != "none":
        raise TrainerError("engine = torch offloads nothing: set offload = none, or engine = deepspeed.")
    if wanted == "torch" and size > 1 and settings.zero > 0:
        raise TrainerError(f"engine = torch shares nothing out over {size} ranks: set zero = 0, or engine = auto.")
    return wanted


def open_engine(settings: Settings, build: Build) -> Engine:
    """The engine that a run's settings ask for; each rank builds the same learner in it.

    Raises TrainerError where the launcher's environment, the settings and what is installed do not go together.
    """
    rank, size, local = world()
    if not os.environ.get("TRAINER_TRACEBACK"):
        # torch 2.13 and DeepSpeed 0.19 tell users of deprecations between the two, hundreds of times.
        warnings.filterwarnings("ignore", category=FutureWarning)
        warnings.filterwarnings("ignore", category=UserWarning, module=r"(torch|deepspeed)\.")
    if choose(settings, size) == "deepspeed":
        from trainer.training.deepspeed_engine import DeepSpeedEngine

        return DeepSpeedEngine(settings, build, rank=rank, world=size, local=local)
    from trainer.training.torch_engine import TorchEngine

    return TorchEngine(settings, build, rank=rank, world=size, local=local)


def join(rank: int, size: int, local: int) -> torch.device:
    """The device of this rank, after the ranks have found each other.

    Raises TrainerError where they do not find each other.
    """
    from datetime import timedelta

    import torch

    device = torch.device("cpu")
    if torch.cuda.is_available():
        if local >= torch.cuda.device_count():
            raise TrainerError(
                f"Rank {rank} is number {local + 1} on a machine with {torch.cuda.device_count()} GPUs: start one rank"
                " for each."
            )
        device = torch.device("cuda", local)
        torch.cuda.set_device(device)
    if not torch.distributed.is_initialized():
        alone = {"store": torch.distributed.HashStore()} if size == 1 else {}
        # A few numbers go over the CPU even then, so that they wait for no kernel.
        backend = "cpu:gloo,cuda:nccl" if device.type == "cuda" else "gloo"
        try:
            torch.distributed.init_process_group(
                backend, rank=rank, world_size=size, timeout=timedelta(minutes=TIMEOUT), **alone
            )
        except (RuntimeError, ValueError) as error:
            text = " ".join(str(error).split())
            raise TrainerError(f"Rank {rank} of {size} did not find the others: {text}") from None
    return device


def lost(error: Exception) -> bool:
    """Whether an error says that a message to or from another rank failed: that rank has died, or its machine."""
    import torch

    text = f"{type(error).__name__} {error}".lower()
    told = any(word in text for word in ("gloo", "nccl", "connection reset", "connection closed", "broken pipe"))
    return isinstance(error, torch.distributed.DistError) or (isinstance(error, RuntimeError) and told)


def leave() -> None:
    """Part from the other ranks, at the end of a process."""
    import torch

    if torch.distributed.is_initialized():
        torch.distributed.destroy_process_group()


def optimizer(settings: Settings, parameters: Iterable[nn.Parameter]) -> torch.optim.AdamW:
    """AdamW as the paper's code had it; weight decay, where it is set, is for matrices alone.

    The fused kernel is part of torch and as fast on the CPU as DeepSpeed's, which would be compiled at the first start.
    """
    import torch

    groups: list[dict[str, Any]] = [{"params": [], "weight_decay": 0.0}]
    if settings.weight_decay:
        groups.append({"params": [], "weight_decay": settings.weight_decay})
    for one in parameters:
        shape = getattr(one, "ds_shape", one.shape)  # ZeRO-3 leaves an empty tensor in a parameter's place
        groups[-1 if len(shape) > 1 else 0]["params"].append(one)
    return torch.optim.AdamW(
        [group for group in groups if group["params"]],
        lr=settings.learning_rate,
        betas=(settings.beta1, settings.beta2),
        eps=settings.epsilon,
        fused=True,
    )


def sum_over_ranks(values: Sequence[float], size: int) -> list[float]:
    """A few numbers summed over all ranks, on the CPU, so that no kernel is waited for."""
    import torch

    if size == 1:
        return [float(value) for value in values]
    tensor = torch.tensor(values, dtype=torch.float64)
    torch.distributed.all_reduce(tensor)
    found: list[float] = tensor.tolist()
    return found
