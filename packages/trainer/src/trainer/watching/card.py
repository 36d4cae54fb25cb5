"""The run card: one HTML file that tells a run, its curves, what it was made of and what happened in it."""

from __future__ import annotations

from html import escape
from pathlib import Path
from typing import Any

from trainer.watching import card_sections
from trainer.watching.card_page import page, tiles
from trainer.watching.curves import Chart, Series, figure
from trainer.watching.history import History, read
from trainer.watching.progress import duration

NAME = "card.html"


def write(folder: Path, to: Path | None = None) -> Path:
    """Write the card of a run folder, by default into it; raises DataError where the folder holds no run."""
    return put(card(read(folder)), folder / NAME if to is None else to)


def put(text: str, path: Path) -> Path:
    """Write a page so that whoever has the old one open never reads half of the new one."""
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(path.name + ".part")
    part.write_text(text, encoding="utf-8")
    part.replace(path)
    return path


def card(history: History) -> str:
    """The page of a run; names and texts that come from data are shown and never obeyed."""
    curves = "".join(map(figure, charts(history)))
    parts = [
        f"<h1>{escape(history.name)}</h1>",
        f'<p class="soft">{escape(_subtitle(history))}</p>',
        card_sections.troubles(history),
        tiles(_numbers(history)),
        f'<h2>Curves</h2><div class="curves">{curves}</div>' if curves else "<p>No step is done yet.</p>",
        card_sections.evaluations(history),
        card_sections.checkpoints(history),
        card_sections.happened(history),
        card_sections.data(history),
        card_sections.settings(history),
        card_sections.starts(history),
    ]
    return page(f"{history.name} · run card", "\n".join(filter(None, parts)))


def charts(history: History) -> list[Chart]:
    """The curves of a run; those of which it has no points stay empty."""
    names = list(enumerate(history.datasets))
    marks: dict[str, Any] = {"resumed": history.resumed, "skipped": history.skipped}
    loss = Series(name="training", points=history.curve("loss"), colour=0, noisy=True)
    held = Series(name="held out", points=history.held_out_of(), colour=1, dots=True)
    each = [Series(name=name, points=history.of_dataset(name), colour=place, noisy=True) for place, name in names]
    held_each = [Series(name=name, points=history.held_out_of(name), colour=place, dots=True) for place, name in names]
    weighted = f"training: by {history.run['settings']['reduction']}, held out: by token"
    return [
        Chart(title="Loss", series=[loss, held], note=weighted, **marks),
        Chart(title="Loss by dataset", series=each if len(each) > 1 else (), note="by token", **marks),
        Chart(title="Held-out loss by dataset", series=held_each if len(each) > 1 else (), note="by token", **marks),
        _norm(history, marks),
        _paces(history, marks),
        Chart(
            title="Learning rate",
            series=[Series(name="learning rate", points=history.curve("lr"), colour=5)],
            zero=True,
            form=".3g",
            **marks,
        ),
    ]


def _norm(history: History, marks: dict[str, Any]) -> Chart:
    clip = history.run["settings"]["clip"]
    return Chart(
        title="Gradient norm",
        series=[Series(name="norm", points=history.curve("norm"), colour=3, noisy=True)],
        note=f"before it is clipped at {clip:g}" if clip else "never clipped",
        limit=(float(clip), f"clipped at {clip:g}") if clip else None,
        zero=True,
        **marks,
    )


def _paces(history: History, marks: dict[str, Any]) -> Chart:
    names = (("all", "tokens_per_second", 2), ("supervised", "supervised_per_second", 6))
    return Chart(
        title="Tokens a second",
        series=[Series(name=name, points=history.curve(key), colour=place, noisy=True) for name, key, place in names],
        note="without padding, all ranks together",
        zero=True,
        form=",.0f",
        **marks,
    )


def _subtitle(history: History) -> str:
    start = history.run["starts"][-1]
    data = ", ".join(history.datasets)
    ranks = f"{start['world']} rank{'s' if start['world'] != 1 else ''}, {start['engine']}, {start['device']}"
    return f"{history.run['settings']['model']} on {data or history.run['settings']['data']} · {ranks}"


def _numbers(history: History) -> list[tuple[str, str, str]]:
    """What is to be seen at a glance: name, number and what is to be said of it."""
    done = history.steps[-1]["step"] if history.steps else 0
    found = [("State", history.state, ""), ("Steps", f"{done:,}", f"of {history.run['steps']:,}")]
    if not history.steps:
        return found
    seconds, tokens = history.total("seconds"), history.total("tokens")
    found[1] = ("Steps", f"{done:,}", f"of {history.run['steps']:,} · {history.steps[-1]['epoch']:.4g} epochs")
    found.append(("Training loss", _fall([y for _, y in history.curve("loss")]), "mean of the first and last tenth"))
    if history.held_out:
        values = [value for _, value in history.held_out_of()]
        first, last = values[0], values[-1]
        change = f" ({last / first - 1:+.1%})" if first and last is not None and len(values) > 1 else ""
        told = f"{_number(first)} → {_number(last)}" if len(values) > 1 else _number(last)
        found.append(("Held-out loss", told, f"step {history.held_out[0]['step']:,} to {done:,}{change}"))
    share = history.total("supervised") / tokens if tokens else 0.0
    padding = 1 - tokens / history.total("slots") if history.total("slots") else 0.0
    found.append(
        (
            "Tokens",
            f"{tokens:,.0f}",
            f"{share:.1%} supervised · {f'{padding:.1%} padding on top' if padding >= 0.0005 else 'no padding'}",
        )
    )
    if seconds:
        used = [one["mfu"] for one in history.steps if one["mfu"] is not None]
        mfu = f" · MFU {sum(used) / len(used):.1%}" if used else ""
        found.append(
            (
                "Tokens a second",
                f"{tokens / seconds:,.0f}",
                f"{history.total('supervised') / seconds:,.0f} supervised{mfu}",
            )
        )
        outside = 1 - history.total("seconds_model") / seconds
        found.append(("Time in steps", duration(seconds), f"{outside:.1%} of it outside forward, backward and update"))
    weights = history.run["trainable"] / history.run["parameters"] if history.run["parameters"] else 0
    found.append(
        (
            "Weights",
            f"{history.run['parameters']:,}",
            "all of them trained" if weights == 1 else f"{weights:.2%} of them trained",
        )
    )
    return found


def _fall(losses: list[float | None]) -> str:
    known = [one for one in losses if one is not None]
    if not known:
        return "no number"
    size = max(len(known) // 10, 1)
    first, last = (sum(part) / size for part in (known[:size], known[-size:]))
    return f"{first:.4g} → {last:.4g}" if len(known) > 1 else f"{last:.4g}"


def _number(value: float | None) -> str:
    return "no number" if value is None else f"{value:.4g}"
