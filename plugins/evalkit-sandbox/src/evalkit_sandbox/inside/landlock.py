"""Landlock: what a process may still do with files, ports and signals, decided without any privilege."""

from __future__ import annotations

import os
import struct
from collections.abc import Iterable

from . import kernel

_EXECUTE, _WRITE_FILE, _READ_FILE, _READ_DIR = 1, 2, 4, 8
_REMOVE_DIR, _REMOVE_FILE = 1 << 4, 1 << 5
_MAKE_DIR, _MAKE_REG, _MAKE_SYM = 1 << 7, 1 << 8, 1 << 12
_REFER, _TRUNCATE, _IOCTL_DEV = 1 << 13, 1 << 14, 1 << 15

#: What can be done with a file; all else is about a folder's entries.
_OF_A_FILE = _EXECUTE | _WRITE_FILE | _READ_FILE | _TRUNCATE | _IOCTL_DEV

READ = _READ_FILE | _READ_DIR
#: Make, change and remove plain files.
WRITE_FILES = READ | _WRITE_FILE | _REMOVE_FILE | _MAKE_REG | _TRUNCATE
#: And directories and symbolic links, too.
WRITE = WRITE_FILES | _REMOVE_DIR | _MAKE_DIR | _MAKE_SYM | _REFER
#: What a device such as ``/dev/null`` is for.
USE = _READ_FILE | _WRITE_FILE

#: What each version of the interface added: rights over files, over ports, over what lies outside.
_FILES = {1: (1 << 13) - 1, 2: _REFER, 3: _TRUNCATE, 5: _IOCTL_DEV}
_PORTS = {4: 3}
_OUTSIDE = {6: 3}


def ruleset(abi: int, rules: Iterable[tuple[str, int]]) -> int:
    """A descriptor for `kernel.landlock_restrict`: of files, only what the rules (path, rights) name is left.

    Ports are closed, and abstract sockets and processes of others are out of reach, each as far as the kernel's version
    of the interface goes. Paths that do not exist are passed over.
    """
    files, ports, outside = (_until(abi, rights) for rights in (_FILES, _PORTS, _OUTSIDE))
    attributes = struct.pack("=QQQ", files, ports, outside)
    descriptor = kernel.landlock_create(attributes[: 8 if abi < 4 else 16 if abi < 6 else 24])
    for path, rights in rules:
        try:
            place = os.open(path, os.O_PATH | os.O_CLOEXEC)
        except OSError:
            continue
        try:
            here = files if os.path.isdir(path) else files & _OF_A_FILE
            kernel.landlock_add(descriptor, struct.pack("=Qi", rights & here, place))
        finally:
            os.close(place)
    return descriptor


def _until(abi: int, rights: dict[int, int]) -> int:
    return sum(bits for version, bits in rights.items() if version <= abi)
