"""The start of a cage: enters it layer by layer, then serves. Run as a program by `evalkit_sandbox.worker`.

Its argument is a `Plan` as `channel` writes it, in hexadecimal; its standard input is the socket on which a judge gives
orders. There it says in one message that it is ready, or what it failed of.
"""

from __future__ import annotations

import ctypes
import os
import sys
from collections.abc import Iterable
from typing import Any, NamedTuple

from . import candidate, channel, clocks, kernel, server
from .layers import Limits

#: Inside, everybody is nobody.
_NOBODY = 65534
_DEVICES = ("null", "zero", "urandom")
_NAMESPACES = (
    kernel.CLONE_NEWPID | kernel.CLONE_NEWNET | kernel.CLONE_NEWIPC | kernel.CLONE_NEWUTS | kernel.CLONE_NEWCGROUP
)


class Plan(NamedTuple):
    """What a cage is made of."""

    layers: list[str]
    #: The user to become; None to stay the one who started it.
    uid: int | None
    #: Modules that candidates are born with.
    modules: list[str]
    #: Where candidates work, if not in a folder of the cage's own.
    place: str
    #: The core on which all of them run; None for any.
    core: int | None
    #: What each may use at most.
    limits: list[Any]


class Library(NamedTuple):
    """The standard library of this interpreter."""

    folders: list[str]
    #: Folders in them that hold what others installed.
    masked: list[str]
    #: Shared libraries elsewhere that its modules need, by the name under which they are opened -> where that leads.
    shared: dict[str, str]

    @classmethod
    def find(cls) -> Library:
        """That of the interpreter that runs this."""
        folders = [path for path in sys.path if os.path.isdir(path)]
        tops = [path for path in folders if not any(path.startswith(f"{other}/") for other in folders)]
        masked = [
            place
            for path in tops
            for name in ("site-packages", "dist-packages")
            if os.path.isdir(place := f"{path}/{name}")
        ]
        shared = {
            path: os.path.realpath(path)
            for path in (*_loaded(folders), "/etc/ld.so.cache")
            if os.path.isfile(path) and not any(path.startswith(f"{top}/") for top in tops)
        }
        return cls(tops, masked, shared)

    def entries(self) -> list[str]:
        """What lies in the folders, less what is masked: Landlock's rules only ever allow."""
        found = [os.path.join(folder, name) for folder in self.folders for name in os.listdir(folder)]
        return [path for path in found if path not in self.masked]


def _loaded(folders: Iterable[str]) -> list[str]:
    """The shared libraries that a process has in its memory when it has loaded every extension module there; paths."""
    reading, writing = os.pipe()
    if child := os.fork():
        os.close(writing)
        with open(reading, encoding="utf-8") as pipe:
            found = pipe.read().split("\n")
        os.waitpid(child, 0)
        return sorted({path for path in found if path.startswith("/") and os.path.isfile(path)})
    for file in (f"{folder}/{name}" for folder in folders for name in os.listdir(folder) if name.endswith(".so")):
        try:
            ctypes.CDLL(file)
        except OSError:
            continue
    names = [] if not hasattr(libc := ctypes.CDLL(None), "dl_iterate_phdr") else _names(libc)
    os.write(writing, "\n".join(names).encode())
    os._exit(0)


class _Header(ctypes.Structure):
    """The beginning of the C library's ``struct dl_phdr_info``."""

    _fields_ = (("address", ctypes.c_void_p), ("name", ctypes.c_char_p))


def _names(libc: ctypes.CDLL) -> list[str]:
    """The shared libraries in this process's memory, by the names under which they were opened."""
    found: list[str] = []

    def note(header: Any, size: int, data: object) -> int:
        found.append(os.fsdecode(header.contents.name or b""))
        return 0

    kind = ctypes.CFUNCTYPE(ctypes.c_int, ctypes.POINTER(_Header), ctypes.c_size_t, ctypes.c_void_p)
    libc.dl_iterate_phdr(kind(note), None)
    return found


def main() -> None:
    """Enter the cage and serve."""
    plan = Plan(*channel.decode(bytes.fromhex(sys.argv[1]))[0])
    layers = frozenset(plan.layers)
    judge = server.reach(os.dup(0))
    try:
        if plan.core is not None:
            clocks.bind(plan.core)
        server.warm(plan.modules)
        library = Library.find()
        readable = [*library.entries(), *library.shared]
        _enter(plan, layers, library)
        place = candidate.PLACE if "namespaces" in layers else plan.place
        os.chdir(place)
        candidate.leave_nothing_open()
        server.forget_environment()
        serving = server.Server(judge, layers, place)
        serving.wear(Limits(*plan.limits), readable)
    except Exception as error:
        judge.send(f"E{error}".encode()[:1000])
        os._exit(70)
    judge.send(b"R")
    serving.serve()


def _enter(plan: Plan, layers: frozenset[str], library: Library) -> None:
    """Put on all that the server itself can wear; candidates put on the rest."""
    namespaces = "namespaces" in layers
    proc = os.open("/proc/self", os.O_PATH | os.O_DIRECTORY) if namespaces else -1
    root = plan.uid is not None
    if root and namespaces:
        # Before the change of user: the interpreter may lie where only root can look.
        kernel.unshare(kernel.CLONE_NEWNS)
        _build(library, Limits(*plan.limits))
    if plan.uid is not None:
        os.setgroups([])
        os.setresgid(plan.uid, plan.uid, plan.uid)
        os.setresuid(plan.uid, plan.uid, plan.uid)
    if not namespaces:
        return
    kernel.hide_memory(hidden=False)  # the maps below are written through files that belong to whom can be traced
    user, group = os.geteuid(), os.getegid()
    kernel.unshare(kernel.CLONE_NEWUSER | kernel.CLONE_NEWNS | _NAMESPACES)
    _write(proc, "setgroups", "deny")
    _write(proc, "uid_map", f"{_NOBODY} {user} 1")
    _write(proc, "gid_map", f"{_NOBODY} {group} 1")
    os.close(proc)
    if not root:
        _build(library, Limits(*plan.limits))
    if child := os.fork():
        # This process is the parent of the new namespace's first, and ends with it.
        os.closerange(0, 256)
        _, status = os.waitpid(child, 0)
        os._exit(os.waitstatus_to_exitcode(status) & 0xFF)
    kernel.die_with_parent()


def _write(folder: int, name: str, text: str) -> None:
    descriptor = os.open(name, os.O_WRONLY, dir_fd=folder)
    try:
        os.write(descriptor, text.encode())
    finally:
        os.close(descriptor)


def _build(library: Library, limits: Limits) -> None:
    """Make a root of nothing but the standard library, read-only, and of three devices."""
    kernel.mount("none", "/", "", kernel.MS_REC | kernel.MS_PRIVATE)
    kernel.mount("tmpfs", "/tmp", "tmpfs", kernel.MS_NOSUID | kernel.MS_NODEV, "size=1m,mode=0755")  # noqa: S108
    os.mkdir("/tmp/old")  # noqa: S108
    kernel.pivot_root("/tmp", "/tmp/old")  # noqa: S108
    os.chdir("/")
    for path in library.folders:
        _show(path)
    for path in library.masked:
        kernel.mount("tmpfs", path, "tmpfs", kernel.MS_RDONLY | kernel.MS_NOSUID | kernel.MS_NODEV, "size=4k,mode=0555")
    for path, real in library.shared.items():
        _show(path, real)
    for name in _DEVICES:
        _show(f"/dev/{name}", device=True)
    _furnish(limits)
    kernel.unmount("/old")
    os.rmdir("/old")
    kernel.mount(
        "none", "/", "", kernel.MS_REMOUNT | kernel.MS_BIND | kernel.MS_RDONLY | kernel.MS_NOSUID | kernel.MS_NODEV
    )


def _furnish(limits: Limits) -> None:
    """Give candidates a folder to write in; it is emptied after each."""
    os.mkdir(candidate.PLACE)
    flags = kernel.MS_NOSUID | kernel.MS_NODEV | kernel.MS_NOEXEC
    kernel.mount("tmpfs", candidate.PLACE, "tmpfs", flags, f"size={limits.disk},nr_inodes={limits.files},mode=1777")


def _show(path: str, real: str = "", *, device: bool = False) -> None:
    """Show a file or folder of the former root at its own path, read-only."""
    old = f"/old{real or path}"
    if os.path.isdir(old):
        os.makedirs(path, exist_ok=True)
    else:
        os.makedirs(os.path.dirname(path), exist_ok=True)
        os.close(os.open(path, os.O_CREAT | os.O_WRONLY))
    kernel.mount(old, path, "", kernel.MS_BIND)
    flags = kernel.MS_REMOUNT | kernel.MS_BIND | kernel.MS_RDONLY | kernel.MS_NOSUID | _locked(path)
    kernel.mount("none", path, "", flags if device else flags | kernel.MS_NODEV)


def _locked(path: str) -> int:
    """What a mount forbids already: in a user namespace it may not be allowed again."""
    found = os.statvfs(path).f_flag
    kept = {os.ST_NODEV: kernel.MS_NODEV, os.ST_NOEXEC: kernel.MS_NOEXEC, os.ST_NOATIME: kernel.MS_NOATIME}
    kept |= {os.ST_NODIRATIME: kernel.MS_NODIRATIME, os.ST_RELATIME: kernel.MS_RELATIME}
    return sum(flag for bit, flag in kept.items() if found & bit)
