"""``trainer data convert``: raw files to conversations."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import click

from trainer.errors import TrainerError

if TYPE_CHECKING:
    from trainer.raw.convert import Report
    from trainer.raw.rows import Files
    from trainer.sources import Source

    #: A source, and what opens its raw files.
    Job = tuple[Source, Callable[[], Files]]

#: Rejected rows that are told in the terminal.
_TOLD = 5
_FOLDER = click.Path(path_type=Path, file_okay=False)


@click.command()
@click.argument("names", metavar="[NAME|FILE]...", nargs=-1)
@click.option(
    "--raw",
    metavar="DIR",
    type=click.Path(path_type=Path, exists=True),
    help="The folder of raw files, as `trainer data fetch --to DIR` makes it; or a source's one file.",
)
@click.option("--to", "folder", metavar="DIR", type=_FOLDER, required=True, help="Where conversations go.")
@click.option("--seed", default=42, show_default=True, help="With a source's name it makes all that is drawn.")
@click.option(
    "--limit", metavar="N", type=click.IntRange(min=1), help="Stop each source after N conversations, to try."
)
@click.option("--strict", is_flag=True, help="Exit with an error where a row is rejected.")
@click.option("--mapping", metavar="FORM", help="Read FILEs of anybody's: alpaca, messages, sharegpt or completion.")
@click.option("--name", metavar="NAME", help="With --mapping and one FILE: what to call it, if not like the file.")
@click.option("--field", "fields", metavar="FIELD=NAME", multiple=True, help="With --mapping: a field's name there.")
def command(
    *,
    names: Sequence[str],
    raw: Path | None,
    folder: Path,
    seed: int,
    limit: int | None,
    strict: bool,
    mapping: str | None,
    name: str | None,
    fields: Sequence[str],
) -> int:
    """Turn raw files into conversations, by the rules of the paper.

    Writes NAME.jsonl and NAME.report.json for each of the sources, all of them where none is named. What a source
    draws depends on its name and the seed alone. A row that makes no conversation is counted and told with file and
    line; it stops nothing.

    With --mapping, FILEs are JSON lists or JSON lines, or folders of them; each becomes one dataset.

    \b
    trainer data convert dolly alpaca --raw raw --to converted
    trainer data convert --mapping alpaca --field output=answer mine.jsonl --to converted
    """  # noqa: D301  (click reads the mark of a text that is not to be wrapped)
    if mapping:
        jobs = _mapped(names, mapping, name, fields)
    elif name or fields:
        raise click.UsageError("--name and --field go with --mapping.")
    elif raw is None:
        own = next((given for given in names if Path(given).suffix or Path(given).is_file()), "")
        hint = f" If {own} is a file of your own, say with --mapping what form it has." if own else ""
        raise click.UsageError(f"Missing option '--raw'.{hint}")
    else:
        jobs = _published(names, raw)
    from trainer.raw import convert

    reports, failures = [], []
    for job in jobs:
        if isinstance(job, TrainerError):
            failures.append(job)
            continue
        source, files = job
        try:
            with _Progress(source.name) as told:
                reports.append(convert.convert(source, files(), folder, seed=seed, limit=limit, tell=told))
        except TrainerError as error:
            failures.append(error)
    if reports:
        _show(reports, folder, limit)
    for failure in failures:
        click.echo(f"Error: {failure}", err=True)
    return 1 if failures or (strict and any(report.rejected for report in reports)) else 0


def _published(names: Sequence[str], raw: Path) -> Iterator[Job | TrainerError]:
    from trainer.raw.rows import Files
    from trainer.sources import registry

    sources = registry.chosen(names)
    if raw.is_file() and len(sources) > 1:
        raise click.UsageError(f"--raw {raw} is one file; name the one source that reads it.")
    for source in sources:
        if isinstance(source, TrainerError):
            yield source
        else:
            place = raw / source.name if (raw / source.name).is_dir() else raw
            remedy = f"`trainer data fetch {source.name} --to {raw}` fetches it."
            yield source, partial(Files, place, remedy=remedy)


def _mapped(paths: Sequence[str], form: str, name: str | None, fields: Sequence[str]) -> Iterator[Job | TrainerError]:
    from trainer.raw.rows import Files
    from trainer.sources.mapping import mapped

    if not paths:
        raise click.UsageError("--mapping needs a FILE.")
    if name is not None and (len(paths) > 1 or not name or Path(name).name != name):
        raise click.UsageError("--name is one word for one FILE; to join several, give their folder.")
    renamed = {}
    for field in fields:
        ours, equals, theirs = field.partition("=")
        if not (ours and equals and theirs):
            raise click.UsageError(f"--field {field} should read FIELD=NAME, as in output=answer.")
        renamed[ours] = theirs
    called = [name or Path(path).name.partition(".")[0] for path in paths]
    if len(set(called)) < len(called):
        raise click.UsageError("Two of the FILEs would be datasets of one name; convert them one by one with --name.")
    for path, dataset in zip(paths, called, strict=True):
        yield mapped(dataset, form, renamed), partial(Files, Path(path))


class _Progress:
    """Counts on a terminal while a source is converted."""

    def __init__(self, name: str) -> None:
        self._name = name
        self._shown = sys.stderr.isatty()

    def __enter__(self) -> Callable[[int], None]:
        return self._tell

    def __exit__(self, *_: object) -> None:
        if self._shown:
            click.echo("\r\x1b[K", err=True, nl=False)

    def _tell(self, count: int) -> None:
        if self._shown:
            click.echo(f"\r{self._name}: {count:,} conversations\x1b[K", err=True, nl=False)


def _show(reports: Sequence[Report], folder: Path, limit: int | None) -> None:
    """The table, and below it what was rejected and what else is worth a look."""
    from rich.console import Console
    from rich.table import Table

    out = Console(highlight=False, markup=False, emoji=False)
    if not out.is_terminal:
        out.width = 200
    table = Table("dataset", box=None, pad_edge=False)
    for title in ("rows", "conversations", "rejected", "paper", "difference"):
        table.add_column(title, justify="right")
    for report in reports:
        difference = f"{report.conversations - report.paper:+,}" if report.paper and not limit else ""
        counts = (f"{count:,}" if count else "-" for count in (report.rejected, report.paper))
        table.add_row(report.dataset, f"{report.rows:,}", f"{report.conversations:,}", *counts, difference)
    out.print(table)
    for report in reports:
        for note in _notes(report, folder):
            out.print(note, style=None if note.startswith("  ") else "yellow")
    if limit:
        out.print(
            f"\nOnly the first {limit:,} conversations of each were converted (--limit): these files are no datasets."
        )


def _notes(report: Report, folder: Path) -> Iterator[str]:
    if report.rejected:
        yield f"\n{report.dataset}: {report.rejected:,} rejected, {_share(report)} of what was read"
        yield from (f"  {told}" for told in report.first_rejected[:_TOLD])
        if report.rejected > _TOLD:
            yield f"  ... the first {len(report.first_rejected)} in {folder / report.dataset}.report.json"
    if report.renamed:
        yield f"\n{report.dataset}: {report.renamed:,} conversations had the id of another one and were given a new one"
    for file in report.files:
        if file["state"] in ("not the pinned file", "not as first fetched"):
            yield f"\n{report.dataset}: {file['name']} is {file['state']} (SHA-256 {file['sha256'][:12]})"


def _share(report: Report) -> str:
    share = 100 * report.rejected / max(1, report.rejected + report.conversations)
    return f"{share:.0f} %" if share >= 10 else f"{share:.2g} %"
