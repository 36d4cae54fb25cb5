"""The layers that a cage is made of, and the limits of a candidate."""

from __future__ import annotations

import struct
from typing import NamedTuple

#: Every layer, in the order in which a process puts them on.
LAYERS = ("uid", "namespaces", "landlock", "capabilities", "rlimits", "seccomp", "hidden")

#: What programs import most; a candidate is born with it, and `random` with its seed. Each costs every fork some
#: microseconds.
COMMON = (
    "bisect",
    "collections",
    "copy",
    "functools",
    "heapq",
    "itertools",
    "math",
    "operator",
    "random",
    "re",
    "string",
    "typing",
)
#: What else they import now and then, and tests, too: for whoever may lose sight of the library.
# fmt: off
MORE = (
    "abc", "array", "ast", "asyncio", "base64", "binascii", "bz2", "calendar", "cmath", "concurrent.futures.thread",
    "contextlib", "csv", "ctypes",
    "dataclasses", "datetime", "decimal", "difflib", "enum", "fractions", "gzip", "hashlib", "hmac", "html",
    "inspect", "io", "json", "keyword", "locale", "logging", "lzma", "numbers", "pickle", "pprint", "queue",
    "secrets", "sqlite3", "statistics", "struct", "tempfile", "textwrap", "threading", "time", "traceback", "types",
    "unicodedata", "unittest", "urllib.parse", "uuid", "warnings", "weakref", "xml.etree.ElementTree", "zlib",
)
# fmt: on


class Limits(NamedTuple):
    """What a candidate may use; sizes in bytes."""

    #: Seconds of work: of processor time on the machine that `clocks` describes, when nothing else runs there.
    work: float = 3.0
    #: Seconds of waiting for anything but the processor.
    idle: float = 3.0
    #: Seconds on the clock, whatever passed in them; 0 for no such limit.
    wall: float = 0.0
    #: Of address space.
    memory: int = 1 << 30
    stack: int = 8 << 20
    #: Of one file, and of all that lies in its folder.
    file: int = 1 << 20
    disk: int = 4 << 20
    files: int = 1 << 10
    descriptors: int = 32
    threads: int = 32

    def packed(self) -> bytes:
        """As bytes, for `unpacked`."""
        return _PACKED.pack(*self)

    @classmethod
    def unpacked(cls, data: bytes) -> Limits:
        """What `packed` gave."""
        return cls(*_PACKED.unpack(data))

    @property
    def cpu(self) -> int:
        """Seconds of processor time after which the kernel ends a candidate, should nobody else do it."""
        return 4 * int(self.work + 2)


_PACKED = struct.Struct("<3d7q")
