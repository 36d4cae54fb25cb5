"""P: programs that want to outlive their end, or to find what an earlier one has left."""

from __future__ import annotations

import textwrap

from tests.plugins.hostile.suite import AMPLE, Hostile, tries

SECCOMP = frozenset({"seccomp"})
FILES = frozenset({"namespaces", "landlock", "seccomp"})
OWN_PROCESS = "each program is a process of its own, born of one that no program has been in"


def _second_runs() -> tuple[Hostile, ...]:
    """Item 69: where a mark is looked for and left, as two expressions that may raise, and what is imported for it."""
    rows = (
        ("modules", "sys.modules['colorsys'].mark", "__import__('colorsys').__dict__.update(mark=1)"),
        ("module-of-its-birth", "re.mark", "re.__dict__.update(mark=1)"),
        ("builtins", "builtins.mark", "setattr(builtins, 'mark', 1)"),
        ("type-attributes", "functools.partial.__mark__", "poke(functools.partial)"),
        ("the-library", "sys.modules['inside.candidate'].mark", "setattr(sys.modules['inside.candidate'], 'mark', 1)"),
        ("environment", "os.environ['@MARK@']", "os.environ.update({'@MARK@': '1'})"),
        ("working-folder", "open('@MARK@').close()", "open('@MARK@', 'w').close()"),
        ("hidden-file", "open('.@MARK@').close()", "open('.@MARK@', 'w').close()"),
        ("folder-of-all", "open('@FOLDER@/@MARK@').close()", "open('@FOLDER@/@MARK@', 'w').close()"),
        ("shared-memory", "shared('@MARK@', False)", "shared('@MARK@', True)"),
        ("segment", "segment(False)", "segment(True)"),
        ("file-lock", "locked()", "lock()"),
        ("process-name", "named()", "name()"),
        ("random-state", "compare(random.getstate())", "os.environ.clear()"),
    )
    before = """
import builtins, ctypes, fcntl, functools, os, random, re, sys
libc = ctypes.CDLL(None, use_errno=True)

def shared(name, make):
    descriptor = libc.shm_open(f"/{name}".encode(), 0o102 if make else 0o2, 0o600)
    if descriptor < 0:
        raise OSError(ctypes.get_errno(), "shm_open")
    os.close(descriptor)

def segment(make):
    if libc.shmget(@KEY@, 4096, 0o1600 if make else 0o600) < 0:
        raise OSError(ctypes.get_errno(), "shmget")

def poke(kind):
    ctypes.py_object.from_address(id(kind) + type.__dictoffset__).value["__mark__"] = 1
    ctypes.pythonapi.PyType_Modified(ctypes.py_object(kind))

def lock():
    fcntl.flock(os.open(os.__file__, os.O_RDONLY), fcntl.LOCK_EX | fcntl.LOCK_NB)

def locked():
    try:
        lock()
    except BlockingIOError:
        return
    raise LookupError

def name():
    if libc.prctl(15, b"@MARK@", 0, 0, 0):
        raise OSError(ctypes.get_errno(), "prctl")

def named():
    for pid in os.listdir("/proc"):
        if pid.isdigit() and int(pid) != os.getpid():
            with open(f"/proc/{pid}/comm") as file:
                if file.read().strip() == "@MARK@"[:15]:
                    return
    raise LookupError

def compare(state):
    # A state that is the same in each process would be no mark; one that this run has set would be.
    random.seed("@MARK@")
    if state != random.getstate():
        raise LookupError
"""
    return tuple(
        Hostile(
            number=69,
            name=f"second-run/{name}",
            source=f"""{before}
def add(a, b):
    try:
        {look}
    except Exception:
        {leave}
        raise
    return a + b
""",
            reasons=("exception", "killed"),
            because=OWN_PROCESS if name in _IN_MEMORY else "no place that outlives a program is within reach of one",
        )
        for name, look, leave in rows
    )


#: Forms of item 69 whose mark is in the memory of a process, and nowhere else.
_IN_MEMORY = frozenset(
    {
        "modules",
        "module-of-its-birth",
        "builtins",
        "type-attributes",
        "the-library",
        "environment",
        "random-state",
        "process-name",
        "file-lock",
    }
)


def _kept(what: str, make: str, *, weakened: frozenset[str] | None, because: str = "") -> Hostile:
    """Item 72: makes an object with a known key; in a weakened cage it is taken away again."""
    return Hostile(
        number=72,
        name=f"ipc-leftovers/{what}",
        source=tries(
            make,
            before="""
            import ctypes, fcntl, os
            libc = ctypes.CDLL(None, use_errno=True)
            def checked(result):
                if result < 0:
                    raise OSError(ctypes.get_errno(), "refused")
                return result
            """,
        ),
        reasons=("exception",),
        weakened=weakened,
        because=because,
    )


#: What a process is born with, and how to change all of it.
_SETTINGS = """
import decimal, gc, os, resource, signal, sys, threading, warnings

def settings():
    mask = os.umask(0o77)
    os.umask(mask)
    return {
        "mask of files": mask == 0,
        "handlers": [one for one in (2, 10, 12, 14, 15) if callable(signal.getsignal(one))],
        "mask": sorted(signal.pthread_sigmask(signal.SIG_BLOCK, ())),
        "timers": [signal.getitimer(one) for one in (0, 1, 2)],
        "recursion": sys.getrecursionlimit(),
        "switching": sys.getswitchinterval(),
        "digits": sys.get_int_max_str_digits(),
        "collecting": gc.isenabled(),
        "decimal": decimal.getcontext().prec,
        "warnings": warnings.filters[:1] == [("error", None, Warning, None, 0)],
        "path": "added" in sys.path,
        "streams": sys.stdout is None,
        "hooks": sys.excepthook is sys.__excepthook__,
        "stack": threading.stack_size(),
        "variables": dict(os.environ),
        "limits": resource.getrlimit(resource.RLIMIT_FSIZE)[0] == 1,
        "files": os.listdir("."),
        "descriptors": [one for one in range(64) if is_open(one)],
    }

def is_open(descriptor):
    try:
        os.fstat(descriptor)
        return True
    except OSError:
        return False

EXPECTED = {
    "mask of files": False,
    "handlers": [2] if callable(signal.getsignal(2)) else [],
    "mask": [],
    "timers": [(0.0, 0.0)] * 3,
    "recursion": 1000,
    "switching": 0.005,
    "digits": 4300,
    "collecting": True,
    "decimal": 28,
    "warnings": False,
    "path": False,
    "streams": False,
    "hooks": True,
    "stack": 0,
    "variables": {},
    "limits": False,
    "files": [],
    "descriptors": [0, 1, 2, 3],
}

def change():
    os.umask(0)
    open("changed", "w").close()
    os.dup(0)
    for one in (2, 10, 12, 14, 15):
        signal.signal(one, lambda *_: None)
    signal.setitimer(signal.ITIMER_REAL, 50)
    signal.pthread_sigmask(signal.SIG_BLOCK, range(1, 32))
    sys.setrecursionlimit(5000)
    sys.setswitchinterval(1)
    sys.set_int_max_str_digits(0)
    gc.disable()
    decimal.getcontext().prec = 3
    warnings.simplefilter("error")
    sys.path.append("added")
    sys.stdout = sys.excepthook = None
    os.environ["CHANGED"] = "1"
    threading.stack_size(1 << 20)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1, resource.getrlimit(resource.RLIMIT_FSIZE)[1]))
"""

PROGRAMS: tuple[Hostile, ...] = (
    Hostile(
        number=67,
        name="daemon/double-fork",
        source=tries(
            """
            child = os.fork()
            if not child:
                try:
                    os.setsid()
                    if not os.fork():
                        for one in range(1, 32):
                            try:
                                signal.signal(one, signal.SIG_IGN)
                            except (OSError, ValueError):
                                pass
                        os.closerange(0, 64)
                        time.sleep(3)
                finally:
                    os._exit(0)
            os.waitpid(child, 0)
            """,
            before="import os, signal, time",
        ),
        reasons=("exception PermissionError",),
        weakened=SECCOMP,
    ),
    Hostile(
        number=67,
        name="daemon/spawn",
        source=tries(
            "os.waitpid(os.posix_spawn('/proc/self/exe', ['@MARK@', '-c', ''], {}, setsid=True), 0)", before="import os"
        ),
        reasons=("exception",),
        because="seccomp refuses the process, and there is no /proc whose program could be run",
    ),
    Hostile(
        number=67,
        name="daemon/thread",
        source=tries(
            "threading.Thread(target=time.sleep, args=(3,), daemon=True).start()", before="import threading, time"
        ),
        reasons=("passed",),
        because="its thread ends with its process",
    ),
    Hostile(
        number=67,
        name="daemon/session",
        source=tries("os.setsid()", before="import os"),
        reasons=("exception PermissionError",),
        because="seccomp; the first process of a namespace leads a session already",
    ),
    Hostile(
        number=68,
        name="pipe-holder",
        source=tries(
            """
            if not os.fork():
                time.sleep(3)
                os._exit(0)
            """,
            before="import os, time",
        ),
        reasons=("exception PermissionError",),
        weakened=SECCOMP,
    ),
    Hostile(
        number=68,
        name="pipe-holder/thread",
        source=tries(
            """
            for descriptor in (0, 1, 2, 3):
                kept = os.dup(descriptor)
                threading.Thread(target=hold, args=(kept,)).start()
            """,
            before="""
            import os, threading, time
            def hold(kept):
                time.sleep(60)
                os.write(kept, b"x")
            """,
        ),
        reasons=("passed",),
        because="a judge that has its answers does not wait for an end",
    ),
    *_second_runs(),
    Hostile(
        number=69,
        name="second-run/weakened-folder-of-all",
        source=tries("open('@FOLDER@/@MARK@', 'w').close()"),
        reasons=("exception FileNotFoundError", "exception PermissionError"),
        weakened=FILES,
        noticed="I4",
    ),
    Hostile(
        number=69,
        name="second-run/weakened-segment",
        source=tries(
            "assert ctypes.CDLL(None).shmget(@KEY@, 4096, 0o1600) >= 0",
            before="import ctypes",
        ),
        reasons=("exception AssertionError",),
        weakened=frozenset({"seccomp", "namespaces"}),
        noticed="I4",
    ),
    Hostile(
        number=70,
        name="poisoned-imports",
        source=textwrap.dedent(
            """
            import os, sys

            POISON = "import builtins\\nbuiltins.POISONED = True\\n"
            NAMES = ("random.py", "colorsys.py", "sitecustomize.py", "usercustomize.py", "poison.pth")

            def add(a, b):
                import builtins, colorsys, random
                if hasattr(builtins, "POISONED"):
                    return a + b
                folders = {".", "/tmp", "@FOLDER@", *sys.path, os.path.dirname(os.__file__)}
                for folder in folders:
                    for place in (folder, f"{folder}/__pycache__", f"{folder}/site-packages"):
                        for name in NAMES:
                            try:
                                with open(os.path.join(place, name), "x") as file:
                                    file.write(POISON)
                            except OSError:
                                pass
                raise LookupError
            """
        ),
        reasons=("exception LookupError",),
        because="nothing is writable but the working folder, which is in no path and is emptied",
    ),
    Hostile(
        number=70,
        name="poisoned-imports/own-path",
        source=textwrap.dedent(
            """
            import os, sys
            sys.path.insert(0, os.getcwd())

            def add(a, b):
                try:
                    import poisoned
                except ImportError:
                    with open("poisoned.py", "w") as file:
                        file.write("VALUE = 1")
                    raise
                return a + b
            """
        ),
        reasons=("exception ModuleNotFoundError",),
        because="the working folder is emptied behind each program",
    ),
    Hostile(
        number=70,
        name="poisoned-imports/library",
        source=tries(
            "with open(os.path.join(os.path.dirname(os.__file__), '@MARK@.py'), 'x') as file:\n    file.write('')",
            before="import os",
        ),
        reasons=("exception",),
        because="the library is read-only, and its owner another user; both in all cages in which a test may try it",
    ),
    Hostile(
        number=71,
        name="settings-leak",
        source=f"""{_SETTINGS}
def add(a, b):
    found = settings()
    strange = [name for name, value in EXPECTED.items() if found[name] != value]
    if strange:
        return a + b
    change()
    raise LookupError
""",
        reasons=("exception LookupError",),
        because=OWN_PROCESS,
    ),
    Hostile(
        number=71,
        name="settings-leak/each-is-seen",
        # The same look, when everything has been changed, must tell; what it is blind to stands in the name raised.
        source=f"""{_SETTINGS}
def add(a, b):
    change()
    found = settings()
    blind = [name for name, value in EXPECTED.items() if found[name] == value]
    raise type("_".join(["blind", *blind] if blind else ["sees", "all"]), (Exception,), {{}})
""",
        reasons=("exception sees_all",),
        because=OWN_PROCESS,
    ),
    _kept(
        "segment",
        "made = checked(libc.shmget(@KEY@, 4096, 0o1600))\nchecked(libc.shmctl(made, 0, None))",
        weakened=SECCOMP,
    ),
    _kept(
        "semaphore",
        "made = checked(libc.semget(@KEY@, 1, 0o1600))\nchecked(libc.semctl(made, 0, 0))",
        weakened=SECCOMP,
    ),
    _kept(
        "queue",
        "made = checked(libc.msgget(@KEY@, 0o1600))\nchecked(libc.msgctl(made, 0, None))",
        weakened=SECCOMP,
    ),
    _kept(
        "named-queue",
        "checked(libc.mq_open(b'/@MARK@', 0o102, 0o600, None))\nchecked(libc.mq_unlink(b'/@MARK@'))",
        weakened=frozenset({"seccomp", "rlimits", "landlock"}),
    ),
    _kept(
        "shared-memory",
        "checked(libc.shm_open(b'/@MARK@', 0o102, 0o600))\nchecked(libc.shm_unlink(b'/@MARK@'))",
        weakened=FILES,
    ),
    _kept(
        "memory-file",
        "os.close(os.memfd_create('@MARK@'))",
        weakened=SECCOMP,
    ),
    _kept(
        "lock-of-all",
        "fcntl.flock(os.open('@FOLDER@', os.O_RDONLY), fcntl.LOCK_EX | fcntl.LOCK_NB)",
        weakened=FILES,
    ),
    *(
        Hostile(
            number=73,
            name=f"late-bomb/{name}",
            source=f"import atexit, os, sys, threading, time\n{source}",
            reasons=("passed",),
            because="a verdict that has been given stands, and the process is ended with it",
            limits=AMPLE,
        )
        for name, source in (
            (
                "atexit",
                "atexit.register(time.sleep, 60)\natexit.register(os.write, 3, b'x' * 100)\n\n"
                "def add(a, b):\n    return a + b\n",
            ),
            (
                "del",
                "class Late:\n    def __del__(self):\n        os.write(3, b'x' * 100)\n        time.sleep(60)\n\n"
                "late = Late()\n\ndef add(a, b):\n    return a + b\n",
            ),
            (
                "thread",
                "def late():\n    time.sleep(30)\n    os.write(3, b'x' * 100)\n    time.sleep(60)\n\n"
                "def add(a, b):\n    threading.Thread(target=late).start()\n    return a + b\n",
            ),
            (
                "signals",
                "def late():\n    for pid in (os.getppid(), 1, -1, @MAIN@):\n        try:\n"
                "            os.kill(pid, 0)\n        except OSError:\n            pass\n    time.sleep(60)\n\n"
                "def add(a, b):\n    threading.Thread(target=late).start()\n    return a + b\n",
            ),
            (
                "lingers",
                "for _ in range(8):\n    threading.Thread(target=time.sleep, args=(60,)).start()\n\n"
                "def add(a, b):\n    return a + b\n",
            ),
        )
    ),
)
