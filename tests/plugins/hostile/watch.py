"""What the harness plants, and what it looks at before and after each program."""

from __future__ import annotations

import contextlib
import ctypes
import fcntl
import os
import secrets
import socket
import struct
import termios
import threading
import time
import tty
from dataclasses import dataclass, field
from pathlib import Path

from tests.plugins.hostile import fence

PAGE = os.sysconf("SC_PAGE_SIZE")


def secret() -> str:
    """One that is found by the pattern that programs search for."""
    return f"EVALKIT_SECRET_{secrets.token_hex(16)}"


class Terminal:
    """A terminal that this process is attached to, as evalkit is to its user's."""

    def __init__(self) -> None:
        self.master, slave = os.openpty()
        os.set_blocking(self.master, False)
        tty.setraw(slave)
        self.name = os.ttyname(slave)
        os.setsid()
        fcntl.ioctl(slave, termios.TIOCSCTTY, 0)
        for descriptor in (0, 1, 2):
            os.dup2(slave, descriptor)
        os.close(slave)

    def seen(self) -> bytes:
        """What appeared on it since it was last asked, and what was typed."""
        with contextlib.suppress(BlockingIOError):
            return os.read(self.master, 1 << 16)
        (waiting,) = struct.unpack("i", fcntl.ioctl(0, termios.FIONREAD, b"\0" * 4))
        return b"typed: " + os.read(0, waiting) if waiting else b""


class Plants:
    """Secrets and listeners, each where somebody might look for one."""

    def __init__(self) -> None:
        base = Path("/tmp/planted")  # of the fence
        self.secrets = [secret() for _ in range(5)]
        in_file, in_home, in_run, in_variable, self.in_memory = self.secrets
        self.folder, self.run = base / "open", base / "run"
        for folder in (base, self.folder, self.run, base / "sockets"):
            folder.mkdir()
        self.folder.chmod(0o1777)
        (base / "sockets").chmod(0o1777)
        _write(base / "file", in_file)
        _write(self.run / "samples.jsonl", f'{{"prompt": "{in_run}"}}\n')
        self.results = self.run / "results.jsonl"
        _write(self.results, "")
        self.results.chmod(0o666)
        homes = [base / "home", *fence.homes()]
        for home in homes:
            with contextlib.suppress(PermissionError):
                for name in (".ssh/id_rsa", ".netrc", ".aws/credentials", ".bash_history"):
                    _write(home / name, in_home)
        variable = f"OPENAI_API_KEY_{secrets.token_hex(4)}"
        os.environ[variable] = os.environ["OPENAI_API_KEY"] = in_variable
        self.listeners = {name: socket.socket(family, kind) for name, (family, kind) in _KINDS.items()}
        abstract, path = f"evalkit-{secrets.token_hex(4)}", str(base / "sockets" / "listener")
        for name, address in (("ABSTRACT", f"\0{abstract}"), ("SOCKET", path)):
            self.listeners[name].bind(address)
        Path(path).chmod(0o777)
        for name in ("TCP", "UDP"):
            self.listeners[name].bind(("127.0.0.1", 0))
        for name, listener in self.listeners.items():
            listener.setblocking(False)
            if name != "UDP":
                listener.listen()
        self.places = {
            "FILE": str(base / "file"),
            "HOME": str(base / "home"),
            "FOLDER": str(self.folder),
            "RUN": str(self.run),
            "VARIABLE": variable,
            "TREE": str(fence.ROOT),
            "TCP": str(self.listeners["TCP"].getsockname()[1]),
            "UDP": str(self.listeners["UDP"].getsockname()[1]),
            "ABSTRACT": abstract,
            "SOCKET": path,
            "MAIN": str(os.getpid()),
        }

    def fill(self, text: str, mark: str) -> str:
        """A source with its places filled in."""
        for name, value in {**self.places, "MARK": mark, "KEY": hex(0x10_0000 + int(mark[4:], 16))}.items():
            text = text.replace(f"@{name}@", value)
        return text

    def reached(self) -> list[str]:
        """Which listeners somebody has spoken to since this was last asked."""
        found = []
        for name, listener in self.listeners.items():
            with contextlib.suppress(BlockingIOError):
                if name == "UDP":
                    listener.recv(100)
                else:
                    listener.accept()[0].close()
                found.append(name)
        return found


_KINDS = {
    "TCP": (socket.AF_INET, socket.SOCK_STREAM),
    "UDP": (socket.AF_INET, socket.SOCK_DGRAM),
    "ABSTRACT": (socket.AF_UNIX, socket.SOCK_STREAM),
    "SOCKET": (socket.AF_UNIX, socket.SOCK_STREAM),
}


def _write(file: Path, text: str) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(text)


@dataclass(frozen=True, slots=True)
class Process:
    """One line of the census."""

    pid: int
    parent: int
    began: int
    state: str
    name: str
    words: str


def census() -> dict[int, Process]:
    """All processes of the fence but this one and the one that buries orphans."""
    found = {}
    for folder in Path("/proc").iterdir():
        if not folder.name.isdigit() or int(folder.name) in (1, os.getpid()):
            continue
        with contextlib.suppress(OSError):
            stat = (folder / "stat").read_text(errors="replace")
            name, _, rest = stat.partition("(")[2].rpartition(")")
            fields = rest.split()
            words = (folder / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
            pid = int(folder.name)
            found[pid] = Process(pid, int(fields[1]), int(fields[19]), fields[0], name, words)
    return found


@dataclass(frozen=True, slots=True)
class Snapshot:
    """All that a program could leave behind and that is no process."""

    files: dict[str, tuple[int, int, int, int]] = field(default_factory=dict)
    objects: tuple[str, ...] = ()
    mounts: int = 0

    @classmethod
    def take(cls, ignore: tuple[str, ...] = ()) -> Snapshot:
        """Of now; the files in ``ignore`` may change."""
        files = {}
        for top in (*fence.FRESH, "/dev/mqueue"):
            device = Path(top).stat().st_dev if Path(top).is_dir() else -1
            waiting = [top]
            while waiting:
                folder = waiting.pop()
                with contextlib.suppress(OSError):
                    for entry in os.scandir(folder):
                        about = entry.stat(follow_symlinks=False)
                        if about.st_dev != device or entry.path in ignore:
                            continue  # what is mounted here cannot be written
                        files[entry.path] = (about.st_mode, about.st_uid, about.st_nlink, about.st_size)
                        if entry.is_dir(follow_symlinks=False):
                            files[entry.path] = (about.st_mode, about.st_uid, 0, 0)
                            waiting.append(entry.path)
        objects = tuple(
            f"{kind} {line.split()[1]}"
            for kind in ("shm", "msg", "sem")
            for line in Path("/proc/sysvipc", kind).read_text().splitlines()[1:]
        )
        return cls(files, objects, len(Path("/proc/self/mounts").read_text().splitlines()))

    def changes(self, later: Snapshot) -> list[str]:
        """What differs, in words."""
        names = sorted(set(self.files) | set(later.files))
        changed = [ascii(name) for name in names if self.files.get(name) != later.files.get(name)]
        more = set(later.objects) - set(self.objects)
        return [*changed[:5], *sorted(more), *(["mounts"] if self.mounts != later.mounts else [])]


def remove(before: Snapshot) -> None:
    """Take away what a program has left in a weakened cage."""
    now, seen = Snapshot.take(), -1
    while len(now.files) != seen:  # what is in a folder shows when it can be looked into
        seen = len(now.files)
        for path in map(Path, set(now.files) - set(before.files)):
            if path.is_dir() and not path.is_symlink():
                path.chmod(0o700)
        now = Snapshot.take()
    for path in map(Path, sorted(set(now.files) - set(before.files), reverse=True)):
        with contextlib.suppress(OSError):
            if path.is_dir() and not path.is_symlink():
                path.rmdir()
            else:
                path.unlink()
    libc = ctypes.CDLL(None)
    for one in set(now.objects) - set(before.objects):
        kind, number = one.split()
        if kind == "sem":
            libc.semctl(int(number), 0, 0)
        else:
            getattr(libc, f"{kind}ctl")(int(number), 0, None)


class Memory:
    """Watches, in a thread of its own, how much memory and disk the fence and the machine's shared memory take."""

    def __init__(self, every: float = 0.02) -> None:
        self._every = every
        self._lock = threading.Lock()
        self._end = threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True)
        self._own = os.getpid()
        self.begin()
        self._thread.start()

    def begin(self) -> None:
        """Count from here."""
        with self._lock:  # what the thread has seen before is not counted later
            self.private = self.shared = self.disk = 0
            self._base = self._now()

    def peak(self) -> tuple[int, int]:
        """Bytes of memory and of disk that were taken at most since the beginning."""
        self._look()
        return self.private + self.shared, self.disk

    def close(self) -> None:
        """Watch no longer."""
        self._end.set()
        self._thread.join()

    def _watch(self) -> None:
        while not self._end.wait(self._every):
            self._look()

    def _look(self) -> None:
        with self._lock:
            now = self._now()
            self.private = max(self.private, now[0] - self._base[0])
            self.shared = max(self.shared, now[1] - self._base[1])
            self.disk = max(self.disk, now[2] - self._base[2])

    def _now(self) -> tuple[int, int, int]:
        private = 0
        for folder in Path("/proc").iterdir():
            if folder.name.isdigit() and int(folder.name) != self._own:
                with contextlib.suppress(OSError, IndexError):
                    resident, shared = (folder / "statm").read_text().split()[1:3]
                    private += (int(resident) - int(shared)) * PAGE
        meminfo = dict(line.split(":") for line in Path("/proc/meminfo").read_text().splitlines())
        disk = 0
        for top in fence.FRESH:
            with contextlib.suppress(OSError):
                about = os.statvfs(top)
                disk += (about.f_blocks - about.f_bfree) * about.f_frsize
        return private, int(meminfo["Shmem"].split()[0]) << 10, disk


def pressure() -> float | None:
    """Seconds since the machine began in which somebody waited for a processor; None where the kernel does not say."""
    try:
        return int(Path("/proc/pressure/cpu").read_text().split("total=")[1].split()[0]) / 1e6
    except (OSError, IndexError):
        return None


def settled(expected: int, patience: float = 1.0) -> dict[int, Process]:
    """The census once it holds no more than what belongs to a sandbox, or when patience is at an end."""
    until = time.monotonic() + patience
    while True:
        found = census()
        strangers = [one for one in found.values() if one.state == "Z"]
        if (len(found) <= expected and not strangers) or time.monotonic() > until:
            return found
        time.sleep(0.01)
