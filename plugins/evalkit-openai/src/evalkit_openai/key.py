"""The API key: taken out of the environment or a keyring, and kept from every place where text is shown."""

from __future__ import annotations

import importlib
import os
from collections.abc import Callable

#: Variable -> the key that was taken out of it, for a second backend of this process (a judge).
_TAKEN: dict[str, Key] = {}


class Key:
    """A secret that no repr, log or traceback shows."""

    __slots__ = ("reveal",)

    def __init__(self, secret: str) -> None:
        #: Gives the secret; a function, so that no traceback that prints values prints it.
        self.reveal: Callable[[], str] = lambda: secret

    def __repr__(self) -> str:
        return "<key>"

    def redact(self, text: str) -> str:
        """A text without the key."""
        return text.replace(secret, "<key>") if (secret := self.reveal()) else text


def take(variable: str) -> Key | None:
    """The key in a variable of the environment, which loses it: programs that are started later do not inherit it."""
    if secret := os.environ.pop(variable, "").strip():
        _TAKEN[variable] = Key(secret)
    return _TAKEN.get(variable)


def from_keyring(variable: str) -> Key | None:
    """The key that the system's keyring holds for the service ``evalkit`` and this name; None without the package."""
    try:
        keyring = importlib.import_module("keyring")
    except ImportError:
        return None
    secret = keyring.get_password("evalkit", variable)
    return Key(secret) if secret else None
