"""``trainer prove``: what training promises, tried on the user's own model and data."""

from __future__ import annotations

import sys
import tempfile
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import TYPE_CHECKING

import click

from trainer.cli import options

if TYPE_CHECKING:
    from trainer.proving.claim import Claim
    from trainer.training.settings import Settings

#: In the order in which they take longer.
PROOFS = ("masks", "packing", "layouts", "stages", "resuming")


@click.command()
@options.recipe
@options.sets
@click.option("--only", metavar="NAME", multiple=True, type=click.Choice(PROOFS), help="One of the proofs; repeatable.")
def command(*, recipe: str, sets: tuple[str, ...], only: tuple[str, ...]) -> None:
    """Prove on a recipe's own model and data that training is exact; a line a claim, exit code 1 if one fails.

    \b
    masks     what is learnt is what the assistant says, and EOS
    packing   documents in one row teach what they do apart and padded
    layouts   ranks and micro-steps do not change a step's gradient
    stages    ZeRO's stages and the number of ranks give the same weights
    resuming  a run that was stopped ends as one that was not

    All compute in fp32, the last two on two processes. A large model takes its time: --only masks is quick, and a
    small model of the same family shows the same.
    """  # noqa: D301  (click reads the mark of a text that is not to be wrapped)
    from trainer.training import settings

    told = settings.load(recipe, sets).settings
    failed = count = 0
    for name in [one for one in PROOFS if not only or one in only]:
        for claim in run(name, told):
            click.echo(str(claim))
            count, failed = count + 1, failed + (not claim.holds)
    click.echo(f"{count - failed} of {count} claims hold.")
    sys.exit(1 if failed else 0)


def run(name: str, settings: Settings) -> Iterable[Claim]:
    """The claims of a proof, as they are found."""
    from trainer.proving import layouts, masks, packing, resuming, stages

    alone: dict[str, Callable[[Settings], Iterable[Claim]]] = {
        "masks": masks.prove,
        "packing": packing.prove,
        "layouts": layouts.prove,
    }
    if name in alone:
        yield from alone[name](settings)
        return
    # Beside the run folder, so that checkpoints lie on the disk that is meant for them.
    beside = Path(settings.out).absolute().parent
    beside.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="prove-", dir=beside) as folder:
        yield from (stages if name == "stages" else resuming).prove(settings, Path(folder))
