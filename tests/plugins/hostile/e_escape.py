"""E: programs that reach for what lies outside of their cage."""

from __future__ import annotations

import os

from tests.plugins.hostile.r_resources import CALLS, FILES_OPEN, NO_RLIMITS, NO_SECCOMP
from tests.plugins.hostile.suite import AMPLE, Hostile, tries

_X86 = os.uname().machine == "x86_64"
#: Nothing is left that keeps a program from the processes of the machine.
PROCESSES_OPEN = FILES_OPEN | {"hidden", "capabilities"}
#: A cage has namespaces and mounts of its own; these keep a candidate from changing them.
MOUNTS_OPEN = frozenset({"seccomp", "landlock", "capabilities"})

#: For programs that try one thing after the other.
ANY_OF = f"""
{CALLS}
import fcntl, glob, resource, signal, socket, struct, sys

def works(action, *arguments):
    try:
        action(*arguments)
    except (OSError, ValueError):
        return False
    return True

def reads(path):
    with open(path, "rb") as file:
        return file.read(1)

def changes(path):
    os.close(os.open(path, os.O_WRONLY | os.O_NONBLOCK | os.O_NOCTTY))

def creates(path):
    os.close(os.open(path, os.O_CREAT | os.O_WRONLY))

def calls(x86_number, number, *arguments):
    return libc.syscall(x86_number if x86 else number, *map(ctypes.c_long, arguments)) >= 0
"""


def _any(
    number: int,
    name: str,
    body: str,
    *,
    weakened: frozenset[str] | None = FILES_OPEN,
    noticed: str = "passed",
    reasons: tuple[str, ...] = ("exception AssertionError",),
    root: bool = False,
    or_correct: bool = False,
    because: str = "",
) -> Hostile:
    """A program that answers rightly if anything of what it tries works."""
    return Hostile(
        number=number,
        name=name,
        source=tries(body, ANY_OF),
        reasons=reasons,
        or_correct=or_correct,
        weakened=None if because else weakened,
        noticed=noticed,
        root=root,
        because=because,
        limits=AMPLE,
    )


def _reads(name: str, *patterns: str) -> Hostile:
    return _any(
        24,
        f"read-host/{name}",
        f"assert any(works(reads, path) for pattern in {patterns!r} for path in sorted(glob.glob(pattern))[:50])",
    )


READING = (
    _reads("users", "/etc/passwd", "/etc/shadow", "/etc/hostname", "/etc/machine-id"),
    _reads("file", "@FILE@"),
    _reads("homes", "@HOME@/.*", "/root/.*", "/home/*/.*", "/root/.ssh/*", "/home/*/.ssh/*", "/home/*/.aws/*"),
    _reads("sources", "@TREE@/*", "@TREE@/tests/*/*.py", "@TREE@/plugins/*/*"),
    _reads(
        "kernel",
        "/dev/mem",
        "/dev/kmem",
        "/dev/port",
        "/proc/kcore",
        "/proc/kallsyms",
        "/proc/version",
        "/sys/kernel/*",
    ),
    _reads("this-run", "@RUN@/*"),
    _reads("packages", "@TREE@/packages/evalkit/src/evalkit/*.py", "/usr/lib/python3/dist-packages/*"),
    _any(
        24,
        "read-host/disks",
        """
        patterns = "/dev/[shv]d*", "/dev/nvme*", "/dev/loop*", "/dev/dm-*", "/dev/fuse", "/dev/ptmx", "/dev/full"
        assert any(works(changes, path) for pattern in patterns for path in glob.glob(pattern))
        """,
    ),
    _any(
        24,
        "read-host/names",
        """
        seen = set()
        for path in ("@TREE@", "@RUN@", "@HOME@", "/", "/etc", "/proc", "/sys", "/var"):
            works(lambda: seen.update(os.listdir(path)))
        assert seen & {"pyproject.toml", "results.jsonl", ".ssh", "passwd", "kernel", "self"}
        """,
    ),
)

WRITING = (
    _any(
        25,
        "write-host/anywhere",
        """
        places = ("/", "/..", "/root", "/home", os.path.dirname(os.__file__), "@TREE@", "@RUN@", "@HOME@")
        places += ("/run", "/etc", "/dev", "/dev/mqueue", "/run/lock", "/var/tmp", "/usr/local/bin", "/tmp/..", "..")
        assert any(works(creates, f"{place}/@MARK@") for place in places)
        """,
    ),
    _any(25, "write-host/shared-memory", "assert works(creates, '/dev/shm/@MARK@')", noticed="I4"),
    _any(25, "write-host/open-folder", "assert works(os.mkdir, '@FOLDER@/@MARK@')", noticed="I4"),
    _any(25, "write-host/link", "assert works(os.symlink, '@FILE@', '@FOLDER@/@MARK@')", noticed="I4"),
    _any(25, "write-host/results", "assert works(changes, '@RUN@/results.jsonl')"),
    _any(
        25,
        "write-host/library",
        """
        import random, string
        paths = random.__file__, string.__file__, os.path.dirname(os.__file__) + "/__pycache__/@MARK@.pyc"
        assert any(works(action, path) for path in paths for action in (changes, creates, os.unlink))
        """,
        because="the library belongs to somebody else, and the suite itself makes it read-only",
    ),
)

ROOTS = (
    _any(
        26,
        "kernel-knobs",
        """
        first = ["/proc/sys/vm/swappiness", "/proc/sys/kernel/core_pattern", "/proc/sysrq-trigger"]
        found = 0
        for top in ("/proc/sys", "/sys"):
            for folder, _, names in os.walk(top):
                first += [f"{folder}/{name}" for name in names]
                found += len(names)
                if found > 3000:
                    break
        assert any(works(changes, path) for path in first)
        """,
        root=True,
    ),
    _any(
        27,
        "other-roots/of-processes",
        """
        numbers = {"self", 1, 2, os.getpid(), os.getppid(), @MAIN@}
        paths = [f"/proc/{number}/root/@FILE@" for number in numbers]
        paths += [f"/proc/{number}/cwd/" + "../" * 9 + "@FILE@" for number in numbers]
        paths += [path for number in numbers if number != "self" for path in glob.glob(f"/proc/{number}/fd/*")]
        assert any(works(reads, path) for path in paths)
        """,
        weakened=PROCESSES_OPEN,
    ),
    _any(
        27,
        "other-roots/upwards",
        "assert any(works(reads, path) for path in ('../' * 20 + '@FILE@', '/..' * 20 + '@FILE@', '//@FILE@'))",
    ),
    _any(
        27,
        "other-roots/of-folders",
        """
        found = []
        for number in range(3, 256):
            for path in ("..", ".", "@FILE@"[1:], "../" * 9 + "@FILE@"):
                found.append(works(os.stat, number) and works(lambda: os.open(path, os.O_RDONLY, dir_fd=number)))
        assert any(found)
        """,
        because="every descriptor is closed at a candidate's birth, whatever the layers",
    ),
    _any(
        27,
        "other-roots/chroot",
        """
        os.makedirs("@MARK@", exist_ok=True)
        folder = os.open(".", os.O_RDONLY)
        assert works(os.chroot, "@MARK@")
        os.fchdir(folder)
        """,
        reasons=("exception AssertionError", "exception PermissionError"),
        weakened=frozenset({"seccomp", "capabilities"}),
    ),
)

DESCRIPTORS = (
    _any(
        28,
        "inherited-descriptors",
        "assert [number for number in range(4, 1024) if works(os.fstat, number)]",
        because="every descriptor is closed at a candidate's birth, whatever the layers",
    ),
    _any(
        28,
        "inherited-descriptors/used",
        """
        found = []
        for number in range(4, 1024):
            found += [works(os.write, number, b"passed"), works(os.read, number, 1)]
            found += [works(lambda: os.open(".", os.O_RDONLY, dir_fd=number))]
        assert any(found)
        """,
        because="every descriptor is closed at a candidate's birth, whatever the layers",
    ),
    _any(
        28,
        "inherited-descriptors/passed",
        """
        end = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM, fileno=os.dup(3))
        end.setblocking(False)
        assert works(lambda: socket.recv_fds(end, 1, 8)), "nobody has sent any"
        """,
        reasons=("exception AssertionError", "exception PermissionError"),
        because="nobody sends a candidate any",
    ),
)


def _signals(name: str, body: str, weakened: frozenset[str] = PROCESSES_OPEN, noticed: str = "passed") -> Hostile:
    return _any(
        29,
        f"signal-parent/{name}",
        body,
        reasons=("exception PermissionError", "exception ProcessLookupError", "exception AssertionError"),
        weakened=weakened,
        noticed=noticed,
    )


PROCESSES = (
    # Signal 0 reaches nobody, and tells whether another would have.
    _signals("parent", "assert os.getppid()\nos.kill(os.getppid(), 0)"),
    _signals("first", "os.kill(1, 0)", NO_SECCOMP),
    _signals("main", "os.kill(@MAIN@, 0)"),
    _signals("everybody", "assert os.getpid() != 1\nos.kill(-1, 0)"),
    _signals("group", "os.kill(0, 0)", NO_SECCOMP),
    _signals("thread", "parent = os.getppid()\nassert parent and calls(234, 131, parent, parent, 0)"),
    _signals(
        "descriptor",
        "assert os.getppid()\nsignal.pidfd_send_signal(os.pidfd_open(os.getppid()), 0)",
    ),
    _signals(
        "queued",
        "parent = os.getppid()\nassert calls(129, 138, parent, signal.SIGKILL, 0) or calls(62, 129, 1, 0)",
        NO_SECCOMP,
    ),
    _signals("new-group", "os.setpgid(0, 0)\nos.killpg(0, 0)", frozenset({"seccomp", "namespaces"})),
    _signals("stops", "for number in (os.getppid(), 1):\n    os.kill(number, signal.SIGSTOP)", NO_SECCOMP),
    _signals("kills", "assert os.getppid()\nos.kill(os.getppid(), signal.SIGKILL)", noticed="I1"),
    _any(
        30,
        "trace-parent/ptrace",
        """
        # Where only children may be traced, a child must do; it is as much refused.
        parent = os.getppid()
        if not (parent and libc.ptrace(0x4206, parent, 0, 0) == 0):
            child = os.fork()
            if not child:
                time.sleep(2)
                os._exit(0)
            try:
                assert libc.ptrace(0x4206, child, 0, 0) == 0
            finally:
                os.kill(child, signal.SIGKILL)
                os.waitpid(child, 0)
        """,
        reasons=("exception PermissionError", "exception AssertionError"),
        weakened=PROCESSES_OPEN,
    ),
    _any(
        30,
        "trace-parent/attach",
        "assert any(number and libc.ptrace(16, number, 0, 0) == 0 for number in (os.getppid(), 1, @MAIN@))",
        because="a program that it succeeded for would stop the server; the form before shows that the way is closed",
    ),
    _any(
        30,
        "trace-parent/written",
        """
        # Of nothing, to an address where nothing is: EFAULT says that it was allowed to try.
        piece = (ctypes.c_size_t * 2)(0, 8)
        for number in (os.getppid(), os.getpid()):
            assert libc.process_vm_writev(number, piece, 1, piece, 1, 0) == -1
            if ctypes.get_errno() == 14:
                break
        else:
            assert False
        """,
        weakened=PROCESSES_OPEN,
    ),
    _any(
        30,
        "trace-parent/memory",
        """
        numbers = {os.getppid(), 1, @MAIN@, "self"}
        assert any(works(changes, f"/proc/{number}/mem") for number in numbers)
        """,
        weakened=PROCESSES_OPEN,
    ),
)

PRIVILEGES = (
    _any(
        31,
        "regain-privilege/setuid-program",
        """
        for path in ("/bin/su", "/usr/bin/passwd", "/bin/mount", "/usr/bin/newgrp", "/bin/sh"):
            try:
                pid = os.posix_spawn(path, [path, "--version"], {})
            except FileNotFoundError:
                continue
            os.waitpid(pid, 0)
            break
        else:
            assert False
        """,
        reasons=("exception PermissionError",),
    ),
    _any(
        31,
        "regain-privilege/become-root",
        """
        found = [works(os.setuid, 0), works(os.setresuid, 0, 0, 0), works(os.setgid, 0), works(os.setgroups, [0])]
        assert any(found)
        """,
        weakened=frozenset({"seccomp", "capabilities", "namespaces"}),
        root=True,
    ),
    _any(
        31,
        "regain-privilege/new-user-namespace",
        "assert libc.unshare(0x10000000) == 0",
        weakened=NO_SECCOMP,
    ),
    _any(
        31,
        "regain-privilege/capabilities",
        """
        header = (ctypes.c_uint32 * 2)(0x20080522, 0)
        for wanted in (0xFFFFFFFF, 1 << 21, 1 << 5):
            for inheritable in (0, wanted):
                data = (ctypes.c_uint32 * 6)(wanted, wanted, inheritable, 0, 0, 0)
                if libc.capset(header, data) == 0:
                    return a + b
        assert False
        """,
        weakened=frozenset({"seccomp", "capabilities"}),
    ),
    _any(
        31,
        "regain-privilege/no-new-privileges",
        "assert libc.prctl(39, 0, 0, 0, 0) == 0 or libc.prctl(38, 0, 0, 0, 0) == 0",
        because="it is put on whatever the layers",
    ),
    _any(
        32,
        "remount/mounts",
        """
        os.makedirs("@MARK@", exist_ok=True)
        found = (
            libc.mount(b"none", b"@MARK@", b"tmpfs", 0, b"size=4k") == 0,
            libc.mount(b"/", b"@MARK@", None, 4096, None) == 0,
            libc.mount(b"proc", b"@MARK@", b"proc", 0, None) == 0,
            libc.mount(None, b"/", None, 32 | 4096, None) == 0,
        )
        while libc.umount2(b"@MARK@", 2) == 0:
            pass
        os.rmdir("@MARK@")
        assert any(found)
        """,
        reasons=("exception AssertionError", "exception PermissionError"),
        weakened=MOUNTS_OPEN,
    ),
    _any(
        32,
        "remount/unmounts",
        "assert libc.umount2(b'/tmp', 2) == 0 or libc.umount2(b'/dev/null', 2) == 0",
        weakened=MOUNTS_OPEN,
    ),
    _any(
        32,
        "remount/trees",
        """
        one = ctypes.c_long(1)
        opened = libc.syscall(428, ctypes.c_long(-100), b"/", one)
        if opened < 0:
            moved = libc.syscall(429, ctypes.c_long(opened), b"", ctypes.c_long(-100), b".", ctypes.c_long(4))
            assert max(moved, libc.syscall(155 if x86 else 41, b".", b".")) >= 0
        """,
        weakened=MOUNTS_OPEN,
    ),
    _any(
        33,
        "odd-syscalls/rare",
        """
        buffer = ctypes.addressof(ctypes.create_string_buffer(256))
        found = {
            "io_uring_setup": calls(425, 425, 1, buffer),
            "bpf": calls(321, 280, 0, buffer, 128),
            "userfaultfd": calls(323, 282, 1),
            "perf_event_open": calls(298, 241, buffer, 0, -1, -1, 0),
            "keyctl": calls(250, 219, 0, -3, 1),
            "add_key": calls(248, 217, buffer, buffer, 0, 0, -3),
            "personality": calls(135, 92, 0xFFFFFFFF),
            "name_to_handle_at": calls(303, 264, -100, buffer, buffer, buffer, 0),
            "open_by_handle_at": calls(304, 265, -100, buffer, 0),
            "memfd_create": calls(319, 279, buffer, 0),
            "pidfd_open": calls(434, 434, os.getpid(), 0),
            "seccomp": calls(317, 277, 2, 0, buffer),
            "landlock": calls(444, 444, 0, 0, 1),
        }
        assert any(found.values())
        """,
        weakened=NO_SECCOMP,
    ),
    _any(
        33,
        "odd-syscalls/another-table",
        """
        assert any(libc.syscall(ctypes.c_long(0x40000000 | number)) >= 0 for number in (39, 57, 102, 110, 521))
        """,
        because="few kernels have this table at all; the filter refuses it wherever there is one",
    ),
    _any(
        33,
        "odd-syscalls/another-entry",
        """
        assert x86
        # mov eax, 20 (getpid); int 0x80; ret
        code = mmap.mmap(-1, 4096, prot=mmap.PROT_READ | mmap.PROT_WRITE | mmap.PROT_EXEC)
        code.write(bytes.fromhex("b814000000cd80c3"))
        assert ctypes.CFUNCTYPE(ctypes.c_int)(ctypes.addressof(ctypes.c_char.from_buffer(code)))() > 0
        """,
        reasons=("killed SIGSYS", "killed SIGSEGV", "exception AssertionError"),
        weakened=NO_SECCOMP if _X86 else None,
        because="" if _X86 else "only x86_64 has it",
    ),
    _any(
        34,
        "own-limits/raised",
        """
        names = [name for name in dir(resource) if name.startswith("RLIMIT_")]
        wanted = {"RLIMIT_AS": 2 << 30, "RLIMIT_NOFILE": 2048, "RLIMIT_FSIZE": 32 << 20}
        found = []
        for name, value in wanted.items():
            found.append(works(resource.setrlimit, getattr(resource, name), (value, value)))
        assert any(found)
        """,
        weakened=NO_RLIMITS,
    ),
    _any(
        34,
        "own-limits/priority",
        """
        found = [works(os.nice, -5), works(os.setpriority, os.PRIO_PROCESS, 0, -5)]
        found += [works(os.sched_setaffinity, 0, {0}), works(os.sched_setscheduler, 0, 3, os.sched_param(0))]
        found += [libc.prctl(29, 1, 0, 0, 0) == 0, works(changes, "/proc/self/oom_score_adj")]
        assert any(found)
        """,
        weakened=FILES_OPEN,
    ),
    _any(
        34,
        "own-limits/of-the-parent",
        """
        found = []
        for number in {os.getppid(), @MAIN@, 1} - {0, os.getpid()}:
            found.append(works(resource.prlimit, number, resource.RLIMIT_NOFILE))
            found.append(works(os.sched_setaffinity, number, os.sched_getaffinity(0)))
        assert any(found)
        """,
        weakened=PROCESSES_OPEN,
    ),
)

_ELF = (
    # e_ident, one program header that maps the file at 0x400000, and 12 bytes that leave with 7.
    "7f454c46020101000000000000000000"
    + "02003e00" + "01000000" + "7800400000000000" + "4000000000000000" + "0000000000000000"
    + "00000000" + "4000" + "3800" + "0100" + "0000" + "0000" + "0000"
    + "01000000" + "05000000" + "0000000000000000" + "0000400000000000" + "0000400000000000"
    + "8400000000000000" + "8400000000000000" + "0010000000000000"
    + "bf07000000" + "b83c000000" + "0f05"
)  # fmt: skip


def _becomes(name: str, body: str, weakened: frozenset[str] = FILES_OPEN) -> Hostile:
    """A program that becomes another one, which does not answer."""
    return _any(
        38,
        f"new-interpreter/{name}",
        body,
        reasons=("exception PermissionError", "exception FileNotFoundError"),
        weakened=weakened,
        noticed="ended-early",
    )


OUTSIDE = (
    _any(
        35,
        "terminal-injection/typed",
        """
        found = []
        for number in (0, 1, 2):
            found += [works(fcntl.ioctl, number, 0x5412, letter) for letter in (b"l", b"s", bytes([10]))]
            found += [works(fcntl.ioctl, number, 0x541C, bytes([2, 0, 0])), works(fcntl.ioctl, number, 0x540E, 0)]
        found.append(works(changes, "/dev/tty"))
        assert any(found)
        """,
        because="its input and output lead nowhere and its session has no terminal, whatever the layers",
    ),
    _any(
        35,
        "terminal-injection/written",
        """
        for path in ("@TTY@", "/dev/tty", "/dev/console", *glob.glob("/dev/pts/*")):
            try:
                terminal = os.open(path, os.O_RDWR | os.O_NOCTTY | os.O_NONBLOCK)
                os.write(terminal, bytes([27]) + b"[31m@MARK@")
                break
            except OSError:
                pass
        else:
            assert False
        """,
        noticed="I8",
    ),
    _any(
        36,
        "left-for-the-collector",
        """
        def leave(action, *arguments):
            works(action, *arguments)
        leave(os.symlink, "@FILE@", "link")
        leave(os.symlink, "@FOLDER@", "folder-link")
        leave(os.link, "@FILE@", "hard")
        leave(os.mkfifo, "fifo")
        leave(os.mknod, "device", 0o20666, os.makedev(1, 3))
        leave(lambda: socket.socket(socket.AF_UNIX).bind("socket"))
        for name in ("new" + chr(10) + "line", "-rf", "x" * 255, b"bad-" + bytes([255]), chr(27) + "[31m"):
            leave(creates, name)
            leave(os.chmod, name, 0)
        for number in range(3):
            leave(os.makedirs, f"locked{number}/inner/deeper")
            leave(creates, f"locked{number}/inner/file")
            leave(os.chmod, f"locked{number}/inner", 0)
            leave(os.chmod, f"locked{number}", 0)
        leave(os.chmod, ".", 0)
        """,
        reasons=("exception",),
        or_correct=True,
        weakened=FILES_OPEN,
        noticed="I",
    ),
    *(
        _any(
            36,
            f"left-for-the-collector/{name}",
            f"""
            seen = {seen}
            {leave}
            assert seen, "not yet: perhaps the next of us"
            """,
            reasons=("exception AssertionError", "exception PermissionError"),
            because="it is the second run in a batch that would see what the first one left, at every level",
        )
        for name, seen, leave in (
            ("mode-of-its-folder", "os.stat('.').st_mode & 0o7777 == 0o1701", "os.chmod('.', 0o1701)"),
            ("time-of-its-folder", "os.stat('.').st_mtime == 12345", "os.utime('.', (12345, 12345))"),
            ("size-of-its-folder", "os.stat('.').st_size > 4096", "works(creates, 'x' * 200)"),
            ("hidden-file", "os.path.exists('.@MARK@')", "creates('.@MARK@')"),
            ("deep-folder", "os.path.exists('a')", "os.makedirs('a' + '/a' * 50)"),
        )
    ),
    _any(
        37,
        "service-sockets",
        """
        def connects(path):
            with socket.socket(socket.AF_UNIX) as end:
                end.settimeout(10)
                end.connect(path)
                end.send(b"GET / HTTP/1.0" + bytes([13, 10, 13, 10]))
        paths = ["/var/run/docker.sock", "/run/dbus/system_bus_socket", "/tmp/.X11-unix/X0", "@SOCKET@"]
        paths += glob.glob("/run/user/*/bus") + glob.glob("/tmp/ssh-*/agent.*")
        assert any(works(connects, path) for path in paths)
        """,
        noticed="I6",
    ),
    _becomes("sh", "os.execv('/bin/sh', ['sh', '-c', 'exit 0'])"),
    _becomes("python", "os.execv(sys.executable or '/usr/bin/python3', ['python', '-c', 'pass'])"),
    _becomes("itself", "os.execv('/proc/self/exe', ['python', '-c', 'pass'])"),
    _becomes(
        "from-memory",
        f"""
        file = os.memfd_create("@MARK@")
        os.write(file, bytes.fromhex("{_ELF}"))
        os.execve(file, ["x"], {{}})
        """,
        NO_SECCOMP if _X86 else FILES_OPEN,
    ),
    _becomes(
        "hand-written",
        f"""
        with open("@MARK@", "wb") as file:
            file.write(bytes.fromhex("{_ELF}"))
        os.chmod("@MARK@", 0o700)
        os.execv("./@MARK@", ["x"])
        """,
    ),
    _becomes("through-the-loader", "os.execv('/lib64/ld-linux-x86-64.so.2', ['ld', '/bin/true'])"),
)

PROGRAMS: tuple[Hostile, ...] = (*READING, *WRITING, *ROOTS, *DESCRIPTORS, *PROCESSES, *PRIVILEGES, *OUTSIDE)
