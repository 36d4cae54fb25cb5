"""The command ``evalkit judge report``: what judges said, and whether to believe it."""

from __future__ import annotations

from pathlib import Path

import click


@click.command(name="report")
@click.argument("runs", nargs=-1, required=True, type=click.Path(path_type=Path), metavar="RUN...")
@click.option(
    "--human", type=click.Path(path_type=Path), metavar="RUN_OR_FILE", help="People's opinions of the same pairs."
)
@click.option("--tokenizer", metavar="MODEL", help="Count the unique tokens of this model, hf:ID_OR_PATH; else words.")
@click.option(
    "--scatter", type=click.Path(path_type=Path), metavar="FILE.svg", help="Draw unique tokens against win rate."
)
@click.option("--json", "as_json", is_flag=True, help="Print JSON and nothing else.")
def command(
    runs: tuple[Path, ...], *, human: Path | None, tokenizer: str | None, scatter: Path | None, as_json: bool
) -> None:
    """Tell what came out of judges' runs, and whether to believe it.

    Win rate, position bias, the win rate at equal length, judges that only count as baselines, agreement with people;
    over several runs the correlation of unique tokens and win rate.
    """
    from evalkit import codec
    from evalkit.errors import EvalkitError
    from evalkit_judge import report, tables
    from evalkit_judge.scatter import svg

    document = report.report(runs, tokenizer=tokenizer, human=human)
    if scatter is not None:
        if document["correlation"] is None:
            raise EvalkitError(
                "A scatter plot takes two runs or more with a win rate; name them, or leave --scatter out."
            )
        try:
            scatter.write_text(svg(document["correlation"], counted=document["counted"]), encoding="utf-8")
        except OSError as error:
            raise EvalkitError(f"{scatter} cannot be written ({error.strerror}); name another file.") from None
    if as_json:
        click.echo(codec.pretty(document))
    else:
        tables.show(document)
