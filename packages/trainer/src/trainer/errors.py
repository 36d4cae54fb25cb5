"""What can go wrong, said in one sentence with its remedy.

TrainerError            anything a user can mend; the CLI prints it in one line and exits 1
├── UnknownName         a source, mixture, template or option that does not exist
├── PluginError         a plugin that cannot be imported or breaks the contract
├── DataError           a row, a file or a folder that cannot be read
├── TokenizerError      a tokenizer that cannot be loaded or does not fit the template
├── ModelError          a model's folder that is incomplete, or does not fit the data or the training
└── Interrupted         stopped before the end; repeating the command goes on (exit 75)
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable


class TrainerError(Exception):
    """Something the user can mend; its text is a whole sentence."""

    exit_code = 1


class UnknownName(TrainerError):
    """A name that nothing bears; the message says what exists and which is nearest."""

    def __init__(self, what: str, name: str, known: Iterable[str]) -> None:
        names = sorted(set(known))
        near = difflib.get_close_matches(name, names, n=1)
        parts = [f"No {what} is named {name!r}."]
        if near:
            parts.append(f"Did you mean {near[0]!r}?")
        parts.append(f"Known: {', '.join(names) or 'none'}.")
        super().__init__(" ".join(parts))


class PluginError(TrainerError):
    """A plugin that cannot be imported, clashes with another or breaks the contract."""


class DataError(TrainerError):
    """A row, file or folder that cannot be read; the message names file and line."""


class TokenizerError(TrainerError):
    """A tokenizer that cannot be loaded, or whose tokens cannot be told apart as a template needs it."""


class ModelError(TrainerError):
    """A model that cannot be loaded, or that does not fit the data or what training does with it."""


class Interrupted(TrainerError):
    """The command stopped before its end and can simply be repeated."""

    exit_code = 75
