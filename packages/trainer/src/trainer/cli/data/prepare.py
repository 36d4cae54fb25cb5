"""``trainer data prepare``: conversations to token ids and masks, once, on all cores."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from trainer.cli import options

if TYPE_CHECKING:
    from trainer.preparation.prepared import Prepared


@click.command()
@click.argument(
    "files", metavar="FILE...", nargs=-1, required=True, type=click.Path(exists=True, dir_okay=False, path_type=Path)
)
@options.tokenizer
@options.template
@options.max_length
@click.option(
    "--to",
    "folder",
    metavar="DIR",
    required=True,
    type=click.Path(file_okay=False, path_type=Path),
    help="The prepared folder to be.",
)
@click.option(
    "--workers", type=click.IntRange(min=1), metavar="N", help="Processes to share the work; default: all cores."
)
@click.option("--skip-bad", is_flag=True, help="Leave out, and count, rows that cannot be used.")
def command(
    *,
    files: tuple[Path, ...],
    tokenizer: str,
    template: str,
    max_length: int,
    folder: Path,
    workers: int | None,
    skip_bad: bool,
) -> None:
    """Tokenize conversations into a folder that training maps into memory.

    Repeat the command and it opens what is there, or goes on where it was stopped. Whatever changes the result (files,
    tokenizer, template, length, code) makes it prepare anew. Rows that cannot be used are told with file and line, and
    the command fails unless --skip-bad; conversations in which nothing is learnt are left out and counted.
    """
    from trainer.cli import progress
    from trainer.preparation.prepare import Task, prepare
    from trainer.rendering import render

    renderer = render.load(tokenizer, template=template, max_length=max_length)
    task = Task(files=files, renderer=renderer, folder=folder, skip_bad=skip_bad)
    made = prepare(task, watch=progress.watch(), workers=workers)
    click.echo("\n".join(table(made)))


def table(made: Prepared) -> list[str]:
    """What was prepared: a line for each dataset, one for all, and what it takes on disk."""
    from trainer.preparation.prepared import Count

    counts = made.counts
    total = sum(counts.values(), start=Count())
    rows = [["dataset", "examples", "tokens", "supervised", "", "dropped", "truncated", "split"]]
    for name, count in [*counts.items(), *([("all", total)] if len(counts) > 1 else [])]:
        share = f"{count.supervised / count.tokens:.1%}" if count.tokens else ""
        numbers = [f"{getattr(count, column):,}" if column else share for column in rows[0][1:]]
        rows.append([name, *numbers])
    rows[0][3] = "learnt"
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines = [f"{row[0]:{widths[0]}}" + "".join(map("  {:>{}}".format, row[1:], widths[1:])) for row in rows]
    size = sum(told["bytes"] for told in made.manifest["files"].values())
    lines.append(f"{made.folder}: {size / 1e6:,.1f} MB, {size / total.tokens:.2f} bytes a token.")
    if rejected := made.manifest["rejected"]:
        first = made.manifest["rejected_first"][0]
        lines.append(f"{rejected:,} rows could not be used and were left out, the first: {first}")
    return lines
