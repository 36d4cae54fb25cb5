"""The command line: one file per command, imported when its name is used or its help is shown."""

from __future__ import annotations

import os
import signal
import sys
from importlib import import_module
from typing import Any, NoReturn

import click

from trainer.errors import TrainerError

#: In the order in which a user meets them.
COMMANDS = ("data", "recipes", "config", "plan", "launch", "train", "export", "card", "prove", "paper")

#: Libraries that only training needs, and the extra that brings each.
EXTRAS = {"torch": "train", "safetensors": "train", "deepspeed": "train", "peft": "lora"}


class Enough(Exception):
    """Nobody reads our output any more; click would make an error of a broken pipe before `main` saw it."""


class Commands(click.Group):
    """Loads a command's module, a file of the package that it is given, when the command is needed."""

    def __init__(self, *args: Any, package: str = __name__, names: tuple[str, ...] = COMMANDS, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._package, self._names = package, names

    def invoke(self, ctx: click.Context) -> Any:
        """Run the command that was asked for."""
        try:
            return super().invoke(ctx)
        except BrokenPipeError:
            raise Enough from None

    def list_commands(self, ctx: click.Context) -> list[str]:
        """All commands, in the order in which a user meets them."""
        return list(self._names)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """The command of this name."""
        if cmd_name not in self._names:
            return None
        command: click.Command = import_module(f"{self._package}.{cmd_name}").command
        return command


@click.command(
    cls=Commands,
    context_settings={
        "token_normalize_func": lambda token: token.replace("_", "-"),
        "help_option_names": ["-h", "--help"],
        "max_content_width": 100,
    },
    epilog="Exit codes: 0 done · 1 error · 2 wrong usage · 75 interrupted, repeat the command to go on.",
)
@click.version_option(package_name="trainer")
def trainer() -> None:
    """Tune a language model on instructions: public data, one chat schema, exact masks, DeepSpeed.

    `trainer data` prepares what is learnt, `trainer train` learns it and leaves a folder that evalkit opens.
    """


def main() -> NoReturn:
    """Run the command line and exit with its code."""
    signal.signal(signal.SIGTERM, _stop)
    # Without torch transformers would say with each command that models are not available; no command here needs one.
    os.environ.setdefault("TRANSFORMERS_NO_ADVISORY_WARNINGS", "1")
    try:
        sys.exit(trainer.main(prog_name="trainer", standalone_mode=False) or 0)
    except click.ClickException as error:
        error.show()
        sys.exit(error.exit_code)
    except (KeyboardInterrupt, click.Abort):
        sys.exit(_say("Stopped; repeat the command to go on.", 75))
    except Enough:  # the reader of our output, `head` perhaps, has what it wanted
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(0)
    except TrainerError as error:
        if os.environ.get("TRAINER_TRACEBACK"):
            raise
        sys.exit(_say(str(error), error.exit_code))
    except Exception as error:  # a fault of ours or of a plugin: one line for the user, all of it on demand
        if os.environ.get("TRAINER_TRACEBACK"):
            raise
        sys.exit(_say(_fault(error), 1))


def _fault(error: Exception) -> str:
    if isinstance(error, ModuleNotFoundError) and error.name in EXTRAS:
        return f"This needs {error.name}, which is not installed: pip install 'trainer[{EXTRAS[error.name]}]'."
    text = " ".join(str(error).split())
    return f"{type(error).__name__}: {text} (TRAINER_TRACEBACK=1 shows where this comes from.)"


def _stop(*_: Any) -> None:
    raise KeyboardInterrupt


def _say(message: str, code: int) -> int:
    click.echo(f"Error: {message}" if code != 75 else message, err=True)
    return code
