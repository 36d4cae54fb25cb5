"""One run to a folder at a time: rank 0 holds a lock, which the kernel gives back however its process ends."""

from __future__ import annotations

import fcntl
import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

LOCK = ".lock"


@contextmanager
def locked(out: Path, rank: int) -> Iterator[str]:
    """Hold the run folder's lock, if this is rank 0; what keeps it from that, as a sentence, or nothing.

    The sentence is not raised here, as the other ranks would wait for one that did. A folder that cannot be written is
    told by what writes there next.
    """
    if rank:
        yield ""
        return
    try:
        out.mkdir(parents=True, exist_ok=True)
        file = (out / LOCK).open("a+")
    except OSError:
        yield ""
        return
    with file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            file.seek(0)
            who = file.read().strip() or "unknown"
            yield f"Another process trains in {out} ({who}): wait for it, stop it, or set out to another folder."
            return
        except OSError:  # a file system without locks
            yield ""
            return
        file.truncate(0)
        file.write(f"{socket.gethostname()}, pid {os.getpid()}")
        file.flush()
        yield ""
