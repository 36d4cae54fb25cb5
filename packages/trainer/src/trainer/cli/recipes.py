"""``trainer recipes``: the settings of the paper's models, to list, read and copy."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

if TYPE_CHECKING:
    from trainer.recipes.recipes import Recipe


@click.command()
@click.argument("name", required=False)
@click.option("--to", "file", metavar="FILE", type=click.Path(path_type=Path, dir_okay=False), help="Write it here.")
def command(*, name: str | None, file: Path | None) -> None:
    """List the recipes of the paper's models, or print one as TOML.

    \b
    trainer recipes human+gpt-13b > recipe.toml
    trainer config recipe.toml --set model=../llama-13b
    """  # noqa: D301  (click reads the mark of a text that is not to be wrapped)
    from trainer.recipes import recipes

    if name is None:
        if file:
            raise click.UsageError("Name the recipe to write: trainer recipes NAME --to FILE.")
        click.echo("\n".join(_table(list(recipes.recipes().values()))))
        return
    text = recipes.find(name).toml()
    if file is None:
        click.echo(text, nl=False)
    elif file.exists() and file.read_text(encoding="utf-8") != text:
        # It may have been changed by hand, for the sake of which recipes are copied.
        click.echo(f"{file} is there already and is left as it is.", err=True)
    else:
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text, encoding="utf-8")


def _table(found: list[Recipe]) -> list[str]:
    rows = [["recipe", "base", "rate", "length", "rows in"]]
    for one in found:
        tables = ", ".join(table.replace("table", "Table ") for table in one.tables)
        rows.append([one.name, one.base.title, f"{one.base.learning_rate:g}", f"{one.base.max_length:,}", tables])
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return ["  ".join(map("{:<{}}".format, row, widths)).rstrip() for row in rows]
