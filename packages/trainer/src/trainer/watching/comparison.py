"""Several runs beside each other: the settings that differ, and their curves over each other."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from html import escape
from pathlib import Path
from typing import Any

from trainer.watching.card import put
from trainer.watching.card_page import page, table
from trainer.watching.curves import Chart, Point, Series, figure
from trainer.watching.history import History, read
from trainer.watching.progress import duration


def write(folders: Sequence[Path], to: Path) -> Path:
    """Write the comparison of run folders; raises DataError where one holds no run."""
    return put(compare([read(one) for one in folders]), to)


def compare(histories: Sequence[History]) -> str:
    """The page of several runs."""
    names = labels(histories)
    curves = "".join(map(figure, charts(histories, names)))
    title = " · ".join(names)
    differing = differences(histories)
    parts = [
        f"<h1>{escape(title)}</h1>",
        '<p class="soft">Every run in a colour of its own.</p>',
        "<h2>Results</h2>",
        table(["", *names], _results(histories), numbers=range(1, len(names) + 1)),
        f'<h2>Curves</h2><div class="curves">{curves}</div>' if curves else "<p>No step is done yet.</p>",
        "<h2>What differs</h2>",
        table(["", *names], differing)
        if differing
        else "<p>Nothing but the place: settings, data and model agree.</p>",
    ]
    return page(f"{title} · comparison", "\n".join(parts))


def labels(histories: Sequence[History]) -> list[str]:
    """What to call the runs: their folders' names, or their paths where two of these are the same."""
    names = [one.name for one in histories]
    return names if len(set(names)) == len(names) else [str(one.folder) for one in histories]


def differences(histories: Sequence[History]) -> list[list[str]]:
    """Settings, data and versions that are not the same in all runs: name, and the value of each."""
    told = [_told(one) for one in histories]
    keys = list(dict.fromkeys(key for one in told for key in one))
    rows = [[key, *(one.get(key, "–") for one in told)] for key in keys]
    return [row for row in rows if len(set(row[1:])) > 1]


def charts(histories: Sequence[History], names: Sequence[str]) -> list[Chart]:
    """The curves of all runs, one chart for each quantity."""

    def chart(
        title: str, points: Callable[[History], Sequence[Point]], *, noisy: bool = True, dots: bool = False, **more: Any
    ) -> Chart:
        series = [
            Series(name=name, points=points(one), colour=place, noisy=noisy, dots=dots)
            for place, (name, one) in enumerate(zip(names, histories, strict=True))
        ]
        return Chart(title=title, series=series, **more)

    return [
        chart("Loss", lambda one: one.curve("loss"), note="as each run weighs it"),
        chart("Held-out loss", lambda one: one.held_out_of(), note="by token", noisy=False, dots=True),
        chart("Gradient norm", lambda one: one.curve("norm"), zero=True),
        chart("Tokens a second", lambda one: one.curve("tokens_per_second"), zero=True, form=",.0f"),
        chart("Learning rate", lambda one: one.curve("lr"), noisy=False, zero=True, form=".3g"),
    ]


def _results(histories: Sequence[History]) -> list[list[str]]:
    rows: list[tuple[str, Callable[[History], str]]] = [
        ("State", lambda one: one.state),
        ("Steps", lambda one: f"{one.steps[-1]['step'] if one.steps else 0:,} of {one.run['steps']:,}"),
        ("Loss of the last step", lambda one: _last(one.curve("loss"))),
        ("Held-out loss, last", lambda one: _last(one.held_out_of())),
        ("Tokens", lambda one: f"{one.total('tokens'):,.0f}"),
        ("Time in steps", lambda one: duration(one.total("seconds"))),
        ("Tokens a second", lambda one: f"{one.total('tokens') / (one.total('seconds') or 1):,.0f}"),
        ("Skipped steps", lambda one: f"{len(one.skipped):,}"),
    ]
    return [[name, *(tell(one) for one in histories)] for name, tell in rows]


def _last(points: Sequence[Point]) -> str:
    known = [value for _, value in points if value is not None]
    return f"{known[-1]:.4f}" if known else "–"


def _told(history: History) -> dict[str, str]:
    """All that a run was made of, by name; its own place left out."""
    told = {name: str(value) for name, value in history.run["settings"].items() if name != "out"}
    told |= {f"{part} data's key": str(one["key"])[:16] for part, one in history.run["data"].items()}
    start = history.run["starts"][-1]
    told |= {name: str(start[name]) for name in ("world", "engine", "device")}
    told |= {f"version of {name}": str(number) for name, number in start["versions"].items()}
    if start["git"]:
        told["git"] = start["git"]["commit"][:12] + (", changed since" if start["git"]["changed"] else "")
    return told
