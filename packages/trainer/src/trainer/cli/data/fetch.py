"""``trainer data fetch``: the publishers' files of sources."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import click

from trainer.errors import TrainerError

if TYPE_CHECKING:
    from trainer.raw.download import Tell, Unreachable
    from trainer.raw.fetch import Fetched
    from trainer.sources import Published, Source


@click.command()
@click.argument("names", metavar="[NAME]...", nargs=-1)
@click.option(
    "--to",
    "folder",
    metavar="DIR",
    type=click.Path(path_type=Path, file_okay=False),
    required=True,
    help="The folder of raw files; made where there is none.",
)
def command(names: Sequence[str], folder: Path) -> int:
    """Download the raw files of all or some sources, as their publishers offer them.

    Each file is held to its SHA-256: the pinned one, or the one that its first fetch wrote to fetched.json. Repeat
    the command and it goes on where it stopped; what is there and good is not fetched again. Mind the licences: each
    is printed before anything of it is downloaded.
    """
    from trainer.raw import fetch
    from trainer.sources import registry

    failures: list[Fetched | TrainerError] = []
    away: dict[str, Unreachable] = {}
    for source in registry.chosen(names):
        if isinstance(source, TrainerError):
            failures.append(source)
            continue
        _head(source)
        if not source.published:
            click.echo("  nothing to fetch")
        for one in fetch.fetch(source, folder, tell=_teller(), away=away):
            if one.error:
                failures.append(one)
            click.echo(f"  {one.file.path}: " + ("failed" if one.error else f"{one.outcome} ({_size(one.size)})"))
    _tell(failures, folder)
    return 1 if failures else 0


def _tell(failures: Sequence[Fetched | TrainerError], folder: Path) -> None:
    """The errors, those of servers that do not answer with what to bring by hand."""
    away: dict[str, list[Published]] = {}
    for one in failures:
        if isinstance(one, TrainerError) or not one.unreachable:
            click.echo(f"Error: {one if isinstance(one, TrainerError) else one.error}", err=True)
        else:
            away.setdefault(str(one.error), []).append(one.file)
    for why, files in away.items():
        click.echo(f"Error: {why} Repeat the command later, or bring by hand:", err=True)
        for file in files:
            click.echo(f"  {file.url}\n    to {folder / file.path}", err=True)


def _head(source: Source) -> None:
    from trainer.raw import fetch

    caution = fetch.caution(source.licence)
    mark = f"  {click.style(f'[{caution}]', fg='yellow')}" if caution else ""
    click.echo(f"{click.style(source.name, bold=True)}: {source.licence or 'no licence given'}{mark}  {source.home}")


def _teller() -> Tell:
    """Shows how far a download is, on a terminal."""

    def tell(have: int, total: int) -> None:
        if sys.stderr.isatty():
            share = f"{100 * have / total:.0f} % of {_size(total)}" if total else _size(have)
            click.echo(f"\r  {share}\x1b[K" + ("\r\x1b[K" if have == total else ""), err=True, nl=False)

    return tell


def _size(count: float) -> str:
    """Bytes for people: ``22.8 MB``."""
    if count < 1000:
        return f"{count:.0f} B"
    for unit in ("kB", "MB"):
        count /= 1000
        if count < 1000:
            return f"{count:.1f} {unit}"
    return f"{count / 1000:.1f} GB"
