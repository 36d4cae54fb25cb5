"""``trainer train``: a run from its first step, or from where it was stopped, to the model's folder."""

from __future__ import annotations

import sys

import click

from trainer.cli import options


@click.command()
@options.recipe
@options.sets
def command(*, recipe: str, sets: tuple[str, ...]) -> None:
    """Train as a recipe says, and write the tuned model as a folder that transformers and evalkit open.

    Started alone it uses one process; `trainer launch` and torchrun start it on many. Stopped by a signal or by its
    time limit it saves and exits with 75; repeat the command, on as many ranks as you like, and it goes on.

    \b
    trainer train recipe.toml --set out=runs/first
    """  # noqa: D301  (click reads the mark of a text that is not to be wrapped)
    from trainer.errors import Interrupted
    from trainer.training import engine, settings
    from trainer.watching.watch import open_watch

    resolved = settings.load(recipe, sets)
    rank, world, _ = engine.world()
    watch = open_watch(resolved, rank=rank)
    from trainer.training.train import train

    try:
        folder = train(resolved.settings, watch)
    except Interrupted as error:
        if rank:  # all ranks stop together, and rank 0 says why
            sys.exit(error.exit_code)
        raise
    except Exception as error:
        if world == 1 or not engine.lost(error):
            raise
        why = " ".join(str(error).split())
        raise Interrupted(
            f"Rank {rank} lost another rank, whose output says why ({why}); repeat the command to go on."
        ) from error
    finally:
        engine.leave()
    if rank == 0:
        click.echo(str(folder))
