"""``trainer export``: any checkpoint of a run as a folder that transformers, vLLM and evalkit open."""

from __future__ import annotations

from pathlib import Path

import click


@click.command()
@click.argument("run", metavar="RUN", type=click.Path(exists=True, file_okay=False, path_type=Path))
@click.option("--step", metavar="N", type=click.IntRange(min=1), help="Which checkpoint; default: the newest.")
@click.option(
    "--to",
    "folder",
    metavar="DIR",
    type=click.Path(file_okay=False, path_type=Path),
    help="The folder to be; default: RUN/models/step-N.",
)
@click.option("--dtype", type=click.Choice(["bfloat16", "float32"]), help="Default: what the run computed in.")
@click.option(
    "--shard-size",
    metavar="GB",
    type=click.FloatRange(min=0, min_open=True),
    default=5.0,
    show_default=True,
    help="The most that a file of weights holds.",
)
def command(*, run: Path, step: int | None, folder: Path | None, dtype: str | None, shard_size: float) -> None:
    """Write a run's checkpoint as a model: weights, config, tokenizer, chat template, generation config.

    A run exports its last step itself, to RUN/model. This is for the others, and needs neither a GPU nor the ranks
    that trained: parameters are read one at a time. Adapters of LoRA are merged, and saved besides.
    """
    from trainer.errors import TrainerError
    from trainer.exporting import stored
    from trainer.exporting.export import export
    from trainer.exporting.frame import Frame

    found = stored.find(run, step)
    folder = folder or run / "models" / found.folder.name
    if folder.is_dir() and any(folder.iterdir()) and not (folder / "config.json").exists():
        raise TrainerError(f"{folder} holds something else than a model: give another folder with --to.")
    framed = Frame.open(run / "frame")
    chosen = dtype or framed.dtype
    parameters = stored.parameters(found, framed, chosen)
    export(parameters, framed.folder, folder, dtype=chosen, shard_bytes=int(shard_size * 1e9))
    click.echo(str(folder))
