"""``trainer data plan``: who would read what in an optimizer step, and what other ways of batching would pay."""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from trainer.errors import DataError

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from trainer.planning.efficiency import Summary
    from trainer.planning.plan import Balanced, Examples, Plan


@click.command("plan")
@click.argument("data")
@click.option("--ranks", default=8, show_default=True, type=click.IntRange(1), help="Processes that train together.")
@click.option("--tokens", default=8192, show_default=True, type=click.IntRange(1), help="Most of a micro-step.")
@click.option("--batch", default=128, show_default=True, type=click.IntRange(1), help="Examples to an optimizer step.")
@click.option("--seed", default=42, show_default=True, help="Of the order of examples.")
@click.option("--step", type=click.IntRange(0), help="Print what each rank reads in this step.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def command(data: str, **given: Any) -> None:
    """Show how DATA is shared out over ranks, and what padding would cost.

    DATA is a folder made by `trainer data prepare`; or a .npy file, or a text file of one number a line, with the
    length of each example in tokens; or "human+gpt", a model of that mixture's lengths, to plan before there is data.
    """
    from trainer.planning.plan import Balanced, Examples, at

    examples = Examples(lengths=_lengths(data), seed=given["seed"], batch=given["batch"])
    plan = Balanced(examples=examples, ranks=given["ranks"], tokens=given["tokens"])
    step: int | None = given["step"]
    if step is None:
        ways = _compare(examples, plan)
        text = json.dumps({name: asdict(one) | {"efficiency": one.efficiency} for name, one in ways.items()})
        click.echo(text if given["as_json"] else "\n".join(_table(plan, ways)))
    elif given["as_json"]:
        click.echo(json.dumps([[micro.ids for micro in micros] for micros in at(plan, step).ranks]))
    else:
        click.echo("\n".join(_listed(plan, step)))


def _lengths(data: str) -> NDArray[np.int64]:
    import numpy as np

    from trainer.planning import length_model
    from trainer.preparation.prepared import Prepared

    if data == length_model.NAME:
        return length_model.human_and_gpt()
    path = Path(data)
    if path.is_dir():
        return np.asarray(Prepared.open(path).lengths, np.int64)
    try:
        if path.suffix == ".npy":
            return np.asarray(np.load(path, allow_pickle=False))
        return np.array([int(line) for line in path.read_text().split()], np.int64)
    except OSError as error:
        raise DataError(f"{path} cannot be read: {error.strerror or error}.") from None
    except (ValueError, OverflowError):
        raise DataError(
            f"{path} holds no lengths: pass a folder made by `trainer data prepare`, a .npy file of whole numbers, "
            "or a text file of one number a line."
        ) from None


def _compare(examples: Examples, plan: Balanced) -> dict[str, Summary]:
    """The whole first epoch of the plan, and of what could be done instead."""
    from trainer.planning.plan import Packed, Padded

    ranks, longest = plan.ranks, int(examples.lengths.max())
    ways: dict[str, Plan] = {"balanced": plan}
    for size in (2, 4, 8):
        if size * ranks <= examples.batch:
            ways[f"padded, {size} at a time"] = Padded(examples=examples, ranks=ranks, size=size)
    size = max(1, min(plan.tokens // longest, examples.batch // ranks))
    ways[f"packed rows of {longest:,}"] = Packed(examples=examples, ranks=ranks, size=size, tokens=longest)
    return {name: _measure(way, examples.lengths) for name, way in ways.items()}


def _measure(plan: Plan, lengths: NDArray[np.int64]) -> Summary:
    from trainer.planning.efficiency import cost, summarize

    return summarize(cost(plan.step(0, number), lengths) for number in range(plan.steps))


def _table(plan: Balanced, ways: dict[str, Summary]) -> Iterable[str]:
    mine = ways["balanced"]
    few, mean, many = mine.micros
    yield f"{mine.examples:,} examples, {mine.tokens:,} tokens, {mine.tokens / mine.steps:,.0f} a step"
    yield f"{mine.steps:,} optimizer steps an epoch, the same examples in each for any number of ranks"
    yield f"{plan.ranks} ranks, {few} to {many} micro-steps a step (mean {mean:.2f}) of at most {plan.tokens:,} tokens"
    yield f"balance of ranks, mean to most: mean {mine.balance[0]:.4f}, least {mine.balance[1]:.4f}"
    yield f"of what whole examples allow:   mean {mine.of_bound[0]:.4f}, least {mine.of_bound[1]:.4f}"
    yield ""
    yield f"{'':24}{'steps':>8}{'slots paid':>17}{'efficiency':>12}{'to this plan':>14}"
    for name, one in ways.items():
        row = f"{name:24}{one.steps:>8,}{one.slots:>17,}{one.efficiency:>12.4f}{one.slots / mine.slots:>14.2f}"
        yield row + ("  <- other optimizer steps" if one.steps != mine.steps else "")
    yield ""
    yield "Slots paid: padding, and in every micro-step waiting for the slowest rank (ZeRO-3)."


def _listed(plan: Balanced, number: int) -> Iterable[str]:
    from trainer.planning.plan import at

    epoch, step = divmod(number, plan.steps)
    yield f"step {number:,}: step {step:,} of {plan.steps:,} in epoch {epoch}"
    for rank, micros in enumerate(at(plan, number).ranks):
        for place, micro in enumerate(micros):
            yield f"rank {rank}  micro-step {place}  {micro.slots:>7,} tokens  {' '.join(map(str, micro.ids))}"
