"""``trainer data check``: whether exactly what the assistant says would be learnt, every conversation read back."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING

import click

from trainer.cli import options
from trainer.errors import DataError

if TYPE_CHECKING:
    from trainer.rendering.check import Findings

#: Failures and ids that are printed of each kind; the rest is counted.
SHOWN = 20


@click.command("check")
@click.argument("file", type=click.Path(exists=True, dir_okay=False, path_type=Path))
@options.tokenizer
@options.template
@options.max_length
def command(file: Path, tokenizer: str, template: str, max_length: int) -> None:
    """Prove that of every conversation in FILE exactly what the assistant says is learnt, with its EOS.

    Each piece of text that is learnt is decoded from its tokens and compared with the message. One difference is a
    failure; failures are told with file and line, and the exit code is 1.
    """
    from rich.console import Console
    from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

    from trainer.rendering import render
    from trainer.rendering.check import check

    renderer = render.load(tokenizer, template=template)
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        TextColumn("{task.percentage:.0f} %"),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=Console(stderr=True), transient=True, disable=not sys.stderr.isatty()) as progress:
        task = progress.add_task(f"checking {file.name}", total=file.stat().st_size)
        found = check(file, renderer, max_length=max_length, progress=lambda size: progress.advance(task, size))
    if not found.conversations and not found.failures:
        raise DataError(f"{file} holds no conversation, so there is nothing to prove.")
    click.echo("\n".join(_report(file, found, max_length)))
    sys.exit(1 if found.failures else 0)


def _report(file: Path, found: Findings, max_length: int) -> list[str]:
    share = found.learnt / found.tokens if found.tokens else 0.0
    lines = [str(one) for one in found.failures[:SHOWN]]
    if len(found.failures) > SHOWN:
        lines.append(f"... and {_counted(len(found.failures) - SHOWN, 'more failure')}.")
    lines.append(
        f"{file.name}: {_counted(found.conversations, 'conversation')}, {found.tokens:,} tokens,"
        f" {found.learnt:,} of them learnt ({share:.1%})."
    )
    kinds = (
        (found.split, "encoded in two parts, lest a token reach across the edge of what is learnt"),
        (found.special, "with the text of a special token in a message, which is encoded as that token"),
        (found.cut, f"longer than {max_length:,} tokens, to be cut"),
        (found.emptied, "so long that nothing learnt is left, to be dropped"),
        (found.silent, "in which the assistant says nothing, to be dropped"),
    )
    lines += [f"  {_listed(ids)} {what}" for ids, what in kinds if ids]
    verdict = (
        _counted(len(found.failures), "failure") if found.failures else "every one is exactly what the assistant says"
    )
    lines.append(f"Read back {_counted(found.spans, 'learnt piece')} of text: {verdict}.")
    return lines


def _counted(count: int, what: str) -> str:
    return f"{count:,} {what}" + ("" if count == 1 else "s")


def _listed(ids: list[str]) -> str:
    shown = ", ".join(ids[:SHOWN]) + (", ..." if len(ids) > SHOWN else "")
    return f"{len(ids):,} ({shown})"
