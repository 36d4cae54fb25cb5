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
    run, steps = history.run, history.steps
    epochs = f" · {steps[-1]['epoch']:.4g} epochs" if steps else ""
    trained = run["trainable"] / run["parameters"] if run["parameters"] else 0.0
    whole = "all of them trained" if trained == 1 else f"{trained:.2%} of them trained"
    return [
        ("State", history.state, ""),
        ("Steps", f"{steps[-1]['step'] if steps else 0:,}", f"of {run['steps']:,}{epochs}"),
        *(_losses(history) if steps else ()),
        *(_tokens(history) if steps else ()),
        ("Weights", f"{run['parameters']:,}", whole),
    ]


def _losses(history: History) -> list[tuple[str, str, str]]:
    found = [("Training loss", _fall([y for _, y in history.curve("loss")]), "mean of the first and last tenth")]
    known = [(step, value) for step, value in history.held_out_of() if value is not None]
    if known:
        (begun, first), (ended, last) = known[0], known[-1]
        change = f"step {begun:,} to {ended:,} ({last / first - 1:+.1%})" if first else ""
        several = len(known) > 1
        told = f"{first:.4g} → {last:.4g}" if several else f"{last:.4g}"
        found.append(("Held-out loss", told, change if several else f"at step {ended:,}"))
    return found


def _tokens(history: History) -> list[tuple[str, str, str]]:
    names = ("tokens", "supervised", "slots", "seconds", "seconds_model")
    tokens, supervised, slots, seconds, model = (history.total(name) for name in names)
    padding = 1 - tokens / slots if slots else 0.0
    padded = f"{padding:.1%} of what is computed is padding" if padding >= 0.0005 else "no padding"
    found = [("Tokens", f"{tokens:,.0f}", f"{supervised / (tokens or 1):.1%} supervised · {padded}")]
    if seconds:
        used = [one["mfu"] for one in history.steps if one["mfu"] is not None]
        mfu = f" · MFU {sum(used) / len(used):.1%}" if used else ""
        outside = f"{1 - model / seconds:.1%} of it outside forward, backward and update"
        found.append(("Tokens a second", f"{tokens / seconds:,.0f}", f"{supervised / seconds:,.0f} supervised{mfu}"))
        found.append(("Time in steps", duration(seconds), outside))
    return found


def _fall(losses: list[float | None]) -> str:
    known = [one for one in losses if one is not None]
    if not known:
        return "no number"
    size = max(len(known) // 10, 1)
    first, last = (sum(part) / size for part in (known[:size], known[-size:]))
    return f"{first:.4g} → {last:.4g}" if len(known) > 1 else f"{last:.4g}"
