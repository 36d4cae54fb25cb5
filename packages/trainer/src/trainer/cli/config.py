"""``trainer config``: the settings of a run, resolved, with the source of each."""

from __future__ import annotations

import click

from trainer.cli import options


@click.command()
@options.recipe
@options.sets
def command(*, recipe: str, sets: tuple[str, ...]) -> None:
    """Print the settings that a recipe makes, and where each comes from.

    What is printed is itself a recipe: default, a line of the file, or --set stands behind each value as a comment.

    \b
    trainer config recipe.toml --set learning_rate=1e-5 --set zero=3
    """  # noqa: D301  (click reads the mark of a text that is not to be wrapped)
    from trainer.training import settings

    click.echo(settings.load(recipe, sets).toml(), nl=False)
