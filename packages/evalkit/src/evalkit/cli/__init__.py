"""The command line: one file per command, imported when its name is used or its help is shown."""

from __future__ import annotations

import os
import signal
import sys
from importlib import import_module
from typing import Any, NoReturn

import click

from evalkit.errors import EvalkitError

COMMANDS = ("run", "data", "benchmarks", "backends", "plugins", "show", "score", "report")


class Enough(Exception):
    """Nobody reads our output any more; click would make an error of a broken pipe before `main` saw it."""


class Commands(click.Group):
    """Loads a command's module when the command is needed."""

    def invoke(self, ctx: click.Context) -> Any:
        """Run the command that was asked for."""
        try:
            return super().invoke(ctx)
        except BrokenPipeError:
            raise Enough from None

    def list_commands(self, ctx: click.Context) -> list[str]:
        """All commands, in the order in which a user meets them."""
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """The command of this name."""
        if cmd_name not in COMMANDS:
            return _added(ctx, cmd_name)
        command: click.Command = import_module(f"evalkit.cli.{cmd_name}").command
        return command


def _added(ctx: click.Context, name: str) -> click.Command | None:
    """A command that a plugin adds; looked for only now, since the search costs more than the whole of ``--help``."""
    from difflib import get_close_matches

    from evalkit.plugins import COMMANDS as GROUP
    from evalkit.plugins import Plugins

    plugins = Plugins()
    added = plugins.names(GROUP)
    if name in added:
        return plugins.command(name)
    near = get_close_matches(name, (*COMMANDS, *added), n=1)
    return ctx.fail(f"No command is named {name!r}. Did you mean {near[0]!r}?") if near else None


@click.command(
    cls=Commands,
    # Underscore spellings (--chat_template) are what users of older tools type.
    context_settings={"token_normalize_func": lambda token: token.replace("_", "-"), "max_content_width": 100},
    epilog="Exit codes: 0 done · 1 error · 2 wrong usage · 3 done, but some responses failed · "
    "75 interrupted, repeat the command to go on. Installed plugins may add commands: evalkit plugins.",
)
@click.version_option(package_name="evalkit")
def evalkit() -> None:
    """Measure language models: benchmarks and model backends are plugins.

    \b
    evalkit run --model hf:MODEL --bench gsm --data test.jsonl
    evalkit report runs/gsm/MODEL-1a2b3c4d
    """  # noqa: D301  (click reads the mark of a text that is not to be wrapped)


def main() -> NoReturn:
    """Run the command line and exit with its code."""
    signal.signal(signal.SIGTERM, _stop)
    try:
        sys.exit(evalkit.main(prog_name="evalkit", standalone_mode=False) or 0)
    except click.ClickException as error:
        error.show()
        sys.exit(error.exit_code)
    except (KeyboardInterrupt, click.Abort):
        sys.exit(_say("Stopped; repeat the command to go on.", 75))
    except Enough:  # the reader of our output, `head` perhaps, has what it wanted
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(0)
    except EvalkitError as error:
        if os.environ.get("EVALKIT_TRACEBACK"):
            raise
        sys.exit(_say(str(error), error.exit_code))
    except Exception as error:  # a fault of ours or of a plugin: one line for the user, all of it on demand
        if os.environ.get("EVALKIT_TRACEBACK"):
            raise
        text = " ".join(str(error).split())
        sys.exit(_say(f"{type(error).__name__}: {text} (EVALKIT_TRACEBACK=1 shows where this comes from.)", 1))


def _stop(*_: Any) -> None:
    raise KeyboardInterrupt


def _say(message: str, code: int) -> int:
    click.echo(f"Error: {message}" if code != 75 else message, err=True)
    return code
