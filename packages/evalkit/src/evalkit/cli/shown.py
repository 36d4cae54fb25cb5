"""What commands print on standard output."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

import click

from evalkit import codec, report

if TYPE_CHECKING:
    from rich.console import Console

    from evalkit.doctor import Examination
    from evalkit.load import Choice, Model
    from evalkit.suite import Suite
    from evalkit.types import Finding

#: Level of a finding -> the colour of its name, worst first.
COLOURS = {"error": "red", "warning": "yellow", "note": "blue"}


def console() -> Console:
    """Standard output; as wide as needed where it is no terminal, so that nothing is cut in a log."""
    from rich.console import Console

    made = Console(highlight=False, markup=False, emoji=False)
    if not made.is_terminal:
        made.width = 200
    return made


def document(value: Any) -> None:
    """Print a value as one JSON document."""
    click.echo(codec.pretty(value))


def summaries(
    found: Sequence[Mapping[str, Any]],
    *,
    as_json: bool,
    whole: bool = False,
    suite: Suite | None = None,
    headlines: Sequence[Mapping[str, Any]] = (),
) -> None:
    """Print the table of results, or one JSON document; ``whole`` adds subsets and groups.

    A suite adds its row: the headlines, one for each of its entries, and their average.
    """
    if as_json:
        document([*found, report.suite_out(suite, headlines)] if suite else list(found))
        return
    out = console()
    out.print(report.results(found))
    for summary in found:
        if whole:
            for table in report.parts(summary):
                out.print()
                out.print(table)
        for note in summary["notes"]:
            out.print(f"{summary['setting']}: {note}")
        if summary["run"]:
            out.print(f"{summary['setting']}: {summary['run']}", soft_wrap=True)
    if suite:
        out.print()
        out.print(report.suite_row(suite, headlines))


def preview(found: Examination) -> dict[str, Any]:
    """What a run would ask, the first prompts as the model sees them, and what was found."""
    loaded, totals = found.loaded, found.totals
    counted = loaded.context.tokenizer is not None and totals.prompts > 0
    return {
        "benchmark": loaded.benchmark.name,
        "setting": loaded.benchmark.setting,
        "model": loaded.model.label,
        "requests": loaded.selection.n,
        "chat": loaded.context.chat,
        "prompt_tokens": totals.tokens if counted else None,
        "longest": totals.longest if counted else None,
        "prompts": [
            {"id": one.example.id, "prompt": one.text, "tokens": None if one.ids is None else len(one.ids)}
            for one in totals.first
        ],
        "findings": [asdict(one) for one in found.findings],
    }


def no_preview(choice: Choice, model: Model, finding: Finding) -> dict[str, Any]:
    """The same of a run that cannot begin."""
    unknown = dict.fromkeys(("requests", "chat", "prompt_tokens", "longest"))
    names = {"benchmark": choice.benchmark.name, "setting": choice.benchmark.setting, "model": model.label}
    return {**names, **unknown, "prompts": [], "findings": [asdict(finding)]}


def previews(found: Sequence[Mapping[str, Any]], *, as_json: bool) -> None:
    """Print what ``preview`` gives: the prompts, then each finding once."""
    if as_json:
        document(list(found))
        return
    for one in found:
        for prompt in one["prompts"]:
            tokens = "" if prompt["tokens"] is None else f" · {prompt['tokens']} tokens"
            click.secho(f"── {one['setting']} · example {prompt['id']}{tokens}", bold=True)
            click.echo(printable(prompt["prompt"]))
        if one["requests"] is None:
            click.secho(f"── {one['setting']}: cannot be asked", bold=True)
            continue
        cost = "" if one["prompt_tokens"] is None else f", {one['prompt_tokens']:,} tokens of prompts"
        longest = "" if one["longest"] is None else f" (longest {one['longest']:,})"
        chat = "chat" if one["chat"] else "plain text"
        click.secho(
            f"── {one['setting']}: {one['requests']:,} requests to {one['model']}, {chat}{cost}{longest}", bold=True
        )
    _findings(found)


def _findings(found: Sequence[Mapping[str, Any]]) -> None:
    """Print each finding once with its remedy, errors first, and with the settings that it is about if not all."""
    about: dict[tuple[str, str, str], list[str]] = {}
    for one in found:
        for finding in one["findings"]:
            about.setdefault((finding["level"], finding["text"], finding["remedy"]), []).append(one["setting"])
    n = sum(one["requests"] or 0 for one in found)
    examined = f"{n:,} prompt{'s' * (n != 1)} examined"
    if not about:
        click.secho(f"── {examined}: nothing found", bold=True)
        return
    everywhere = [one["setting"] for one in found if one["requests"] is not None]
    counts = Counter(level for level, _, _ in about)
    told = ", ".join(f"{counts[level]} {level}{'s' * (counts[level] > 1)}" for level in COLOURS if counts[level])
    click.secho(f"── {examined}: {told}", bold=True)
    for level, text, remedy in sorted(about, key=lambda one: [*COLOURS].index(one[0])):
        settings = about[level, text, remedy]
        named = settings == everywhere or text.startswith(f"{settings[0]} ")
        where = "" if named else f"{', '.join(settings)}: "
        click.echo(f"{click.style(level, fg=COLOURS[level], bold=True)}: {printable(where + text)}")
        if remedy:
            click.echo(f"  {printable(remedy)}")


def printable(text: str) -> str:
    """A model's text without what would move or recolour the reader's terminal."""
    return "".join(char if char in "\n\t" or char.isprintable() else ascii(char)[1:-1] for char in text)
