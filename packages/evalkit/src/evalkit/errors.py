"""What can go wrong, said in one sentence with its remedy.

EvalkitError            anything a user can mend; the CLI prints it in one line and exits 1
├── UnknownName         a benchmark, backend, option or subset that does not exist
├── PluginError         a plugin that cannot be imported or breaks the contract
├── DataError           a row, a file or a folder that cannot be read
├── ModelError          a model that cannot be loaded or lacks what was asked of it
├── RunError            a run folder that is damaged, in use, or bound to other settings
│   └── Busy            another process is writing to it
└── Interrupted         stopped before the end; repeating the command goes on (exit 75)
    ├── EngineDied      what runs the model broke; a new process may do better
    └── SharesMissing   one share of a run is answered, others are not
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable


class EvalkitError(Exception):
    """Something the user can mend; its text is a whole sentence."""

    exit_code = 1


class UnknownName(EvalkitError):
    """A name that nothing bears; the message says what exists and which is nearest."""

    def __init__(self, what: str, name: str, known: Iterable[str], *, listed: str = "Known", remedy: str = "") -> None:
        names = sorted(known)
        near = difflib.get_close_matches(name, names, n=1)
        parts = [f"No {what} is named {name!r}."]
        if near:
            parts.append(f"Did you mean {near[0]!r}?")
        parts.append(f"{listed}: {', '.join(names)}." if names else f"{listed}: none.")
        if remedy:
            parts.append(remedy)
        super().__init__(" ".join(parts))


class PluginError(EvalkitError):
    """A plugin that cannot be imported, clashes with another or breaks the contract."""


class DataError(EvalkitError):
    """A row, file or folder that cannot be read; the message names file and line."""


class ModelError(EvalkitError):
    """A model that cannot be loaded or lacks what was asked of it."""


class RunError(EvalkitError):
    """A run folder that is damaged, in use, or bound to other settings."""


class Busy(RunError):
    """Another process is writing to the run folder."""


class Interrupted(EvalkitError):
    """The run stopped before its end and can simply be repeated."""

    exit_code = 75


class EngineDied(Interrupted):
    """What runs the model broke, and not for any fault of one request; a new process may do better."""


class SharesMissing(Interrupted):
    """One share of a run is answered; the run is scored once the others are, too."""
