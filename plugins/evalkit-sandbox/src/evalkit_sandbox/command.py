"""The command ``evalkit sandbox``: what keeps untrusted programs in on this machine."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from evalkit.hookspecs import hookimpl

if TYPE_CHECKING:
    from evalkit_sandbox.inside.layers import Limits
    from evalkit_sandbox.levels import Standing


@click.group(name="sandbox")
def sandbox() -> None:
    """What keeps programs that a model wrote from harm, and from cheating."""


@sandbox.command(name="check", epilog="Exit codes: 0 level A or B · 1 no sandbox here.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON and nothing else.")
def check(as_json: bool) -> int:
    """Start a sandbox, let canaries loose in it, and say what keeps them in and what is missing."""
    import json

    from evalkit_sandbox import levels
    from evalkit_sandbox.inside.layers import Limits

    standing = levels.prove()
    limits = Limits()
    if as_json:
        click.echo(json.dumps({**standing.record(limits), "canaries": dict(standing.canaries)}, indent=2))
    else:
        _show(standing, limits)
    return 0 if standing.level in ("A", "B") else 1


def _show(standing: Standing, limits: Limits) -> None:
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    from evalkit_sandbox import levels
    from evalkit_sandbox.inside.layers import LAYERS

    out = Console(highlight=False, markup=False, emoji=False)
    out.print(Text(f"Level {standing.level}", style="bold") + Text(f": {levels.LEVELS[standing.level]}."))
    table = Table("layer", "what it does", "here", box=None, pad_edge=False)
    for layer in LAYERS:
        here = "yes" if layer in standing.layers else "no" if layer in standing.missing else "not needed"
        table.add_row(layer, levels.DOES[layer], here)
    out.print(table)
    for layer, why in standing.missing.items():
        out.print(f"{layer} is missing: {why}. To have it, {standing.cure(layer)}.")
    kept = len(standing.canaries) - len(standing.holes)
    out.print(f"{kept} of {len(standing.canaries)} canaries did what they should.")
    for hole in standing.holes:
        out.print(f"A program can {hole}.", style="red")
    about = standing.record(limits)
    out.print(
        f"Linux {about['kernel']}, Landlock {about['landlock']}, {about['python']}. A program has "
        f"{limits.work:g} s of work, {limits.idle:g} s of waiting and {limits.memory >> 20} MiB."
    )


@hookimpl
def command() -> click.Command:
    """Offer ``evalkit sandbox``."""
    return sandbox
