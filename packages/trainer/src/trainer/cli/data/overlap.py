"""``trainer data overlap``: evaluation items in a mix, found, shown and left out."""

from __future__ import annotations

import json
import os
from collections import Counter, defaultdict
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from trainer.errors import DataError

if TYPE_CHECKING:
    from trainer.contamination.containment import Found, Index
    from trainer.contamination.overlap import Held, Overlap

_WHY = {
    "run": "shares a long run of words",
    "phrase": "has a rare phrase of it, a half of the item",
    "text": "states it",
    "equal": "is it, or half of it",
}


@click.command("overlap")
@click.argument("mix", type=click.Path(exists=True, dir_okay=False, path_type=Path))
@click.option(
    "--benchmarks",
    "folder",
    required=True,
    type=click.Path(exists=True, file_okay=False, path_type=Path),
    help="Folder with the benchmarks' files, as `evalkit data fetch` puts them.",
)
@click.option("--drop", "out", type=click.Path(dir_okay=False, path_type=Path), help="Write the mix without them here.")
@click.option(
    "--words",
    metavar="N",
    default=8,
    show_default=True,
    type=click.IntRange(8, 50),
    help="Words of a run, in long items; 8 to 50, and 13 is usual, too.",
)
@click.option(
    "--examples", default=2, show_default=True, type=click.IntRange(0), help="Shown for each dataset and benchmark."
)
@click.option("--processes", default=os.cpu_count() or 1, type=click.IntRange(1), help="Default: one for each core.")
@click.option("--json", "as_json", is_flag=True, help="Print every find as JSON.")
def command(mix: Path, folder: Path, out: Path | None, **given: Any) -> None:
    """Look for items of the six benchmarks in MIX, a file of conversations.

    Finds questions that differ in case, punctuation and spaces, and halves of them; docs/trainer-data.md has the rule.
    """
    from trainer.contamination.containment_index import build
    from trainer.contamination.items import items
    from trainer.contamination.overlap import drop, require_place, scan

    if out:
        require_place(mix, out)
    index = build(items(folder), given["words"])
    with _progress(mix) as told:
        overlap = scan(mix, index, processes=given["processes"], told=told)
    if not overlap.conversations:
        raise DataError(f"{mix} holds no conversation to search.")
    kept = drop(mix, (one.line for one in overlap.held), out) if out else None
    if given["as_json"]:
        click.echo(json.dumps(_report(overlap, index, kept), ensure_ascii=False))
        return
    click.echo("\n".join(_table(overlap, index)))
    click.echo("\n".join(_shown(overlap, index, given["examples"])), nl=bool(given["examples"] and overlap.held))
    if kept is not None:
        click.echo(f"{out}: {kept:,} conversations, {len(overlap.held):,} left out")


def _progress(mix: Path) -> Any:
    """A bar on stderr that counts the bytes of the mix; silent where stderr is no terminal."""
    from contextlib import contextmanager

    from rich.console import Console
    from rich.progress import Progress

    @contextmanager
    def bar() -> Any:
        console = Console(stderr=True)
        with Progress(console=console, transient=True, disable=not console.is_terminal) as progress:
            task = progress.add_task("Searching", total=mix.stat().st_size)
            yield lambda size: progress.advance(task, size)

    return bar()


def _benchmarks(index: Index) -> list[str]:
    return list(dict.fromkeys(item.benchmark for item in index.items))


def _table(overlap: Overlap, index: Index) -> Iterable[str]:
    """Conversations with items, a row for each dataset and a column for each benchmark."""
    names = _benchmarks(index)
    sizes = Counter(item.benchmark for item in index.items)
    yield "Searched for " + ", ".join(f"{sizes[name]:,} of {name}" for name in names)
    missing = [name for name in ("mmlu", "gsm", "bbh", "tydiqa", "codex-eval", "alpacafarm") if name not in names]
    if missing:
        yield f"Not searched, no file in the folder: {', '.join(missing)}"
    yield ""
    yield f"{'dataset':24}{'conversations':>14}{'held':>8}{'%':>8}" + "".join(f"{name:>12}" for name in names)
    for dataset in [*sorted(overlap.conversations), "all"]:
        mine = [one for one in overlap.held if dataset in (one.dataset, "all")]
        count = overlap.conversations[dataset] if dataset != "all" else overlap.conversations.total()
        by = Counter(name for one in mine for name in {index.items[found.item].benchmark for found in one.found})
        cells = "".join(f"{by[name]:>12,}" for name in names)
        yield f"{dataset:24}{count:>14,}{len(mine):>8,}{100 * len(mine) / max(1, count):>8.2f}{cells}"
    items = Counter(index.items[item].benchmark for item in {one.item for held in overlap.held for one in held.found})
    yield f"{'items found':54}" + "".join(f"{items[name]:>12,}" for name in names)


def _shown(overlap: Overlap, index: Index, count: int) -> Iterable[str]:
    """Some finds of each dataset and benchmark, the item above the words of the conversation."""
    some: dict[tuple[str, str], list[tuple[Held, Found]]] = defaultdict(list)
    for held in overlap.held:
        for found in held.found[:1]:
            some[held.dataset, index.items[found.item].benchmark].append((held, found))
    for (dataset, benchmark), finds in sorted(some.items()):
        for held, found in sorted(finds, key=lambda one: -one[1].share)[:count]:
            item = index.items[found.item]
            what = f"{benchmark} {item.id}, {found.share:.0%}"
            yield f"\n{dataset} line {held.line:,} ({held.id}) {_WHY[found.why]}: {what}"
            yield f"  item  {_short(item.texts[-1])}"
            yield f"  mix   {_short(found.words)}"


def _short(text: str) -> str:
    flat = " ".join(text.split())
    return flat if len(flat) <= 180 else f"{flat[:180]}…"


def _report(overlap: Overlap, index: Index, kept: int | None) -> dict[str, Any]:
    found = [
        {
            "line": held.line,
            "dataset": held.dataset,
            "id": held.id,
            "items": [
                {
                    "benchmark": index.items[one.item].benchmark,
                    "id": index.items[one.item].id,
                    "why": one.why,
                    "share": round(one.share, 4),
                    "words": one.words,
                }
                for one in held.found
            ],
        }
        for held in overlap.held
    ]
    counts = dict(sorted(overlap.conversations.items()))
    return {"conversations": counts, "held": len(found), "kept": kept, "found": found}
