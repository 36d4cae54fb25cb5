"""The engine in plain torch: one process, or several that average their gradients and share nothing out."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from trainer.training import engine as engines
from trainer.training import model
from trainer.training.engine import Stepped
from trainer.training.fragments import Fragment

if TYPE_CHECKING:
    from trainer.training.batch import Batch
    from trainer.training.engine import Build
    from trainer.training.settings import Settings

#: Elements of gradient that ranks send each other at once.
_BUCKET = 1 << 24


class TorchEngine:
    """AdamW on fp32 weights; in bf16 they are the masters of the model's, and gradients are summed in fp32, too."""

    def __init__(self, settings: Settings, build: Build, *, rank: int = 0, world: int = 1, local: int = 0) -> None:
        self.rank, self.world = rank, world
        self.device = engines.join(rank, world, local)
        self.learner = build(device=self.device, gathered=model.whole).to(self.device)
        self._clip = settings.clip
        self._names, self._weights = zip(
            *((name, one) for name, one in self.learner.named_parameters() if one.requires_grad), strict=True
        )
        self._masters: list[nn.Parameter] = list(self._weights)
        if settings.precision == "bf16":
            self._masters = [nn.Parameter(one.detach().float()) for one in self._weights]
            for weight, master in zip(self._weights, self._masters, strict=True):
                weight.register_post_accumulate_grad_hook(lambda weight, master=master: _hand_over(weight, master))
        self._optimizer = engines.optimizer(settings, self._masters)

    def micro(self, batch: Batch) -> tuple[Tensor, Tensor]:
        """Forward and backward of this rank's part of a step: what a Learner gives, without gradients."""
        loss, sums = self.learner(batch.to(self.device))
        loss.backward()
        return loss.detach(), sums

    def step(self, learning_rate: float) -> Stepped:
        """Sum the gradients of all ranks, clip them and update the weights, unless a gradient is not finite."""
        gradients = [_gradient(one) for one in self._masters]
        if self.world > 1:
            _sum(gradients)
        # In the precisions in which DeepSpeed does it, so that the two agree to the last bit.
        norms = torch.stack([torch.linalg.vector_norm(one, dtype=torch.float64) for one in gradients])
        norm = norms.pow(2).sum().float().sqrt()
        skipped = not torch.isfinite(norm)
        if not skipped:
            if self._clip:
                torch._foreach_mul_(gradients, 1 / ((norm + 1e-6) / self._clip).clamp(min=1.0))
            for group in self._optimizer.param_groups:
                group["lr"] = learning_rate
            self._optimizer.step()
            self._update()
        for one in self._masters:
            one.grad = None
        return Stepped(norm=float("inf") if skipped else float(norm), skipped=skipped)

    def evaluate(self, batch: Batch) -> Tensor:
        """The forward of a micro-step without dropout and gradients; summed losses and counts, (datasets, 2)."""
        before = self.learner.training
        self.learner.eval()
        with torch.no_grad():
            _, sums = self.learner(batch.to(self.device))
        self.learner.train(before)
        return sums

    def fragments(self) -> Iterator[Fragment]:
        """All parameters whole; they are the same on every rank, so one after the other is another rank's to write."""
        prepare(self._optimizer)
        for place, (name, master) in enumerate(zip(self._names, self._masters, strict=True)):
            state = self._optimizer.state[master]
            yield Fragment(
                name=name,
                start=0,
                tensors=(
                    master.detach().view(-1),
                    state["exp_avg"].view(-1),
                    state["exp_avg_sq"].view(-1),
                ),
                owned=place % self.world == self.rank,
            )

    def restored(self, updates: int) -> None:
        """Take over what the fragments were filled with, after so many updates."""
        count(self._optimizer, updates)
        self._update()

    def parameters(self) -> Iterator[tuple[str, Tensor]]:
        """The model's parameters, which every rank has."""
        for name, one in self.learner.named_parameters():
            yield name, one.detach()

    def sum(self, values: Sequence[float]) -> list[float]:
        """A few numbers summed over all ranks, in 64 bits."""
        return engines.sum_over_ranks(values, self.world)

    def barrier(self) -> None:
        """Wait for all ranks."""
        torch.distributed.barrier()

    def close(self) -> None:
        """Free what the model takes; the ranks stay together for another one."""
        self._optimizer.state.clear()

    def _update(self) -> None:
        """Give the model what its fp32 weights are now."""
        for weight, master in zip(self._weights, self._masters, strict=True):
            if weight is not master:
                weight.data.copy_(master.data)


def prepare(optimizer: torch.optim.Optimizer) -> None:
    """Make AdamW's state, which it would make at its first step, so that there is something to fill."""
    for group in optimizer.param_groups:
        for one in group["params"]:
            prepare_one(optimizer, one)


def prepare_one(optimizer: torch.optim.Optimizer, weight: Tensor) -> None:
    """Make AdamW's state of one weight."""
    if not optimizer.state[weight]:
        optimizer.state[weight] = {
            "step": torch.zeros((), dtype=torch.float32, device=weight.device),
            "exp_avg": torch.zeros_like(weight).detach(),
            "exp_avg_sq": torch.zeros_like(weight).detach(),
        }


def count(optimizer: torch.optim.Optimizer, updates: int) -> None:
    """Say how many updates there have been, which AdamW's correction of its means depends on."""
    for state in optimizer.state.values():
        state["step"].fill_(updates)


def _hand_over(weight: nn.Parameter, master: nn.Parameter) -> None:
    """Add a gradient to the fp32 sum as soon as it is there, so that one at a time is held in bf16."""
    if weight.grad is None:
        return
    if master.grad is None:
        master.grad = weight.grad.float()
    else:
        master.grad += weight.grad
    weight.grad = None


def _gradient(master: nn.Parameter) -> Tensor:
    if master.grad is None:  # no micro-step of this rank came by here
        master.grad = torch.zeros_like(master)
    return master.grad


def _sum(gradients: Sequence[Tensor]) -> None:
    """Sum gradients over all ranks, small ones together, so that they do not wait for each other."""
    buckets: list[list[Tensor]] = [[]]
    size = 0
    for one in gradients:
        if buckets[-1] and size + one.numel() > _BUCKET:
            buckets.append([])
            size = 0
        buckets[-1].append(one.view(-1))
        size += one.numel()
    for bucket in buckets:
        flat = torch.cat(bucket)
        torch.distributed.all_reduce(flat)
        torch._foreach_copy_(bucket, list(flat.split([one.numel() for one in bucket])))
