"""``trainer data stats``: Table 1, and what training would read."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from trainer.cli import options
from trainer.errors import DataError

if TYPE_CHECKING:
    from rich.console import Console
    from rich.table import Table

    from trainer.mixing.survey import Tell
    from trainer.statistics import Counted, Statistics

#: Lengths of which it is counted how many examples are longer.
_EDGES = (512, 1024, 2048, 4096)
#: Columns of the longest bar.
_BAR = 50


@click.command()
@click.argument("files", metavar="FILE...", nargs=-1, required=True, type=click.Path(path_type=Path, dir_okay=False))
@click.option("--tokenizer", metavar="ID", help="A checkpoint's folder or hub id; without it words are counted.")
@options.template
@options.max_length
@click.option("--batch", metavar="N", default=128, show_default=True, type=click.IntRange(min=1), help="Of a step.")
@click.option("--json", "as_json", is_flag=True, help="Print all numbers as JSON.")
def command(
    *, files: Sequence[Path], tokenizer: str | None, template: str, max_length: int, batch: int, as_json: bool
) -> None:
    """Count FILEs of conversations: Table 1 of the paper beside its numbers, and what training would read.

    Lengths in Table 1 are means over messages, in tokens of each text alone, without template; rounds are half the
    messages. What training reads is counted with the template, cut at --max-length: tokens, those that are learnt,
    examples cut or dropped because nothing in them is learnt, and optimizer steps of an epoch.
    """
    from trainer import statistics
    from trainer.rendering import render

    renderer = render.load(tokenizer, template=template, max_length=max_length) if tokenizer else None
    measure = statistics.tokens(renderer) if renderer else statistics.words
    with _progress(files) as tell:
        counted = statistics.count(files, measure, renderer, tell=tell)
    if not counted.datasets:
        raise DataError(f"{', '.join(map(str, files))}: no conversation to count.")
    setting = {"tokenizer": tokenizer, "template": template, "max_length": max_length, "batch": batch}
    if as_json:
        click.echo(json.dumps(_document(counted, setting), indent=2, ensure_ascii=False))
    else:
        _show(counted, setting)


@contextmanager
def _progress(files: Sequence[Path]) -> Iterator[Tell]:
    """A bar over the bytes read, on a terminal."""
    from rich.console import Console
    from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeRemainingColumn

    columns = (TextColumn("counting"), BarColumn(), TaskProgressColumn(), TimeRemainingColumn())
    size = sum(file.stat().st_size for file in files if file.is_file())
    with Progress(*columns, console=Console(stderr=True), transient=True, disable=not sys.stderr.isatty()) as bar:
        task = bar.add_task("", total=size)
        yield lambda read: bar.advance(task, read)


def _document(counted: Counted, setting: dict[str, Any]) -> dict[str, Any]:
    rendered = setting["tokenizer"] is not None
    return {
        "format": 1,
        **(setting if rendered else {"tokenizer": None}),
        "lengths_in": "tokens" if rendered else "words",
        "datasets": {name: _numbers(name, one, setting) for name, one in counted.datasets.items()},
        "total": _numbers("", counted.total, setting),
        "first_rejected": list(counted.first_rejected),
    }


def _numbers(name: str, one: Statistics, setting: dict[str, Any]) -> dict[str, Any]:
    from trainer.statistics import EDGES
    from trainer.table1 import TABLE_1

    table = {
        "instances": one.instances,
        "messages": one.messages,
        "rounds": one.rounds,
        "prompt": one.prompt,
        "completion": one.completion,
        "paper": asdict(TABLE_1[name]) if name in TABLE_1 else None,
    }
    if setting["tokenizer"] is None:
        return table
    training = {
        **asdict(one.count),
        "rejected": one.rejected,
        "supervised_share": one.supervised_share,
        "steps": one.steps(setting["batch"]),
        "longer_than": {str(edge): one.longer_than(edge) for edge in _EDGES},
        "lengths": {"edges": list(EDGES), "examples": list(one.lengths)},
    }
    return {**table, "training": training}


def _show(counted: Counted, setting: dict[str, Any]) -> None:
    from rich.console import Console

    out = Console(highlight=False, markup=False, emoji=False)
    if not out.is_terminal:
        out.width = 200
    tokenizer = setting["tokenizer"]
    out.print(_table_1(counted, in_tokens=tokenizer is not None))
    if tokenizer is None:
        out.print("\nLengths in words: without --tokenizer there are no tokens to count and to compare.")
        return
    out.print(f"\nLengths in tokens of {tokenizer}; the paper's are LLaMA's.", soft_wrap=True)
    limit = f"cut at {setting['max_length']:,} tokens, {setting['batch']:,} examples a step"
    out.print(f"What training reads: template {setting['template']}, {limit}.\n", soft_wrap=True)
    out.print(_training(counted, setting["batch"]))
    out.print()
    out.print(_limited(counted))
    out.print()
    _histogram(out, counted.total.lengths)
    total = counted.total
    if total.rejected:
        out.print(f"\n{total.rejected:,} conversations cannot be rendered exactly, the first:")
        for told in counted.first_rejected:
            out.print(f"  {told}", soft_wrap=True)


def _table_1(counted: Counted, *, in_tokens: bool) -> Table:
    """A row for each dataset, the paper's below it, and below that the difference."""
    from trainer.table1 import TABLE_1

    table = _table("Table 1", ("", "instances", "rounds", "prompt", "completion"))
    for name, one in _named(counted):
        here = (one.rounds, one.prompt, one.completion)
        table.add_row(name, "", f"{one.instances:,}", *(f"{value:.1f}" for value in here))
        if name in TABLE_1:
            paper = TABLE_1[name]
            reported = (paper.rounds, paper.prompt, paper.completion)
            table.add_row("", "paper", f"{paper.instances:,}", *(f"{value:.1f}" for value in reported), style="dim")
            # Both to the table's one decimal; words are not held against tokens.
            differences = [f"{round(a, 1) - b:+.1f}" for a, b in zip(here, reported, strict=True)]
            shown = differences if in_tokens else differences[:1]
            table.add_row("", "difference", f"{one.instances - paper.instances:+,}", *shown)
    return table


def _training(counted: Counted, batch: int) -> Table:
    table = _table("training", ("examples", "tokens", "each", "learnt", "share", "steps"))
    for name, one in _named(counted):
        count = one.count
        each = round(count.tokens / count.examples) if count.examples else 0
        cells = (count.examples, count.tokens, each, count.supervised)
        share = f"{100 * one.supervised_share:.1f} %"
        table.add_row(name, *(f"{cell:,}" for cell in cells), share, f"{one.steps(batch):,}")
    return table


def _limited(counted: Counted) -> Table:
    """What the length limit costs: examples longer than it, tokens lost, examples of which nothing learnt is left."""
    table = _table("length", (*(f"> {edge:,}" for edge in _EDGES), "cut", "tokens lost", "dropped"))
    for name, one in _named(counted):
        cells = (*(one.longer_than(edge) for edge in _EDGES), one.count.truncated, one.count.cut, one.count.dropped)
        table.add_row(name, *(f"{cell:,}" for cell in cells))
    return table


def _table(first: str, titles: Sequence[str]) -> Table:
    from rich.table import Table

    table = Table(first, box=None, pad_edge=False)
    for title in titles:
        table.add_column(title, justify="right", no_wrap=True)
    return table


def _named(counted: Counted) -> Iterator[tuple[str, Statistics]]:
    yield from counted.datasets.items()
    if len(counted.datasets) > 1:
        yield "total", counted.total


def _histogram(out: Console, lengths: Sequence[int]) -> None:
    """Bars of examples by length, before the limit cuts them."""
    from trainer.statistics import EDGES

    out.print("examples by tokens, before they are cut")
    names = [f"to {edge:,}" for edge in EDGES] + [f"over {EDGES[-1]:,}"]
    most = max(1, *lengths)
    for name, number in zip(names, lengths, strict=True):
        bar = "█" * round(_BAR * number / most) or ("▏" if number else "")
        out.print(f"{name:>10}  {number:>9,}  {bar}")
