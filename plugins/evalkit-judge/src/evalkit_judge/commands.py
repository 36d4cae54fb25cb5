"""The command ``evalkit judge``: asks a judge, or with ``report`` tells what judges said."""

from __future__ import annotations

import click

from evalkit_judge import ask_command, report_command


class Asking(click.Group):
    """Asks the judge where no command is named, so that ``evalkit judge RUN`` is all there is to type."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Put ``ask`` before what begins with no command."""
        if args and args[0] not in {*self.commands, "--help"}:
            args = ["ask", *args]
        return super().parse_args(ctx, args)


@click.command(
    name="judge",
    cls=Asking,
    commands=[ask_command.command, report_command.command],
    subcommand_metavar="[RUN_OR_PAIRS [OPTIONS] | COMMAND [ARGS]...]",
)
def judging() -> None:
    """Have open-ended answers judged by a second model, and learn whether to believe it.

    `evalkit judge RUN --judge MODEL` is short for `evalkit judge ask RUN --judge MODEL`.
    """
