"""The allow-list of system calls, as a filter that the kernel runs: all that is not named here is refused.

Numbers are those of Linux's ``asm/unistd_64.h`` (x86_64) and ``asm-generic/unistd.h`` (aarch64).
"""

from __future__ import annotations

import struct
from collections.abc import Iterable, Mapping

#: Call -> number on x86_64, number on aarch64; None where that architecture has no such call.
_NUMBERS: dict[str, tuple[int | None, int | None]] = {
    "read": (0, 63),
    "write": (1, 64),
    "readv": (19, 65),
    "writev": (20, 66),
    "pread64": (17, 67),
    "pwrite64": (18, 68),
    "lseek": (8, 62),
    "close": (3, 57),
    "close_range": (436, 436),
    "open": (2, None),
    "openat": (257, 56),
    "stat": (4, None),
    "fstat": (5, 80),
    "lstat": (6, None),
    "newfstatat": (262, 79),
    "statx": (332, 291),
    "access": (21, None),
    "faccessat": (269, 48),
    "faccessat2": (439, 439),
    "readlink": (89, None),
    "readlinkat": (267, 78),
    "getdents64": (217, 61),
    "getcwd": (79, 17),
    "chdir": (80, 49),
    "fchdir": (81, 50),
    "dup": (32, 23),
    "dup2": (33, None),
    "dup3": (292, 24),
    "fcntl": (72, 25),
    "flock": (73, 32),
    "fsync": (74, 82),
    "fdatasync": (75, 83),
    "truncate": (76, 45),
    "ftruncate": (77, 46),
    "fallocate": (285, 47),
    "rename": (82, None),
    "renameat": (264, 38),
    "renameat2": (316, 276),
    "mkdir": (83, None),
    "mkdirat": (258, 34),
    "rmdir": (84, None),
    "unlink": (87, None),
    "unlinkat": (263, 35),
    "symlink": (88, None),
    "symlinkat": (266, 36),
    "link": (86, None),
    "linkat": (265, 37),
    "chmod": (90, None),
    "fchmod": (91, 52),
    "fchmodat": (268, 53),
    "utimensat": (280, 88),
    "umask": (95, 166),
    "statfs": (137, 43),
    "fstatfs": (138, 44),
    "sendfile": (40, 71),
    "copy_file_range": (326, 285),
    "ioctl": (16, 29),
    "poll": (7, None),
    "ppoll": (271, 73),
    "select": (23, None),
    "pselect6": (270, 72),
    "epoll_create1": (291, 20),
    "epoll_ctl": (233, 21),
    "epoll_wait": (232, None),
    "epoll_pwait": (281, 22),
    "pipe": (22, None),
    "pipe2": (293, 59),
    "socketpair": (53, 199),
    "sendto": (44, 206),
    "recvfrom": (45, 207),
    "mmap": (9, 222),
    "munmap": (11, 215),
    "mremap": (25, 216),
    "mprotect": (10, 226),
    "madvise": (28, 233),
    "brk": (12, 214),
    "rt_sigaction": (13, 134),
    "rt_sigprocmask": (14, 135),
    "rt_sigreturn": (15, 139),
    "sigaltstack": (131, 132),
    "setitimer": (38, 103),
    "getitimer": (36, 102),
    "alarm": (37, None),
    "pause": (34, None),
    "nanosleep": (35, 101),
    "clock_nanosleep": (230, 115),
    "clock_gettime": (228, 113),
    "clock_getres": (229, 114),
    "gettimeofday": (96, 169),
    "time": (201, None),
    "times": (100, 153),
    "getrusage": (98, 165),
    "getrlimit": (97, 163),
    "prlimit64": (302, 261),
    "futex": (202, 98),
    "set_robust_list": (273, 99),
    "get_robust_list": (274, 100),
    "set_tid_address": (218, 96),
    "rseq": (334, 293),
    "membarrier": (324, 283),
    "sched_yield": (24, 124),
    "sched_getaffinity": (204, 123),
    "getpid": (39, 172),
    "getppid": (110, 173),
    "gettid": (186, 178),
    "getuid": (102, 174),
    "geteuid": (107, 175),
    "getgid": (104, 176),
    "getegid": (108, 177),
    "getresuid": (118, 148),
    "getresgid": (120, 150),
    "getgroups": (115, 158),
    "getpgrp": (111, None),
    "getsid": (124, 156),
    "uname": (63, 160),
    "sysinfo": (99, 179),
    "getrandom": (318, 278),
    "clone": (56, 220),
    "clone3": (435, 435),
    "exit": (60, 93),
    "exit_group": (231, 94),
    "restart_syscall": (219, 128),
    "getcpu": (309, 168),
    "recvmsg": (47, 212),
    "sendmsg": (46, 211),
    "setsockopt": (54, 208),
    "sched_setaffinity": (203, 122),
}

#: What reaches files by name to read or change them; left out where nothing else guards files.
NAMING = frozenset(
    {"open", "openat", "truncate", "rename", "renameat", "renameat2", "mkdir", "mkdirat", "rmdir"}
    | {"unlink", "unlinkat", "symlink", "symlinkat", "link", "linkat"}
)
#: What Landlock does not guard; left out where a candidate can see the files of others.
MARKING = frozenset({"chmod", "fchmod", "fchmodat", "utimensat"})
#: What a judge needs besides: to hear who sends, to hand a descriptor on, to bound its own patience, to share a core.
JUDGING = ("recvmsg", "sendmsg", "setsockopt", "sched_setaffinity")

_ARCHITECTURES = {"x86_64": (0, 0xC000003E), "aarch64": (1, 0xC00000B7)}
#: From here on numbers stand for x86_64's calls in their 32-bit form.
_X32 = 0x4000_0000

_KILL, _ALLOW = 0x8000_0000, 0x7FFF_0000
_EPERM, _ENOSYS = 0x0005_0000 | 1, 0x0005_0000 | 38

_LOAD, _JUMP, _EQUAL, _AT_LEAST, _ANY_BIT, _RETURN = 0x20, 0x05, 0x15, 0x35, 0x45, 0x06
#: Offsets in the kernel's ``struct seccomp_data``.
_NUMBER, _ARCHITECTURE, _ARGUMENTS = 0, 4, 16

_CLONE_THREAD = 0x0001_0000
#: ``TCGETS FIONREAD FIONBIO FIONCLEX FIOCLEX``: is this a terminal, how much is there, who inherits it.
_IOCTLS = (0x5401, 0x541B, 0x5421, 0x5450, 0x5451)
#: ``F_DUPFD`` to ``F_SETLKW``, ``F_OFD_GETLK`` to ``F_OFD_SETLKW``, ``F_DUPFD_CLOEXEC``, ``F_GETPIPE_SZ``: copies,
#: flags and locks; not ``F_SETOWN`` and ``F_SETSIG``, which have the kernel send any signal to any process of the user.
_FCNTLS = (*range(8), 36, 37, 38, 1030, 1032)
_AF_UNIX = 1


def program(machine: str, *, more: Iterable[str] = (), less: Iterable[str] = ()) -> bytes:
    """The filter for ``os.uname().machine``, with some calls more or less than a candidate has.

    Raises KeyError for an architecture that has no list.
    """
    column, audit = _ARCHITECTURES[machine]
    left_out = {*JUDGING, *less} - set(more)
    allowed = {
        number: _CHECKS.get(name, [_line(_RETURN, _ALLOW)])
        for name, numbers in _NUMBERS.items()
        if (number := numbers[column]) is not None and name not in left_out
    }
    return b"".join(
        [
            _line(_LOAD, _ARCHITECTURE),
            _line(_EQUAL, audit, 1, 0),
            _line(_RETURN, _KILL),
            _line(_LOAD, _NUMBER),
            _line(_AT_LEAST, _X32, 0, 1),
            _line(_RETURN, _EPERM),
            *_search(_ranges(allowed)),
        ]
    )


def _ranges(allowed: Mapping[int, list[bytes]]) -> list[tuple[int, list[bytes]]]:
    """(first number, what to do from there on) in rising order: calls that are treated alike stand together."""
    refused = [_line(_RETURN, _EPERM)]
    found: list[tuple[int, list[bytes]]] = [(0, allowed.get(0, refused))]
    for number in range(1, max(allowed) + 2):
        block = allowed.get(number, refused)
        # What a check loads takes the place of the call's number, so a check stands alone.
        if block != found[-1][1]:
            found.append((number, block))
    return found


def _search(ranges: list[tuple[int, list[bytes]]]) -> list[bytes]:
    """Find a number's range by halving: every system call goes through this, and the kernel tries each beforehand."""
    if len(ranges) == 1:
        return ranges[0][1]
    half = len(ranges) // 2
    low, high = _search(ranges[:half]), _search(ranges[half:])
    # A conditional jump reaches 255 instructions far; the other kind reaches all.
    return [_line(_AT_LEAST, ranges[half][0], 0, 1), _line(_JUMP, len(low)), *low, *high]


def _line(code: int, value: int, then: int = 0, otherwise: int = 0) -> bytes:
    return struct.pack("=HBBI", code, then, otherwise, value)


def _argument(number: int, *, high: bool = False) -> bytes:
    return _line(_LOAD, _ARGUMENTS + 8 * number + 4 * high)


def _one_of(number: int, values: Iterable[int]) -> list[bytes]:
    """Allow a call whose argument is one of these."""
    tests = [line for value in values for line in (_line(_EQUAL, value, 0, 1), _line(_RETURN, _ALLOW))]
    return [_argument(number), *tests, _line(_RETURN, _EPERM)]


#: Calls that are allowed with some arguments only.
_CHECKS: dict[str, list[bytes]] = {
    # A thread, never a process. What clone3 asks for lies in memory that no filter sees: libc then tries clone.
    "clone": [_argument(0), _line(_ANY_BIT, _CLONE_THREAD, 0, 1), _line(_RETURN, _ALLOW), _line(_RETURN, _EPERM)],
    "clone3": [_line(_RETURN, _ENOSYS)],
    "ioctl": _one_of(1, _IOCTLS),
    "fcntl": _one_of(1, _FCNTLS),
    # Its own limits only, which it can lower, not raise.
    "prlimit64": _one_of(0, (0,)),
    # A pair that is connected already, as event loops use it; no socket can be connected to another.
    "socketpair": _one_of(0, (_AF_UNIX,)),
    "sendto": [
        _argument(4),
        _line(_EQUAL, 0, 1, 0),
        _line(_RETURN, _EPERM),
        _argument(4, high=True),
        _line(_EQUAL, 0, 1, 0),
        _line(_RETURN, _EPERM),
        _line(_RETURN, _ALLOW),
    ],
}
