"""Options that several commands have, so that they are called and explained alike."""

from __future__ import annotations

import click

#: Whose tokens are meant.
tokenizer = click.option("--tokenizer", metavar="ID", required=True, help="A checkpoint's folder or hub id.")

#: What is put around messages, and what of the result is learnt.
template = click.option(
    "--template",
    metavar="NAME",
    default="tulu",
    show_default=True,
    help="tulu, tulu1, own (the tokenizer's) or a Jinja file.",
)

#: The limit of an example.
max_length = click.option(
    "--max-length",
    metavar="N",
    type=click.IntRange(min=1),
    default=2048,
    show_default=True,
    help="Tokens behind which an example is cut.",
)

#: What to train.
recipe = click.argument("recipe", metavar="RECIPE")

#: Single settings in the place of the recipe's.
sets = click.option(
    "--set", "sets", metavar="KEY=VALUE", multiple=True, help="A setting in the place of the recipe's; repeatable."
)


def check_shares(batch: int, ranks: int) -> None:
    """Raise a usage error where a step has fewer examples than there are ranks."""
    if batch < ranks:
        raise click.UsageError(f"A batch of {batch} examples cannot be shared out over {ranks} ranks.")
