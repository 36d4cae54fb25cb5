"""The report of judges' runs for people to read."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from rich.console import Console
from rich.table import Table

from evalkit.report import percent
from evalkit_judge import scatter

_NOT_COMPARABLE = "win rate, not comparable with the paper"


def show(document: Mapping[str, Any]) -> None:
    """Print the report."""
    console = Console(highlight=False, markup=False, emoji=False)
    if not console.is_terminal:
        console.width = 200  # a log is not cut
    runs = document["runs"]
    for table in (_results(runs), _trust(runs), _texts(runs, document["counted"]), _human(runs), _sources(runs)):
        if table is not None:
            console.print(table)
            console.print()
    for line in _remarks(runs):
        console.print(line)
    if document["correlation"]:
        console.print()
        console.print(scatter.terminal(document["correlation"], counted=document["counted"]))


def _results(runs: Sequence[Mapping[str, Any]]) -> Table:
    table = _table("model", "against", "judge")
    column = "win rate" if all(run["comparable"] for run in runs) else _NOT_COMPARABLE
    for name in ("pairs", column, "wins", "losses", "ties", "at equal length", "failed"):
        table.add_column(name, justify="right")
    for run in runs:
        shown = _percent(run["win_rate"])
        if run["bounds"]:
            shown += f" (worst {100 * run['bounds'][0]:.1f}, best {100 * run['bounds'][1]:.1f})"
        counts = (run["wins"], run["losses"], sum(run["ties"].values()))
        table.add_row(
            *(run["model"], run["reference"], run["judge"], str(run["pairs"]), shown),
            *map(str, counts),
            _percent(run["length_controlled"]),
            f"{run['failed']} of {run['verdicts']}",
        )
    return table


def _trust(runs: Sequence[Mapping[str, Any]]) -> Table:
    """Whether the judge says more than the order and the size of the outputs do."""
    table = _table("whether to believe it", "judge")
    names = ("prefers the first", "same in both orders", "longer wins", "judge agrees", "more unique wins", "agrees")
    for name in names:
        table.add_column(name, justify="right")
    for run in runs:
        cells = [_percent(run["first_preferred"]), _percent(run["consistency"])]
        for baseline in run["baselines"].values():
            agreed = baseline["agreement"]
            cells += [_percent(baseline["win_rate"]), _percent(agreed["relaxed"]) if agreed else "-"]
        table.add_row(run["model"], run["judge"], *cells)
    return table


def _texts(runs: Sequence[Mapping[str, Any]], counted: str) -> Table:
    table = _table("mean of an output")
    for name in ("characters", "of the reference", counted, "of the reference"):
        table.add_column(name, justify="right")
    for run in runs:
        means = [
            run[what][side] if run[what] else None for what in ("length", "unique") for side in ("model", "reference")
        ]
        table.add_row(run["model"], *("-" if mean is None else f"{mean:.1f}" for mean in means))
    return table


def _human(runs: Sequence[Mapping[str, Any]]) -> Table | None:
    if not any(run["human"] for run in runs):
        return None
    whose = {run["labels"] for run in runs if run["human"]}
    table = _table(f"agreement with {' and '.join(sorted(whose))}", "of")
    for name in ("comparisons", "win, loss or tie alike", "a tie is half right"):
        table.add_column(name, justify="right")
    names = {"judge": "", "longer": "longer wins", "unique": "more unique wins", "people": "those who gave labels"}
    for run in runs:
        for who, found in (run["human"] or {}).items():
            if found is not None:
                cells = (str(found["n"]), _percent(found["exact"]), _percent(found["relaxed"]))
                table.add_row(run["model"] if who == "judge" else "", names[who] or run["judge"], *cells)
    return table


def _sources(runs: Sequence[Mapping[str, Any]]) -> Table | None:
    names = sorted({name for run in runs for name in run["sources"]})
    if not names:
        return None
    table = _table("win rate by source")
    for run in runs:
        table.add_column(run["model"], justify="right", overflow="fold")
    for name in names:
        parts = [run["sources"].get(name) for run in runs]
        table.add_row(name, *(f"{_percent(part['win_rate'])} of {part['n']}" if part else "-" for part in parts))
    return table


def _remarks(runs: Sequence[Mapping[str, Any]]) -> Iterator[str]:
    for run in runs:
        for reason, count in run["ties"].items():
            if count:
                yield f"{run['model']}: ties since {_REASONS[reason]}: {count}"
        if run["asked_again"]:
            yield f"{run['model']}: prompts asked more than once: {run['asked_again']}"
        if run["length_controlled"] is None:
            yield f"{run['model']}: no win rate at equal length: lengths do not differ, or separate wins from losses"
        if run["failed"]:
            yield f"{run['model']}: verdicts that failed or cannot be read: {run['failed']}; --retry-failed asks again"
        yield from (f"{run['model']}: {note}" for note in run["notes"])


_REASONS = {
    "equal outputs": "the outputs are equal (nobody was asked)",
    "orders disagree": "the judge named another one in the other order",
    "judge": "the judge said so",
}


def _table(*names: str) -> Table:
    return Table(*names, box=None, pad_edge=False)


def _percent(estimate: Mapping[str, Any] | None) -> str:
    return "-" if estimate is None else percent(estimate)
