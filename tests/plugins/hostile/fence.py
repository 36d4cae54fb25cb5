"""What the suite runs in: namespaces of its own, where nothing but fresh temporary folders can be written."""

from __future__ import annotations

import contextlib
import ctypes
import fcntl
import os
import pwd
import resource
import socket
import struct
import sys
from collections.abc import Iterator
from pathlib import Path

from evalkit_sandbox.inside import kernel

#: The ordinary user that root becomes.
USER = 61_380
#: Folders that are replaced by empty ones. Every other file is read-only.
FRESH = ("/tmp", "/var/tmp", "/dev/shm", "/home", "/root")
ROOT = Path(__file__).resolve().parents[3]

_NAMESPACES = kernel.CLONE_NEWNS | kernel.CLONE_NEWPID | kernel.CLONE_NEWIPC | kernel.CLONE_NEWNET | kernel.CLONE_NEWUTS
_SYS_MOUNT_SETATTR = 442
_AT_FDCWD, _AT_RECURSIVE = -100, 0x8000
_SIOCGIFFLAGS, _SIOCSIFFLAGS = 0x8913, 0x8914


def enter() -> None:
    """Leave the machine for the fence; only the process inside it returns. Raises OSError where that is refused."""
    Path("/proc/self/oom_score_adj").write_text("1000")
    needed = _needed()
    blocked = {place for path in needed if (place := _closed(path))}
    user, group = os.geteuid(), os.getegid()
    kernel.unshare(_NAMESPACES | (kernel.CLONE_NEWUSER if user else 0))
    if user:
        Path("/proc/self/setgroups").write_text("deny")
        Path("/proc/self/uid_map").write_text(f"{user} {user} 1")
        Path("/proc/self/gid_map").write_text(f"{group} {group} 1")
    kernel.mount("none", "/", "", kernel.MS_REC | kernel.MS_PRIVATE)
    _read_only("/")
    kept = {path: os.open(path, os.O_PATH) for path in needed}
    for place in (*FRESH, *sorted(blocked.difference(FRESH))):
        if Path(place).is_dir():
            kernel.mount("tmpfs", place, "tmpfs", kernel.MS_NOSUID | kernel.MS_NODEV, "size=256m,mode=0755")
    for place in FRESH[:3]:
        if Path(place).is_dir():
            Path(place).chmod(0o1777)
    for path, descriptor in kept.items():
        if not Path(path).exists():
            Path(path).mkdir(parents=True)
            kernel.mount(f"/proc/self/fd/{descriptor}", path, "", kernel.MS_BIND | kernel.MS_REC)
        os.close(descriptor)
    _loopback_up()
    _become_second()


def _needed() -> list[str]:
    """The interpreter, its environment and the sources: the outermost folders of them."""
    named = [Path(path) for path in (*sys.path, sys.prefix, sys.base_prefix, str(ROOT)) if path]
    paths = {str(place) for path in named if path.is_dir() for place in (path.resolve(), path) if place.is_absolute()}
    paths -= {path for path in paths if Path(path).is_symlink()}
    return sorted(path for path in paths if not any(path.startswith(f"{other}/") for other in paths))


def _closed(path: str) -> str:
    """The outermost folder above ``path`` that others may not enter; empty for none."""
    for place in reversed(Path(path).parents):
        if not place.stat().st_mode & 1:
            return str(place)
    return ""


def _read_only(path: str) -> None:
    attributes = struct.pack("=QQQQ", 1, 0, 0, 0)
    libc = ctypes.CDLL(None, use_errno=True)
    size = ctypes.c_size_t(len(attributes))
    if libc.syscall(_SYS_MOUNT_SETATTR, _AT_FDCWD, os.fsencode(path), _AT_RECURSIVE, attributes, size):
        raise OSError(ctypes.get_errno(), "mount_setattr")


def _loopback_up() -> None:
    with socket.socket() as any_socket:
        request = fcntl.ioctl(any_socket, _SIOCGIFFLAGS, struct.pack("16sh14x", b"lo", 0))
        fcntl.ioctl(any_socket, _SIOCSIFFLAGS, struct.pack("16sh14x", b"lo", struct.unpack("16sh14x", request)[1] | 1))


def _become_second() -> None:
    """Fork the namespace's first process, which buries orphans, and return in the second."""
    if first := os.fork():
        os._exit(os.waitstatus_to_exitcode(os.waitpid(first, 0)[1]) & 0xFF)
    kernel.die_with_parent()
    kernel.mount("proc", "/proc", "proc", kernel.MS_NOSUID | kernel.MS_NODEV | kernel.MS_NOEXEC)
    with contextlib.suppress(OSError):
        kernel.mount("mqueue", "/dev/mqueue", "mqueue", kernel.MS_NOSUID | kernel.MS_NODEV | kernel.MS_NOEXEC)
    if second := os.fork():
        while True:
            pid, status = os.wait()
            if pid == second:
                os._exit(os.waitstatus_to_exitcode(status) & 0xFF)


def become_ordinary() -> None:
    """From here on be nobody in particular, if this is root; an ordinary user stays who it is."""
    if os.geteuid() == 0:
        os.setgroups([])
        os.setresgid(USER, USER, USER)
        os.setresuid(USER, USER, USER)


def limit() -> None:
    """Bounds for whatever a program does in a cage without any."""
    for what, most in (
        (resource.RLIMIT_AS, 8 << 30),
        (resource.RLIMIT_FSIZE, 64 << 20),
        (resource.RLIMIT_NPROC, 400),
        (resource.RLIMIT_NOFILE, 4096),
    ):
        hard = resource.getrlimit(what)[1]
        value = most if hard == resource.RLIM_INFINITY else min(most, hard)
        resource.setrlimit(what, (value, value))


def withhold_namespaces() -> None:
    """Let the kernel refuse, from here on, what makes namespaces and mounts, as it does in most containers."""
    kernel.gain_nothing()
    kernel.filter_calls(_refusals(os.uname().machine))


#: unshare, mount, setns, umount2, pivot_root, clone, clone3 and the newer calls for mounts; x86_64, aarch64.
_REFUSED = {"x86_64": (272, 165, 308, 166, 155), "aarch64": (97, 40, 268, 39, 41)}
_NEWER = (428, 429, 430, 431, 432, 442)
_CLONE = {"x86_64": 56, "aarch64": 220}
_NEW_ANYTHING = 0x7E02_0080


def _refusals(machine: str) -> bytes:
    load, equal, any_bit, answer = 0x20, 0x15, 0x45, 0x06
    refuse, unknown, allow = 0x0005_0000 | 1, 0x0005_0000 | 38, 0x7FFF_0000

    def line(code: int, value: int, then: int = 0, otherwise: int = 0) -> bytes:
        return struct.pack("=HBBI", code, then, otherwise, value)

    lines = [line(load, 0)]
    for number in (*_REFUSED[machine], *_NEWER):
        lines += [line(equal, number, 0, 1), line(answer, refuse)]
    lines += [line(equal, 435, 0, 1), line(answer, unknown)]
    lines += [line(equal, _CLONE[machine], 0, 3), line(load, 16), line(any_bit, _NEW_ANYTHING, 0, 1)]
    return b"".join([*lines, line(answer, refuse), line(answer, allow)])


def homes() -> Iterator[Path]:
    """The homes that the machine's list of users names, as far as they lie in a fresh folder."""
    for place in sorted({user.pw_dir for user in pwd.getpwall()}):
        if place == "/root" or place.startswith("/home/"):
            yield Path(place)
