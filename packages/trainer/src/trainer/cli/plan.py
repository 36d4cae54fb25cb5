"""``trainer plan``: what a run needs of GPUs, hours and disk, before any of them is booked."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from trainer.cli import options
from trainer.errors import TrainerError, UnknownName

if TYPE_CHECKING:
    from trainer.estimating.estimate import Estimate, Machines


@click.command()
@options.recipe
@options.sets
@click.option("--gpus", default=8, show_default=True, type=click.IntRange(1), help="Of all machines together.")
@click.option("--gpu", default="a100", show_default=True, metavar="KIND", help="a100, h100, mi250x, ...; or cpu.")
@click.option("--gpu-memory", type=click.FloatRange(0, min_open=True), metavar="GB", help="Where it is not the usual.")
@click.option(
    "--mfu", default=0.4, show_default=True, type=click.FloatRange(0, 1, min_open=True), help="To be reached."
)
@click.option("--measured", metavar="N|RUN", help="Tokens a second of all GPUs; or a run folder, whose log tells.")
@click.option("--max-length", type=click.IntRange(1), metavar="N", help="Of examples, before there are any.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def command(*, recipe: str, sets: tuple[str, ...], as_json: bool, max_length: int | None, **given: Any) -> None:
    """Estimate a run: memory of each GPU, steps, time and disk, and the smallest change that makes it fit.

    Nothing is loaded: the model's config.json is enough, and for the paper's models not even that; where the data is
    not prepared yet, its lengths are modelled. GB are 10^9 bytes; what a card has above that (an 80 GB card has 85.9)
    is left to CUDA and to gaps in its memory.

    \b
    trainer plan recipe.toml --gpus 8 --gpu h100 --set zero=3
    """  # noqa: D301  (click reads the mark of a text that is not to be wrapped)
    from trainer.estimating import advice, estimate, page, shape, workload
    from trainer.training import settings

    told = settings.load(recipe, sets).settings
    machines = _machines(**given)
    options.check_shares(told.batch, machines.gpus)
    data = workload.find(told, max_length=max_length)
    found = estimate.estimate(told, shape.find(told.model), data, machines)
    ways = [] if found.fits else advice.advise(found)
    if as_json:
        click.echo(json.dumps(_json(found)))
        return
    click.echo("\n".join(page.page(found, ways, recipe=Path(recipe).name)))


def _machines(*, gpus: int, gpu: str, gpu_memory: float | None, mfu: float, measured: str | None) -> Machines:
    from trainer.estimating import compute
    from trainer.estimating.estimate import Machines

    device = compute.device(gpu)
    if device is None and gpu.lower() != "cpu":
        raise UnknownName("GPU", gpu.upper(), ["cpu", *(one.name for one in compute.DEVICES)])
    size = gpu_memory * 1e9 if gpu_memory else device.memory * 1e9 if device else _memory() / gpus
    speed = _speed(measured) if measured else 0.0
    return Machines(gpus=gpus, device=device, memory=size, mfu=mfu, measured=speed)


def _memory() -> float:
    """The bytes of this machine's memory."""
    import os

    return float(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES"))


def _speed(measured: str) -> float:
    """Tokens a second: the number itself, or the median of a run's log behind its first steps."""
    import statistics

    try:
        return float(measured.replace(",", ""))
    except ValueError:
        pass
    file = Path(measured) / "log.jsonl"
    try:
        lines = [json.loads(line) for line in file.read_text().splitlines()]
    except (OSError, ValueError) as error:
        raise TrainerError(f"--measured {measured} is neither a number nor a run folder ({error}).") from None
    speeds = [line["tokens_per_second"] for line in lines if line.get("tokens_per_second")]
    if not speeds:
        raise TrainerError(f"{file} tells of no step: train a few, or pass --measured a number.")
    return float(statistics.median(speeds[min(3, len(speeds) - 1) :]))


def _json(found: Estimate) -> dict[str, Any]:
    from trainer.estimating.estimate import layouts
    from trainer.estimating.memory import TERMS

    def held(one: Estimate) -> dict[str, float]:
        return {term: getattr(one.peak, term) for term in TERMS} | {"total": one.peak.total}

    return {
        "parameters": found.shape.parameters,
        "tuned": found.job.trained,
        "fits": found.fits,
        "memory": held(found),
        "layouts": {name: held(one) for name, one in layouts(found)},
        "steps": found.steps.total,
        "micro_steps": list(found.steps.summary.micros),
        "micro_step_tokens": found.steps.tokens,
        "tokens": found.tokens,
        "supervised": found.targets,
        "flops": found.flops(),
        "seconds": found.seconds,
        "checkpoint_bytes": found.checkpoint,
        "disk_bytes": found.disk,
    }
