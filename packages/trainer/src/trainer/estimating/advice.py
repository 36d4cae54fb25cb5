"""The smallest change that would make a run fit, and what it costs."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from trainer.estimating import memory
from trainer.estimating.estimate import Estimate, changed

if TYPE_CHECKING:
    from trainer.training.settings import Settings

#: GPUs beyond which nobody is told to look for more; nor is there any to do for more than a batch has examples.
_MOST = 1024


@dataclass(frozen=True, slots=True, kw_only=True)
class Change:
    """One thing done to a run."""

    #: As it is given on the command line: ``--set zero=3`` or ``--gpus 16``.
    option: str
    cost: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Advice:
    """Changes that together make a run fit, and the run with them."""

    changes: tuple[Change, ...]
    estimate: Estimate


def advise(found: Estimate) -> list[Advice]:
    """What to change, cheapest first; nothing where nothing short of another machine helps.

    Changes that keep the machines are tried in the order of their cost, each alone and then with all before it; those
    that are not needed are left out again. Where that offloads, or nothing fits, more GPUs are the other way.
    """
    gpus = found.machines.gpus
    smallest = _smallest(found)
    ways = [_told(found, smallest, gpus)] if smallest else []
    if smallest and not any(key == "offload" for key, _ in smallest):
        return ways
    shared: list[tuple[str, object]] = [("activation_checkpointing", True), ("zero", 3)]
    kept = [(key, value) for key, value in shared if getattr(found.settings, key) != value]
    while (gpus := 2 * gpus) <= min(_MOST, found.settings.batch):
        if _many(found, kept, gpus).fits:
            return [*ways, _told(found, _needed(found, kept, gpus), gpus)]
    return ways


def _smallest(found: Estimate) -> list[tuple[str, object]]:
    """The changes that keep the machines, if any make it fit."""
    together: list[tuple[str, object]] = []
    for one in _settings(found):
        together = [other for other in together if other[0] != one[0]] + [one]
        for kept in ([one], together):
            if changed(found, _with(found.settings, kept)).fits:
                return _needed(found, kept, found.machines.gpus)
    return []


def _settings(found: Estimate) -> Iterator[tuple[str, object]]:
    """The settings that could be changed, in the order of what they cost."""
    settings = found.settings
    if not settings.activation_checkpointing:
        yield "activation_checkpointing", True
    least = int(found.data.lengths.max())
    if found.steps.tokens > least:
        yield "tokens", least
    if found.machines.gpus > 1:
        for zero in range(max(2, settings.zero + 1), 4):
            yield "zero", zero
    if found.job.gpu and settings.offload == "none":
        yield "offload", "optimizer"
    if found.job.gpu and settings.offload != "all":
        yield "offload", "all"


def _with(settings: Settings, kept: list[tuple[str, object]]) -> Settings:
    """The settings with changes, and with what those need: offloading is DeepSpeed's, and all of it ZeRO 3's."""
    values = dict(kept)
    if values.get("offload") == "all":
        values["zero"] = 3
    elif values.get("offload") and settings.zero == 0:
        values.setdefault("zero", 2)
    if {"zero", "offload"} & values.keys() and settings.engine == "torch":
        values["engine"] = "auto"
    return replace(settings, **values)  # type: ignore[arg-type]


def _many(found: Estimate, kept: list[tuple[str, object]], gpus: int) -> Estimate:
    return changed(found, _with(found.settings, kept), replace(found.machines, gpus=gpus))


def _needed(found: Estimate, kept: list[tuple[str, object]], gpus: int) -> list[tuple[str, object]]:
    """The changes without those that it fits without, the dearest left out first."""
    for one in reversed(list(kept)):
        fewer = [other for other in kept if other != one]
        if _many(found, fewer, gpus).fits:
            kept = fewer
    return kept


def _told(found: Estimate, kept: list[tuple[str, object]], gpus: int) -> Advice:
    then = _many(found, kept, gpus)
    values = {
        key: getattr(then.settings, key)
        for key in ("activation_checkpointing", "tokens", "zero", "offload", "engine")
        if getattr(then.settings, key) != getattr(found.settings, key)
    }
    changes = [
        Change(option=f"--set {key}={str(value).lower()}", cost=_COSTS[key](found, then))
        for key, value in values.items()
    ]
    if gpus != found.machines.gpus:
        changes.append(Change(option=f"--gpus {gpus}", cost=_gpus(found, then)))
    return Advice(changes=tuple(changes), estimate=then)


def _checkpointing(found: Estimate, then: Estimate) -> str:
    more = then.flops(recompute=True) / then.flops() - 1
    return f"each layer's forward is computed twice: {more:.0%} more work"


def _tokens(found: Estimate, then: Estimate) -> str:
    before, after = found.steps.summary.micros[1], then.steps.summary.micros[1]
    return f"{after:.1f} micro-steps to a step instead of {before:.1f}, each less than the kernels could take"


def _zero(found: Estimate, then: Estimate) -> str:
    if then.settings.zero < 3:
        return "gradients are sent in each micro-step, and kept by one rank each"
    sent = 2 * then.job.width * then.shape.parameters
    return f"each micro-step fetches all weights twice: {sent / 1e9:,.0f} GB into each GPU"


def _offload(found: Estimate, then: Estimate) -> str:
    held = memory.host(then.job) / 1e9
    what = "AdamW runs on CPUs" if then.settings.offload == "optimizer" else "weights live there, AdamW runs there"
    return f"{what}, with {held:,.0f} GB of the machine's memory for each GPU; the time above is without that"


def _gpus(found: Estimate, then: Estimate) -> str:
    if found.seconds and then.seconds:
        hours = then.seconds * then.machines.gpus / 3600
        return f"{hours:,.0f} GPU hours"
    return "more machines"


def _engine(found: Estimate, then: Estimate) -> str:
    return "what is shared out or offloaded is DeepSpeed's"


_COSTS: dict[str, Callable[[Estimate, Estimate], str]] = {
    "activation_checkpointing": _checkpointing,
    "tokens": _tokens,
    "zero": _zero,
    "offload": _offload,
    "engine": _engine,
}
