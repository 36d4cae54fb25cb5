"""``trainer data mix``: datasets into one file to learn from."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import click

if TYPE_CHECKING:
    from trainer.mixing.drawing import Mixed
    from trainer.mixing.mixture import Mixture
    from trainer.mixing.survey import Tell


@click.command()
@click.argument("name", metavar="[MIXTURE|FILE.toml]", required=False)
@click.option("--from", "folder", metavar="DIR", type=click.Path(path_type=Path), help="Where converted datasets are.")
@click.option(
    "--to", metavar="FILE", type=click.Path(path_type=Path, dir_okay=False), required=True, help="The mix, a .jsonl."
)
@click.option("--part", "parts", metavar="NAME[:AMOUNT]", multiple=True, help="A dataset or file, and how much of it.")
@click.option("--seed", type=int, help="With a part's name it makes what is drawn.  [default: 42]")
@click.option("--total", metavar="N", type=click.IntRange(min=1), help="Conversations that weights share out.")
@click.option("--json", "as_json", is_flag=True, help="Print the record as JSON.")
def command(
    *,
    name: str | None,
    folder: Path | None,
    to: Path,
    parts: Sequence[str],
    seed: int | None,
    total: int | None,
    as_json: bool,
) -> None:
    """Draw a mixture of datasets and write it, with a record of its parts and hashes beside it.

    MIXTURE is human or human+gpt (tulu); FILE.toml lists parts of its own. --part adds one, or takes the place of
    the part of that name: a source's name, or any file of conversations, and how much of it: 2000 conversations,
    0.5 or 50% of them, or weight=3. All parts have weights or none has; with --total they may repeat what there is.

    What is drawn of a part depends on its name, its file, the amount and the seed, and on no other part.

    \b
    trainer data mix human+gpt --from converted --to mix.jsonl
    trainer data mix human --from converted --part ours.jsonl --part cot:0.5 --to mix.jsonl
    """  # noqa: D301  (click reads the mark of a text that is not to be wrapped)
    from trainer.mixing import drawing

    mixture = _mixture(name, parts, folder)
    mixture = replace(
        mixture,
        seed=mixture.seed if seed is None else seed,
        total=mixture.total if total is None else total,
    )
    with _progress(mixture) as tell:
        mixed = drawing.mix(mixture, to, converted=folder or Path(), tell=tell)
    if as_json:
        click.echo(drawing.record_path(to).read_text(encoding="utf-8"), nl=False)
    else:
        _show(mixed, to)


def _mixture(name: str | None, texts: Sequence[str], folder: Path | None) -> Mixture:
    from trainer.mixing import mixture

    # Where no folder is given no dataset may be named: the placeholder is never shown.
    place = folder or Path("--from")
    parts = [mixture.part(text, place) for text in texts]
    if name is None:
        if not parts:
            raise click.UsageError("Name a mixture (human, human+gpt), a file, or parts (--part).")
        made = mixture.Mixture(name="parts", parts=tuple(parts))
    else:
        _require_mixture(name, place)
        base = mixture.from_toml(Path(name), place) if name.endswith(".toml") else mixture.named(name, place)
        made = base.with_parts(parts)
    if folder is None:
        sources = [part.name for part in made.parts if part.path.parent == place]
        if sources:
            raise click.UsageError(f"Say with --from where the converted datasets are: {', '.join(sources)}.")
    return made


def _require_mixture(name: str, folder: Path) -> None:
    """A dataset or a file where a mixture should stand was most likely meant as a part."""
    from trainer.mixing import mixture
    from trainer.sources.registry import TWELVE

    if name in mixture.NAMED or name in mixture.ALIASES or name.endswith(".toml"):
        return
    if set(":/.") & set(name) or name in TWELVE or (folder / f"{name}.jsonl").is_file():
        raise click.UsageError(f"{name} is no mixture; a dataset or file is a part: --part {name}.")


@contextmanager
def _progress(mixture: Mixture) -> Iterator[Tell]:
    """A bar over the bytes of two readings, on a terminal."""
    from rich.console import Console
    from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeRemainingColumn

    columns = (TextColumn("reading"), BarColumn(), TaskProgressColumn(), TimeRemainingColumn())
    size = sum(part.path.stat().st_size for part in mixture.parts if part.path.is_file())
    with Progress(*columns, console=Console(stderr=True), transient=True, disable=not sys.stderr.isatty()) as bar:
        task = bar.add_task("", total=2 * size)
        yield lambda read: bar.advance(task, read)


def _show(mixed: Mixed, to: Path) -> None:
    from rich.console import Console
    from rich.table import Table

    from trainer.mixing.drawing import record_path

    out = Console(highlight=False, markup=False, emoji=False)
    if not out.is_terminal:
        out.width = 200
    table = Table("part", "asked", box=None, pad_edge=False)
    for title in ("there", "taken", "share"):
        table.add_column(title, justify="right")
    for part in mixed.parts:
        share = f"{100 * part.taken / mixed.conversations:.1f} %"
        table.add_row(part.name, part.asked, f"{part.there:,}", f"{part.taken:,}", share)
    table.add_section()
    table.add_row("total", "", "", f"{mixed.conversations:,}", "")
    out.print(table)
    for part in mixed.parts:
        if part.limit:
            out.print(f"\n{part.file} is no whole dataset: it was converted with --limit {part.limit}.")
        if part.rejected:
            out.print(f"\n{part.file}: {part.rejected:,} rows make no conversation, the first: {part.first_rejected}")
    size = f"{mixed.bytes / 1e6:,.1f} MB"
    out.print(f"\n{to}  {size}  SHA-256 {mixed.sha256[:12]}", soft_wrap=True)
    out.print(f"{record_path(to)}  what went in, with hashes", soft_wrap=True)
