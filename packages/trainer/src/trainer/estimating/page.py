"""An estimate as a page of text."""

from __future__ import annotations

import shutil
import textwrap
from collections.abc import Iterable

from trainer.estimating import memory
from trainer.estimating.advice import Advice
from trainer.estimating.estimate import Estimate, layouts
from trainer.estimating.memory import TERMS

#: What comes before FLOP, from 10^6 on.
_FLOP = " M, G, T, P, E, Z"


def page(found: Estimate, ways: list[Advice], *, recipe: str) -> list[str]:
    """What there is to say of a run before it is started."""
    return [
        *_head(found, recipe),
        "",
        *_reading(found),
        "",
        *_memory(found),
        "",
        *_work(found),
        *_disk(found),
        "",
        *_verdict(found, ways),
    ]


def _head(found: Estimate, recipe: str) -> Iterable[str]:
    shape, device = found.shape, found.machines.device
    told = {"llama": "LLaMA", "opt": "OPT", "gpt_neox": "GPT-NeoX"}[shape.family]
    gpus, size = found.machines.gpus, found.machines.memory
    where = f"{gpus} x {device.name}" if device else f"{gpus} CPU rank{'s' * (gpus > 1)}"
    yield f"{recipe}: {told} of {_count(shape.parameters)} parameters on {where}, {_gb(size)} GB each"
    if device and device.note:
        yield from _wrapped("", f"{device.name}: {device.note}.")
    if found.job.added:
        yield f"LoRA: {_count(found.job.added)} parameters are tuned."


def _reading(found: Estimate) -> Iterable[str]:
    steps, data, settings = found.steps, found.data, found.settings
    tokens, examples = float(data.lengths.sum()), len(data.lengths)
    yield from _wrapped("data", data.told + ".")
    yield from _wrapped(
        "",
        f"{examples:,} examples, {_count(tokens)} tokens, {float(data.targets.sum()) / tokens:.0%} of them learnt;"
        f" the longest has {int(data.lengths.max()):,}.",
    )
    few, mean, many = steps.summary.micros
    yield from _wrapped("steps", f"{steps.total:,} of {settings.batch} examples, {steps.epoch:,} to an epoch.")
    each = f"{few}" if few == many else f"{few} to {many} (mean {mean:.1f})"
    yield from _wrapped(
        "",
        f"Each has {each} micro-step{'s' * (many > 1)} of {found.machines.gpus} x {steps.tokens:,} tokens at most; "
        f"{steps.summary.efficiency:.1%} of the slots that ranks pay hold a token.",
    )


def _memory(found: Estimate) -> Iterable[str]:
    heads = {"gradients": "grads", "optimizer": "AdamW", "activations": "activ."}
    names = [heads.get(term, term) for term in TERMS]
    yield f"{'GB by ZeRO stage':20}" + "".join(f"{name:>8}" for name in [*names, "all"])
    mine = found.settings.zero, found.settings.offload
    for label, one in layouts(found):
        numbers = [getattr(one.peak, term) for term in TERMS] + [one.peak.total]
        is_mine = (one.settings.zero, one.settings.offload) == mine
        shown = f"{'>' if is_mine else ' '} {label:18}" + "".join(f"{_gb(number):>8}" for number in numbers)
        yield shown + ("  ok" if one.fits else "")
    logits = f"the logits, {_gb(memory.logits_bytes(found.job))} GB at most, are there at the head"
    yield from _wrapped("", f"> is the recipe. It holds most at {found.peak.name}; {logits}{_of_host(found)}.")


def _of_host(found: Estimate) -> str:
    held = memory.host(found.job)
    return f"; each GPU's share of the machine's own memory is {_gb(held)} GB" if held else ""


def _work(found: Estimate) -> Iterable[str]:
    own = found.flops()
    more = (
        f", and {found.flops(recompute=True) / own - 1:.0%} more for checkpointing" if found.job.checkpointing else ""
    )
    yield from _wrapped(
        "work", f"{_count(found.tokens)} tokens, {_count(found.targets)} learnt: {_count(own, _FLOP)}FLOP{more}."
    )
    machines, seconds = found.machines, found.seconds
    if seconds is None:
        yield from _wrapped("time", "Not known for CPUs: measure a few steps and pass --measured.")
    elif machines.measured:
        yield from _wrapped("time", f"{_time(seconds)} at {machines.measured:,.0f} tokens a second, as measured.")
    elif machines.device:
        hours = seconds * machines.gpus / 3600
        yield from _wrapped(
            "time",
            f"{_time(seconds)}, {hours:,.1f} GPU hours, if {machines.mfu:.0%} of "
            f"{machines.device.flops / 1e12:,.0f} TFLOP/s are reached: an assumption; --measured puts a figure in its "
            "place.",
        )


def _disk(found: Estimate) -> Iterable[str]:
    yield from _wrapped(
        "disk",
        f"{_gb(found.checkpoint)} GB a checkpoint, {_gb(found.model)} GB the model, {_gb(found.disk)} GB the run "
        f"folder at most (keep = {found.settings.keep}).",
    )


def _verdict(found: Estimate, ways: list[Advice]) -> Iterable[str]:
    size = found.machines.memory
    if found.fits:
        yield f"Fits: {_gb(found.peak.total)} of {_gb(size)} GB."
        return
    yield f"Does not fit: {_gb(found.peak.total)} of {_gb(size)} GB."
    if not ways:
        yield "No ZeRO stage, offload or number of GPUs makes it fit: take GPUs with more memory."
    for way, begin in zip(ways, ("The smallest change that does", "Or"), strict=False):
        then = way.estimate
        time = f", {_time(then.seconds)}" if then.seconds else ""
        yield f"{begin} ({_gb(then.peak.total)} GB{time}):"
        for change in way.changes:
            yield from _wrapped(f"  {change.option}", f"  {change.cost}.", indent=6)


def _wrapped(label: str, text: str, indent: int = 7) -> list[str]:
    """A label and what is to say of it, in lines as wide as the terminal, within reason."""
    width = min(max(shutil.get_terminal_size((80, 24)).columns, 80), 120)
    return textwrap.wrap(
        f"{label:{indent}}{text}", width, subsequent_indent=" " * indent, break_on_hyphens=False, drop_whitespace=True
    )


def _gb(size: float) -> str:
    """Bytes in GB (10^9), as many digits as are worth reading."""
    value = size / 1e9
    if value >= 100:
        return f"{value:,.0f}"
    return f"{value:.3g}" if value >= 1 else f"{value:.2f}" if value >= 0.005 else "0"


def _count(number: float, names: str = " M, B, T") -> str:
    """A number as people say it, to three digits or four."""
    for power, name in reversed(list(enumerate(names.split(","), start=2))):
        if number >= 1000**power:
            return f"{number / 1000**power:,.1f}{name}"
    return f"{number:,.0f}"


def _time(seconds: float) -> str:
    if seconds < 120:
        return f"{seconds:.0f} seconds"
    if seconds < 7200:
        return f"{seconds / 60:.0f} minutes"
    return f"{seconds / 3600:.1f} hours" if seconds < 72 * 3600 else f"{seconds / 86400:.1f} days"
