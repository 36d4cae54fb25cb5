"""One file over HTTP, taken up again where an earlier try broke off."""

from __future__ import annotations

import http.client
import urllib.error
import urllib.request
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path
from typing import BinaryIO, cast
from urllib.parse import urlsplit

from trainer.errors import DataError

#: Told how many bytes are there, and of how many; 0 where the server does not say.
Tell = Callable[[int, int], None]

#: Seconds that a server may be silent.
SILENCE = 30.0
_PIECE = 1 << 18


class Unreachable(DataError):
    """A server that does not answer at all; asking it for another file is no use."""


class _BrokenOff(Exception):
    """The server stopped before the end."""


def download(url: str, part: Path, tell: Tell) -> None:
    """Bring all that a URL gives into ``part``, behind what it holds already; go on while a try brings more.

    Raises Unreachable where the server does not answer, and DataError for an answer that is no file, for a transfer
    that does not end and for a disk that does not take it; what has come stays in ``part`` for the next time.
    """
    if not url.startswith(("https://", "http://")):
        raise DataError(f"{url} is no web address.")
    while True:
        before = _size(part)
        try:
            _once(url, part, tell)
            return
        except urllib.error.HTTPError as error:
            error.close()
            if error.code != http.client.REQUESTED_RANGE_NOT_SATISFIABLE or not before:
                raise DataError(f"{url} is not to be had: the server says {error.code} {error.reason}.") from None
            part.unlink()  # it is longer than the file: no part of it
        except (OSError, http.client.HTTPException, _BrokenOff) as error:
            if _size(part) <= before:
                raise _fault(url, error) from None


def _once(url: str, part: Path, tell: Tell) -> None:
    have = _size(part)
    headers = {"User-Agent": f"trainer/{version('trainer')}"} | ({"Range": f"bytes={have}-"} if have else {})
    request = urllib.request.Request(url, headers=headers)  # noqa: S310  (the scheme was looked at)
    with urllib.request.urlopen(request, timeout=SILENCE) as response:  # noqa: S310
        if response.status != http.client.PARTIAL_CONTENT:
            have = 0  # a server without ranges sends all from the beginning
        elif not str(response.headers["Content-Range"]).startswith(f"bytes {have}-"):
            part.unlink()
            raise _BrokenOff("it sends another part than it was asked for")
        total = 0 if response.length is None else have + response.length
        with _opened(part, "ab" if have else "wb") as file:
            while piece := response.read(_PIECE):
                _write(file, piece, part)
                have += len(piece)
                tell(have, total)
        if have < total:  # read() does not say so
            raise _BrokenOff(f"the connection broke off after {have} of {total} bytes")
        if _size(part) != have:
            part.unlink()
            raise DataError(f"{part} was written by something else besides; start one fetch at a time.")


def _opened(part: Path, mode: str) -> BinaryIO:
    try:
        return cast(BinaryIO, part.open(mode))
    except OSError as error:
        raise _unwritable(part, error) from None


def _write(file: BinaryIO, piece: bytes, part: Path) -> None:
    try:
        file.write(piece)
        file.flush()  # a full disk is met here, not when the file is closed
    except OSError as error:
        raise _unwritable(part, error) from None


def _unwritable(part: Path, error: OSError) -> DataError:
    return DataError(f"{part} cannot be written ({error.strerror or error}); repeat the command to go on.")


def _fault(url: str, error: Exception) -> DataError:
    cause = error.reason if isinstance(error, urllib.error.URLError) else error
    why = (cause.strerror if isinstance(cause, OSError) else "") or str(cause) or type(cause).__name__
    if isinstance(error, urllib.error.URLError | TimeoutError):
        return Unreachable(f"{urlsplit(url).netloc} cannot be reached ({why}).")
    return DataError(f"{url} did not come whole ({why}); repeat the command to go on.")


def _size(path: Path) -> int:
    return path.stat().st_size if path.exists() else 0
