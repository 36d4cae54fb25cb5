"""``evalkit score``: read a run's responses again, without a model."""

from __future__ import annotations

from pathlib import Path

import click


@click.command(name="score")
@click.argument("run", type=click.Path(path_type=Path))
@click.option("--unsafe-code", is_flag=True, help="Run code without a sandbox, too (with EVALKIT_UNSAFE_CODE=yes).")
@click.option("--json", "as_json", is_flag=True, help="Print JSON and nothing else.")
def command(run: Path, unsafe_code: bool, as_json: bool) -> None:
    """Score the responses of a run again. Asks no model; works on an unfinished run too."""
    from evalkit.cli import progress, shown
    from evalkit.journal import Journal
    from evalkit.plugins import Plugins
    from evalkit.run import summarize
    from evalkit.store import RunFolder

    folder = RunFolder.existing(run)
    binds = folder.manifest["binds"]
    benchmark = Plugins().benchmark(folder.manifest["asked"])(**binds["options"])
    with Journal(folder.path) as journal:
        summary = summarize(folder, journal, benchmark, progress.watch(silent=as_json), unsafe_code=unsafe_code)
    shown.summaries([summary], as_json=as_json, whole=True)
