"""The system calls that confine a process and that Python has no functions for."""

from __future__ import annotations

import ctypes
import os

CLONE_NEWNS = 0x0002_0000
CLONE_NEWCGROUP = 0x0200_0000
CLONE_NEWUTS = 0x0400_0000
CLONE_NEWIPC = 0x0800_0000
CLONE_NEWUSER = 0x1000_0000
CLONE_NEWPID = 0x2000_0000
CLONE_NEWNET = 0x4000_0000

MS_RDONLY, MS_NOSUID, MS_NODEV, MS_NOEXEC = 1, 2, 4, 8
MS_REMOUNT, MS_BIND, MS_REC, MS_PRIVATE = 32, 4096, 16384, 1 << 18
MS_NOATIME, MS_NODIRATIME, MS_RELATIME = 1 << 10, 1 << 11, 1 << 21
MNT_DETACH = 2

_PR_SET_PDEATHSIG, _PR_SET_DUMPABLE, _PR_SET_SECCOMP, _PR_SET_NO_NEW_PRIVS = 1, 4, 22, 38
_SECCOMP_MODE_FILTER = 2
_CAPABILITY_VERSION_3 = 0x2008_0522
#: One number on every architecture.
_SYS_LANDLOCK_CREATE, _SYS_LANDLOCK_ADD, _SYS_LANDLOCK_RESTRICT = 444, 445, 446
_SYS_PIVOT_ROOT = {"x86_64": 155, "aarch64": 41}

_libc = ctypes.CDLL(None, use_errno=True)
_libc.syscall.restype = ctypes.c_long
_libc.prctl.argtypes = [ctypes.c_int, ctypes.c_ulong, ctypes.c_void_p, ctypes.c_ulong, ctypes.c_ulong]
_libc.mount.argtypes = [ctypes.c_char_p, ctypes.c_char_p, ctypes.c_char_p, ctypes.c_ulong, ctypes.c_char_p]


def _checked(result: int, what: str) -> int:
    if result < 0:
        number = ctypes.get_errno()
        raise OSError(number, f"{what}: {os.strerror(number)}")
    return result


def unshare(flags: int) -> None:
    """Leave the namespaces of these kinds for new ones; of process numbers, only children born later do."""
    _checked(_libc.unshare(flags), "unshare")


def bear_into(process: int) -> None:
    """Let children born later live in the process namespace of the one that this pidfd stands for.

    For its own pidfd this undoes ``unshare(CLONE_NEWPID)``, which can then be called again.
    """
    _checked(_libc.setns(process, CLONE_NEWPID), "setns")


def mount(source: str, target: str, kind: str, flags: int, options: str = "") -> None:
    """Mount a file system, or with ``MS_BIND`` a part of one, at ``target``."""
    done = _libc.mount(source.encode(), os.fsencode(target), kind.encode(), flags, options.encode() or None)
    _checked(done, f"mount {target}")


def unmount(target: str) -> None:
    """Take a mount away, whoever still uses it."""
    _checked(_libc.umount2(os.fsencode(target), MNT_DETACH), f"umount {target}")


def pivot_root(new: str, old: str) -> None:
    """Make the mount at ``new`` the root and show the former one at ``old`` below it."""
    number = _SYS_PIVOT_ROOT[os.uname().machine]
    _checked(_libc.syscall(ctypes.c_long(number), os.fsencode(new), os.fsencode(old)), "pivot_root")


def _prctl(option: int, value: int, pointer: object = None) -> None:
    _checked(_libc.prctl(option, value, pointer, 0, 0), f"prctl {option}")


def die_with_parent() -> None:
    """Be killed when the thread that started this process ends; a change of user forgets it."""
    _prctl(_PR_SET_PDEATHSIG, 9)


def hide_memory(*, hidden: bool = True) -> None:
    """Let no process of the same user trace this one, and no crash write its memory to a file."""
    _prctl(_PR_SET_DUMPABLE, 0 if hidden else 1)


def gain_nothing() -> None:
    """Give up, for good, to gain rights by running a program; seccomp and Landlock ask for it."""
    _prctl(_PR_SET_NO_NEW_PRIVS, 1)


class _Program(ctypes.Structure):
    _fields_ = (("length", ctypes.c_ushort), ("instructions", ctypes.c_char_p))


def filter_calls(program: bytes) -> None:
    """Install a seccomp filter: BPF instructions of eight bytes each."""
    _prctl(_PR_SET_SECCOMP, _SECCOMP_MODE_FILTER, ctypes.byref(_Program(len(program) // 8, program)))


_HEADER = (ctypes.c_uint32 * 2)(_CAPABILITY_VERSION_3, 0)
_NO_CAPABILITIES = (ctypes.c_uint32 * 6)()


def drop_capabilities() -> None:
    """Keep none of the rights over the namespaces that this process lives in."""
    _checked(_libc.capset(_HEADER, _NO_CAPABILITIES), "capset")


def landlock_abi() -> int:
    """Which version of Landlock the kernel has; 0 for none."""
    found = _libc.syscall(ctypes.c_long(_SYS_LANDLOCK_CREATE), None, ctypes.c_size_t(0), ctypes.c_uint32(1))
    return max(0, int(found))


def landlock_create(attributes: bytes) -> int:
    """The descriptor of a new, empty set of rules."""
    number = ctypes.c_long(_SYS_LANDLOCK_CREATE)
    return _checked(_libc.syscall(number, attributes, ctypes.c_size_t(len(attributes)), ctypes.c_uint32(0)), "landlock")


def landlock_add(ruleset: int, rule: bytes) -> None:
    """Add a rule about what lies beneath a path."""
    number = ctypes.c_long(_SYS_LANDLOCK_ADD)
    _checked(_libc.syscall(number, ctypes.c_int(ruleset), ctypes.c_int(1), rule, ctypes.c_uint32(0)), "landlock")


def landlock_restrict(ruleset: int) -> None:
    """Put this process, for good, under a set of rules."""
    number = ctypes.c_long(_SYS_LANDLOCK_RESTRICT)
    _checked(_libc.syscall(number, ctypes.c_int(ruleset), ctypes.c_uint32(0)), "landlock")
