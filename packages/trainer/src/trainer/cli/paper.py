"""``trainer paper``: the way from public data to a row of the paper's tables, to read or to run."""

from __future__ import annotations

import click


@click.command()
@click.argument("table")
@click.option("--row", metavar="NAME", help="What to train on; without it the table's rows are listed.")
@click.option("--size", metavar="SIZE", default="", help="Of the base model: 7b, 13b, 30b, 65b.")
@click.option("--judge", metavar="MODEL", default="", help="Judges AlpacaFarm, as in evalkit run; else it is left out.")
@click.option("--add", "additions", metavar="STEP=OPTIONS", multiple=True, help="Options for a step's command.")
@click.option("--run", "runs", is_flag=True, help="Run the commands, those done before left out.")
@click.option("--skip", metavar="STEP", multiple=True, help="With --run: a step that you have done in another way.")
def command(
    *,
    table: str,
    row: str | None,
    size: str,
    judge: str,
    additions: tuple[str, ...],
    runs: bool,
    skip: tuple[str, ...],
) -> None:
    """Print the commands to a row of TABLE (table3, table4, table5), and what the paper printed there.

    They get the model, fetch, convert and mix its data, prepare, train and evaluate, in the folder where one stands.
    With --run they are run one after the other; repeat the command and it goes on where it was stopped.

    \b
    trainer paper table3 --row cot
    trainer paper table5 --row human+gpt --size 65b --judge openai:MODEL --run \\
      --add train='--with deepspeed --hostfile hosts'
    """  # noqa: D301  (click reads the mark of a text that is not to be wrapped)
    from trainer.recipes import paper

    if row is None:
        click.echo("\n".join(_rows(table)))
        return
    chain = paper.extended(paper.chain(table, row, size, judge=judge), additions)
    if not runs:
        if skip:
            raise click.UsageError("--skip goes with --run.")
        click.echo(chain.script(), nl=False)
        return
    paper.run(chain, skip=skip, say=lambda text: click.echo(text, err=True))
    click.echo("\n".join([chain.heading, *chain.published]))


def _rows(table: str) -> list[str]:
    """The rows of a table with the numbers that are known of them."""
    from trainer.errors import UnknownName
    from trainer.recipes.facts import COLUMNS, SCORES, TABLES

    if table not in TABLES:
        raise UnknownName("table", table, TABLES)
    lines = [["row", "size", *COLUMNS]]
    for name, row in TABLES[table].items():
        for base in (*row.bases, *row.also):
            scores = SCORES.get((row.data, base), (None,) * len(COLUMNS))
            lines.append([name, base, *("–" if score is None else f"{score:.1f}" for score in scores)])
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    return [
        "  ".join(
            f"{cell:<{width}}" if place < 2 else f"{cell:>{width}}"
            for place, (cell, width) in enumerate(zip(line, widths, strict=True))
        ).rstrip()
        for line in lines
    ]
