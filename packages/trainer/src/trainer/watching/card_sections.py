"""What a run card tells besides numbers and curves: evaluations, checkpoints, events, data, settings, starts."""

from __future__ import annotations

import time
from collections import Counter
from html import escape
from pathlib import Path
from typing import Any

from trainer.watching.card_page import facts, folded, table
from trainer.watching.history import History, Line
from trainer.watching.progress import duration

#: Skipped steps that are named; of more, only their number is.
NAMED = 30


def troubles(history: History) -> str:
    """Why the run stopped, and the steps that were skipped."""
    parts = []
    if history.state.startswith("stopped"):
        what = "Stopped by an alarm." if "alarm" in history.state else "Stopped before the end."
        parts.append(f'<div class="alarm"><b>{what}</b> {escape(history.why)}</div>')
    if skipped := history.skipped:
        named = ", ".join(f"{step:,}" for step in skipped[:NAMED]) + (" …" if len(skipped) > NAMED else "")
        what = "1 step was" if len(skipped) == 1 else f"{len(skipped):,} steps were"
        parts.append(f'<p class="bad">{what} skipped, for gradients that were not finite: {escape(named)}.</p>')
    return "".join(parts)


def evaluations(history: History) -> str:
    """Held-out losses and what commands found."""
    parts = []
    if history.held_out:
        names = [name for name in history.datasets if history.held_out_of(name)]
        rows = [
            [f"{one['step']:,}", _loss(one["held_out"]), *(_loss(one["held_out_datasets"].get(name)) for name in names)]
            for one in history.held_out
        ]
        head = ["Step", "Held-out loss", *(names if len(names) > 1 else [])]
        rows = [row[: len(head)] for row in rows]
        parts.append(_long(table(head, rows, numbers=range(len(head))), len(rows), "held-out losses"))
    if history.commands:
        rows = [
            [
                f"{one['step']:,}",
                one["last_line"],
                _ended(one["exit_code"]),
                duration(one["seconds"]),
                _inside(one["output"]),
            ]
            for one in history.commands
        ]
        head = ["Step", "Last line", "Ended", "Time", "Output"]
        parts.append(f"<p><code>{escape(history.run['settings']['evaluate_command'])}</code></p>")
        parts.append(table(head, rows, numbers=[0, 3]))
    return f"<h2>Evaluations</h2>{''.join(parts)}" if parts else ""


def checkpoints(history: History) -> str:
    """All that were saved, and whether they are still there."""
    if not history.saves:
        return ""
    rows = []
    for one in history.saves:
        # The run folder may have been moved since.
        there = (history.folder / "checkpoints" / Path(one["saved"]).name).is_dir()
        size = f"{one['bytes'] / 1e6:,.1f} MB"
        rows.append(
            [
                f"{one['step']:,}",
                Path(one["saved"]).name,
                size,
                f"{one['seconds']:.1f} s",
                _clock(one["time"]),
                "kept" if there else "deleted",
            ]
        )
    shown = table(["Step", "Checkpoint", "Size", "Saved in", "At", ""], rows, numbers=[0, 2, 3])
    return f"<h2>Checkpoints</h2>{_long(shown, len(rows), 'checkpoints')}"


def happened(history: History) -> str:
    """Starts, warnings, alarms and ends."""
    rows = [[_clock(one["time"]), f"{one['step']:,}", one["event"], one.get("text", "")] for one in history.events]
    if not rows:
        return ""
    return f"<h2>What happened</h2>{_long(table(['At', 'Step', '', ''], rows, numbers=[1]), len(rows), 'events')}"


def data(history: History) -> str:
    """What was learnt from, and what was held out: counts, files and hashes."""
    titles = {"train": "Data", "held_out": "Held-out data"}
    return "".join(f"<h2>{titles[part]}</h2>{_folder(one)}" for part, one in history.run["data"].items())


def settings(history: History) -> str:
    """All settings with their sources; those that were given first."""
    values, sources = history.run["settings"], history.run["sources"]
    given = [name for name in values if sources[name] != "default"]
    rows = [[name, _value(values[name]), sources[name]] for name in given]
    rest = [[name, _value(values[name])] for name in values if name not in given]
    shown = table(["Setting", "Value", "From"], rows)
    others = folded(f"{len(rest)} more by default", table(["Setting", "Value"], rest)) if rest else ""
    mark = (
        f'<p class="soft">Fingerprint of what changes the numbers learnt: <code>{history.run["fingerprint"]}</code></p>'
    )
    return f"<h2>Settings</h2>{shown}{others}{mark}"


def starts(history: History) -> str:
    """When, where and with what the run was started and resumed."""
    parts = []
    for one in reversed(history.run["starts"]):
        where = f"behind step {one['step']:,}" if one["step"] else "from the beginning"
        title = f"{_clock(one['time'])}, {where}"
        parts.append(f"<h3>{escape(title)}</h3>{facts(_started(one))}")
    return f"<h2>Starts</h2>{''.join(parts)}"


def _started(start: Line) -> list[tuple[str, object]]:
    git, machine = start["git"], start["machine"]
    memory = f", {machine['memory'] / 2**30:.0f} GiB" if machine["memory"] else ""
    commit = "the working directory is under no version control"
    if git:
        commit = git["commit"] + (", changed since" if git["changed"] else "")
    peak = f", {start['peak'] / 1e12:,.0f} TFLOP/s at best" if start["peak"] else ""
    return [
        ("Command", start["command"]),
        ("Ranks", f"{start['world']}, {start['engine']}, {start['device']}{peak}"),
        ("Versions", ", ".join(f"{name} {number}" for name, number in start["versions"].items())),
        ("Git", commit),
        (
            "Machine",
            f"{machine['host']}: {machine['processor']}, {machine['cores']} cores{memory}, {machine['system']}",
        ),
    ]


def _folder(one: Line) -> str:
    made, counts = one["made_of"], one["counts"]
    columns = ("examples", "tokens", "supervised", "dropped", "truncated")
    total: Counter[str] = Counter()
    rows = []
    for name, count in counts.items():
        total.update({column: count[column] for column in columns})
        rows.append(_counted(name, count))
    if len(rows) > 1:
        rows.append(_counted("all", total))
    shown = table(
        ["Dataset", *map(str.capitalize, columns), "Share"],
        rows,
        numbers=range(1, 7),
        last="total" if len(counts) > 1 else "",
    )
    files = [(file["name"], f"{file['bytes']:,} bytes, SHA-256 {file['sha256']}") for file in made["files"]]
    template = made["template"]
    more = [
        ("Folder", one["folder"]),
        ("Key", one["key"]),
        ("Tokenizer", _value(made["tokenizer"])),
        ("Template", f"{template['name']} ({template['fingerprint']})"),
        ("Length limit", f"{made['max_length']:,} tokens"),
        *files,
    ]
    hashes = [(name, f"SHA-256 {digest}") for name, digest in one["files"].items()]
    return shown + facts(more) + folded("Prepared files", facts(hashes))


def _counted(name: str, count: Any) -> list[str]:
    share = count["supervised"] / count["tokens"] if count["tokens"] else 0.0
    numbers = [f"{count[column]:,}" for column in ("examples", "tokens", "supervised", "dropped", "truncated")]
    return [name, *numbers, f"{share:.1%}"]


def _long(shown: str, count: int, what: str) -> str:
    """A table as it is, or folded if it is long."""
    return shown if count <= 12 else folded(f"All {count:,} {what}", shown)


def _inside(path: str) -> str:
    """A file of the run folder as it is found there, wherever that is by now."""
    before, middle, after = path.rpartition("evaluations/")
    return middle + after if before else path


def _loss(value: float | None) -> str:
    return "–" if value is None else f"{value:.4f}"


def _ended(code: int) -> str:
    return "well" if code == 0 else f"by signal {-code}" if code < 0 else f"with exit code {code}"


def _value(value: object) -> str:
    if isinstance(value, str):
        return value or "–"
    return str(value).lower() if isinstance(value, bool) else str(value)


def _clock(seconds: float) -> str:
    return time.strftime("%Y-%m-%d %H:%M:%S UTC", time.gmtime(seconds))
