"""What a plugin of the entry-point group ``trainer.sources`` may offer."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import pluggy

if TYPE_CHECKING:
    from trainer.sources import Source

hookspec = pluggy.HookspecMarker("trainer")
hookimpl = pluggy.HookimplMarker("trainer")


@hookspec
def sources() -> Sequence[Source]:  # type: ignore[empty-body]
    """Return datasets; each has an entry point of its name in the group ``trainer.sources``."""
