"""``trainer data``: what happens to instruction data before a GPU is booked, one file per command."""

from __future__ import annotations

import click

from trainer.cli import Commands

#: In the order in which the data meets them.
COMMANDS = ("fetch", "convert", "mix", "prepare", "stats", "show", "check", "overlap", "plan")


@click.command(cls=Commands, package=__name__, names=COMMANDS)
def command() -> None:
    """Fetch, convert, mix, tokenize, count and check instruction data.

    All but `fetch` and `convert` work on any file of conversations in JSON lines:
    {"dataset": ..., "id": ..., "messages": [{"role": "user", "content": ...}, ...]}
    """
