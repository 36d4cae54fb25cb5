"""The port at which the ranks of one machine meet."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def meeting_port() -> Iterator[int]:
    """A port that only ranks can serve at while the context lasts: whoever asks for any free one gets another."""
    with socket.socket() as held:
        held.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # the ranks' store sets it, too, and may serve there
        held.bind(("127.0.0.1", 0))
        yield int(held.getsockname()[1])
