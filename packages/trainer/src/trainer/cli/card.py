"""``trainer card``: a run as one HTML file, or several runs beside each other."""

from __future__ import annotations

from pathlib import Path

import click


@click.command()
@click.argument(
    "runs", metavar="RUN...", nargs=-1, required=True, type=click.Path(exists=True, file_okay=False, path_type=Path)
)
@click.option(
    "--to",
    "file",
    metavar="FILE",
    type=click.Path(dir_okay=False, path_type=Path),
    help="The file to write; default: RUN/card.html, of several runs comparison.html here.",
)
def command(*, runs: tuple[Path, ...], file: Path | None) -> None:
    """Write the card of a run folder: curves, evaluations, checkpoints, settings, data, versions.

    The file needs no network and no script, and can be sent to others. Of a run that still goes on it shows what was
    done so far. Several runs are compared: the settings that differ, and their curves over each other.

    \b
    trainer card runs/first
    trainer card runs/first runs/second --to both.html
    """  # noqa: D301  (click reads the mark of a text that is not to be wrapped)
    from trainer.watching import card, comparison

    written = card.write(runs[0], file) if len(runs) == 1 else comparison.write(runs, file or Path("comparison.html"))
    click.echo(str(written))
