"""The engine in DeepSpeed: ZeRO 1, 2 and 3, with and without offloading. The only module that imports it.

DeepSpeed is asked for what it is good at, sharing a model out, and told the rest: it gets torch's AdamW, micro-steps in
any number (``managed_gradient_accumulation`` off), no scheduler, no data loader and no checkpoint. Whatever default has
changed a result from one of its versions to the next is written out in `configuration`. Read with version 0.19.8.
"""

from __future__ import annotations

import contextlib
import logging
import os
import warnings
from collections.abc import Iterator, Sequence
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from trainer.training import engine as engines
from trainer.training import torch_engine
from trainer.training.engine import Stepped
from trainer.training.fragments import Fragment

if TYPE_CHECKING:
    from trainer.training.batch import Batch
    from trainer.training.engine import Build
    from trainer.training.settings import Settings

#: Elements that are sent at once; what DeepSpeed calls auto depends on the model's width and version.
_BUCKET = 200_000_000


def configuration(settings: Settings, world: int) -> dict[str, Any]:
    """What DeepSpeed is told, in its own words."""
    bf16 = settings.precision == "bf16"
    zero: dict[str, Any] = {
        "stage": settings.zero,
        "contiguous_gradients": True,
        # Needs streams; with ZeRO 1 gradients are sent at the step's end, when nothing is left to overlap with.
        "overlap_comm": settings.zero > 1 and torch.cuda.is_available(),
        "reduce_scatter": True,
        "round_robin_gradients": False,
        "reduce_bucket_size": _BUCKET,
        "allgather_bucket_size": _BUCKET,
    }
    if settings.zero == 3:
        zero |= {
            "sub_group_size": 1_000_000_000,
            "stage3_prefetch_bucket_size": 50_000_000,
            "stage3_param_persistence_threshold": 100_000,
            "stage3_max_live_parameters": 1_000_000_000,
            "stage3_max_reuse_distance": 1_000_000_000,
        }
    if settings.offload != "none":
        pinned = torch.cuda.is_available()
        zero["offload_optimizer"] = {"device": "cpu", "pin_memory": pinned}
        if settings.offload == "all":
            zero["offload_param"] = {"device": "cpu", "pin_memory": pinned}
    return {
        # A step is as many micro-steps as its examples need; these numbers only have to agree with each other.
        "train_micro_batch_size_per_gpu": 1,
        "gradient_accumulation_steps": 1,
        "train_batch_size": world,
        "managed_gradient_accumulation": False,
        # 0 before DeepSpeed 0.19, 1 since.
        "gradient_clipping": settings.clip,
        "prescale_gradients": False,
        "gradient_predivide_factor": 1.0,
        # Else gradients would be summed over ranks, and micro-steps, in bf16.
        "communication_data_type": "fp32",
        "data_types": {"grad_accum_dtype": "fp32"},
        "bf16": {"enabled": bf16, "check_grad_overflow": True, "immediate_grad_update": False},
        "fp16": {"enabled": False},
        "zero_optimization": zero,
        # torch's fused AdamW runs on the CPU as well, and needs no compiler.
        "zero_force_ds_cpu_optimizer": False,
        "zero_allow_untested_optimizer": False,
        "steps_per_print": None,
        "wall_clock_breakdown": False,
    }


class DeepSpeedEngine:
    """A DeepSpeed engine behind the protocol of `Engine`."""

    def __init__(self, settings: Settings, build: Build, *, rank: int, world: int, local: int) -> None:
        for name, value in (("RANK", rank), ("WORLD_SIZE", world), ("LOCAL_RANK", local)):
            os.environ.setdefault(name, str(value))  # where there is no launcher; DeepSpeed reads them
        self.rank, self.world = rank, world
        self.device = engines.join(rank, world, local)
        with quiet():
            deepspeed = _deepspeed()
            config = configuration(settings, world)
            self._deepspeed, self._stage = deepspeed, settings.zero
            with sharded(config):
                self.learner = build(device=self.device, gathered=self._gather)
            trained = [one for one in self.learner.parameters() if one.requires_grad]
            self._engine, *_ = deepspeed.initialize(
                model=self.learner,
                optimizer=engines.optimizer(settings, trained),
                config=config,
                dist_init_required=False,
            )
        self._names = {one: name for name, one in self.learner.named_parameters()}
        self._prepare()

    def micro(self, batch: Batch) -> tuple[Tensor, Tensor]:
        """Forward and backward of this rank's part of a step: what a Learner gives, without gradients.

        DeepSpeed averages gradients over ranks; a loss that is multiplied by their number makes that the sum.
        """
        loss, sums = self._engine(batch.to(self.device))
        self._engine.backward(loss * self.world)
        return loss.detach(), sums

    def step(self, learning_rate: float) -> Stepped:
        """Clip the summed gradients and update the weights, unless a gradient is not finite."""
        for group in self._engine.optimizer.param_groups:
            group["lr"] = learning_rate
        self._engine.step()
        skipped = not self._engine.was_step_applied()
        norm = float("inf") if skipped else float(self._engine.get_global_grad_norm())
        return Stepped(norm=norm, skipped=skipped)

    def evaluate(self, batch: Batch) -> Tensor:
        """The forward of a micro-step without dropout and gradients; summed losses and counts, (datasets, 2)."""
        before = self._engine.training
        self._engine.eval()
        with torch.no_grad():
            _, sums = self._engine(batch.to(self.device))
        self._engine.train(before)
        return sums

    def fragments(self) -> Iterator[Fragment]:
        """The stretches of parameters that are this rank's to update."""
        stretches = self._part if self._stage == 3 else self._flat
        for one, name in self._names.items():
            if one.requires_grad:
                yield from stretches(one, name)

    def restored(self, updates: int) -> None:
        """Take over what the fragments were filled with, after so many updates."""
        optimizer = self._engine.optimizer
        with torch.no_grad(), quiet():
            torch_engine.count(optimizer.optimizer, updates)
            if self._stage < 3:
                optimizer.update_lp_params()
            else:
                for group in range(len(optimizer.fp16_groups)):
                    optimizer._reassign_or_swap_out_partitioned_parameters(group)
                if optimizer.persistent_parameters:  # small ones, that each rank keeps whole
                    optimizer.persistent_parameters[0].all_gather(optimizer.persistent_parameters)

    def parameters(self) -> Iterator[tuple[str, Tensor]]:
        """The model's parameters, one after the other whole on every rank."""
        for one, name in self._names.items():
            with quiet(), self._gather([one], modifier_rank=None):
                yield name, one.detach()

    def sum(self, values: Sequence[float]) -> list[float]:
        """A few numbers summed over all ranks, in 64 bits."""
        return engines.sum_over_ranks(values, self.world)

    def barrier(self) -> None:
        """Wait for all ranks."""
        torch.distributed.barrier()

    def close(self) -> None:
        """Free what the model takes; the ranks stay together for another one."""
        with quiet():
            self._engine.destroy()

    def _gather(self, parameters: Sequence[Any], modifier_rank: int | None = 0) -> Any:
        """Make parameters whole while a context lasts, and take over what the modifier has changed in them."""
        if self._stage < 3:
            return contextlib.nullcontext()
        return self._deepspeed.zero.GatheredParameters(list(parameters), modifier_rank=modifier_rank)

    def _prepare(self) -> None:
        """Make the optimizer's state, which it would make at its first step, and let DeepSpeed see it.

        By itself DeepSpeed looks behind the step of the first group of weights, when others have no state yet.
        """
        optimizer = self._engine.optimizer
        if self._stage == 3:
            for flat in optimizer.fp32_partitioned_groups_flat:
                torch_engine.prepare_one(optimizer.optimizer, flat)
        else:
            torch_engine.prepare(optimizer.optimizer)
            optimizer._lazy_init_hp_params_optimizer_state()

    def _flat(self, one: Any, name: str) -> Iterator[Fragment]:
        """The stretch of a parameter that lies in this rank's part of the flattened model, if any does."""
        mapping = one._hp_mapping
        if mapping is not None:
            yield Fragment(
                name=name,
                start=mapping.lp_fragment_address.start,
                tensors=(
                    mapping.get_hp_fragment().detach(),
                    mapping.get_optim_state_fragment("exp_avg"),
                    mapping.get_optim_state_fragment("exp_avg_sq"),
                ),
            )

    def _part(self, one: Any, name: str) -> Iterator[Fragment]:
        """The part of a parameter that is this rank's; those of the last ranks may be shorter, or nothing."""
        optimizer = self._engine.optimizer
        parts = [
            optimizer._get_fp32_opt_state_partition(one, release_swap_buffers=False, optim_state_key=key)[0].detach()
            for key in (None, "exp_avg", "exp_avg_sq")
        ]
        start = self.rank * parts[0].numel()
        size = min(parts[0].numel(), one.ds_numel - start)
        if size > 0:
            weight, first, second = (part[:size] for part in parts)
            yield Fragment(name=name, start=start, tensors=(weight, first, second))


@contextlib.contextmanager
def sharded(config: dict[str, Any]) -> Iterator[None]:
    """Under ZeRO 3, models that transformers loads inside are shared out as they are read."""
    if config["zero_optimization"]["stage"] != 3:
        yield
        return
    from transformers.integrations import HfDeepSpeedConfig
    from transformers.integrations.deepspeed import unset_hf_deepspeed_config

    held = HfDeepSpeedConfig(config)  # transformers keeps a weak reference to it
    try:
        yield
    finally:
        unset_hf_deepspeed_config()
        del held


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """Keep what DeepSpeed prints, logs and warns of off the user's terminal, unless TRAINER_TRACEBACK asks for it."""
    if os.environ.get("TRAINER_TRACEBACK"):
        yield
        return
    logging.getLogger("DeepSpeed").setLevel(logging.ERROR)
    with warnings.catch_warnings(), Path(os.devnull).open("w") as nowhere, contextlib.redirect_stdout(nowhere):
        warnings.simplefilter("ignore")
        yield


def _deepspeed() -> Any:
    import deepspeed

    # A helper for inference that would be compiled with a C++ compiler, for a minute, at the first start.
    deepspeed.ops.__compatible_ops__["deepspeed_shm_comm"] = False
    deepspeed.init_distributed(verbose=False, timeout=timedelta(minutes=engines.TIMEOUT))
    return deepspeed
