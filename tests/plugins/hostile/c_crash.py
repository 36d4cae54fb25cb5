"""C: programs that break their own process, or try to break whoever reads how."""

from __future__ import annotations

import textwrap

from tests.plugins.hostile.suite import ADD, SHORT, Hostile, tries

from evalkit_sandbox.inside.layers import Limits
from evalkit_sandbox.program import Check

SECCOMP = frozenset({"seccomp"})
OWN = "it breaks nothing but its own process"
CLEANED = "of an exception nothing is used but the name of its class, cleaned and cut"
#: What may become of a program that leaves its process in ruins.
RUINED = ("killed SIG", "exception", "out-of-memory", "timed-out", "ended-early", "malformed", "not-plain")
#: Enough to break a stack, and soon over.
SMALL = Limits(work=0.5, idle=3.0, memory=128 << 20)


def _deep() -> tuple[Hostile, ...]:
    """Item 75: an expression of something nested deep, and what is done with it."""
    nest = """
import copy, json, pickle, re, sys
sys.setrecursionlimit(10**9)

def nested(kind, depth=50_000):
    found = kind()
    for _ in range(depth):
        found = {0: found} if kind is dict else kind([found])
    return found

class Left:
    def __init__(self, left):
        self.left = left
    def __eq__(self, other):
        return self.left == other.left
    def __repr__(self):
        return repr(self.left)

def objects(depth=50_000):
    found = None
    for _ in range(depth):
        found = Left(found)
    return found

def recurse(n=0):
    return recurse(n + 1) + 1

def through_c(n=0):
    return max([n], key=through_c)
"""
    rows = (
        ("frames", "recurse()"),
        ("frames-of-c", "through_c()"),
        ("repr", "repr(nested(list))"),
        ("repr-of-a-dict", "repr(nested(dict))"),
        ("equal", "nested(list) == nested(list)"),
        ("hash", "hash(nested(tuple))"),
        ("json", "json.dumps(nested(list))"),
        ("copy", "copy.deepcopy(nested(list))"),
        ("objects", "repr(objects())"),
        ("compile", "compile('-' * 300_000 + '1', '', 'eval')"),
        ("parse", "__import__('ast').literal_eval('(' * 190 + ')' * 190)"),
        ("pattern", "re.compile('(' * 10_000 + ')' * 10_000)"),
    )
    return (
        *(
            Hostile(
                number=75,
                name=f"stack-overflow/{name}",
                source=f"{nest}\ndef add(a, b):\n    {what}\n    return 0\n",
                reasons=("killed SIGSEGV", *RUINED, "wrong-answer"),
                because=OWN,
                limits=SMALL,
            )
            for name, what in rows
        ),
        Hostile(
            number=75,
            name="stack-overflow/destruction",
            source=f"{nest}\ndef add(a, b):\n    for kind in (list, tuple, dict):\n        nested(kind)\n"
            "    objects()\n    return a + b\n",
            reasons=RUINED,
            or_correct=True,
            because=OWN,
        ),
        Hostile(
            number=75,
            name="stack-overflow/small-stack",
            source="""
import sys, threading
threading.stack_size(32768)
sys.setrecursionlimit(10**6)

def recurse(n=0):
    return sorted([n], key=recurse)

def add(a, b):
    one = threading.Thread(target=recurse)
    one.start()
    one.join()
    return 0
""",
            reasons=(*RUINED, "wrong-answer"),
            because=OWN,
            limits=SMALL,
        ),
    )


def _signals() -> tuple[Hostile, ...]:
    return (
        *(
            Hostile(
                number=77,
                name=f"self-signals/{name.lower()}",
                source=tries(f"os.kill(os.getpid(), signal.{name})", before="import os, signal"),
                reasons=("exception PermissionError",),
                # As the first process of its namespace it would not be touched by any of them.
                weakened=SECCOMP,
            )
            for name in ("SIGKILL", "SIGSTOP", "SIGTSTP", "SIGABRT", "SIGILL", "SIGTERM", "SIGALRM", "SIGUSR1")
        ),
        Hostile(
            number=77,
            name="self-signals/raise",
            source=tries("signal.raise_signal(signal.SIGTERM)", before="import signal"),
            reasons=("exception PermissionError",),
            weakened=SECCOMP,
        ),
        Hostile(
            number=77,
            name="self-signals/group",
            source=tries("os.killpg(0, 0)", before="import os"),
            reasons=("exception PermissionError",),
            weakened=SECCOMP,
        ),
        Hostile(
            number=77,
            name="self-signals/abort",
            source="import os\n\ndef add(a, b):\n    os.abort()\n",
            reasons=("killed SIGABRT", "killed SIGSEGV", "killed SIGILL", "killed SIGTRAP"),
            because=OWN,
        ),
        Hostile(
            number=77,
            name="self-signals/faults",
            source="import faulthandler\n\ndef add(a, b):\n    faulthandler._sigfpe()\n    return 0\n",
            reasons=("killed SIGFPE", "exception", "wrong-answer"),
            because=OWN,
        ),
        Hostile(
            number=77,
            name="self-signals/alarm",
            source="import signal, time\nsignal.setitimer(signal.ITIMER_REAL, 0.02)\n\n"
            "def add(a, b):\n    time.sleep(0.1)\n    return 0\n",
            # The first process of a namespace is not ended by a signal of its own clock.
            reasons=("timed-out cpu", "wrong-answer"),
            because=OWN,
        ),
    )


def _nasty() -> tuple[Hostile, ...]:
    """Item 80: what is defined, what is raised, and the reasons."""
    rows = (
        ("base-exception", "class Odd(BaseException): pass", "raise Odd", ("exception Odd",), CLEANED),
        ("keyboard-interrupt", "", "raise KeyboardInterrupt", ("exception KeyboardInterrupt",), CLEANED),
        ("generator-exit", "", "raise GeneratorExit", ("exception GeneratorExit",), CLEANED),
        ("stop-iteration", "", "raise StopIteration(3)", ("exception StopIteration",), CLEANED),
        ("assertion", "", "raise AssertionError", ("exception AssertionError",), CLEANED),
        ("exit-with-a-value", "", "raise SystemExit(3)", ("ended-early",), CLEANED),
        (
            "endless-text",
            "class Odd(Exception):\n    def __str__(self):\n        while True: pass\n    __repr__ = __str__",
            "raise Odd",
            ("exception Odd",),
            CLEANED,
        ),
        (
            "raising-text",
            "class Odd(Exception):\n    def __str__(self): raise self\n    __repr__ = __str__",
            "raise Odd",
            ("exception Odd",),
            CLEANED,
        ),
        (
            "long-text",
            "class Odd(Exception):\n    def __str__(self): return 'x' * (50 << 20)\n    __repr__ = __str__",
            "raise Odd(str(Odd()))",
            ("exception Odd",),
            CLEANED,
        ),
        (
            "endless-name",
            "class Meta(type):\n    @property\n    def __name__(cls):\n        while True: pass\n"
            "class Odd(Exception, metaclass=Meta): pass",
            "raise Odd",
            ("timed-out cpu",),
            "a limit stands over all that a process does",
        ),
        (
            "raising-name",
            "class Meta(type):\n    @property\n    def __name__(cls): raise Odd\n"
            "class Odd(Exception, metaclass=Meta): pass",
            "raise Odd",
            ("ended-early", "exception"),
            CLEANED,
        ),
        (
            "name-that-is-no-text",
            "class Meta(type):\n    __name__ = 3\nclass Odd(Exception, metaclass=Meta): pass",
            "raise Odd",
            ("exception 3", "exception"),
            CLEANED,
        ),
        ("no-name", "", "raise type('', (Exception,), {})", ("exception ?",), CLEANED),
        ("name-of-spaces", "", "raise type(' ' * 100, (Exception,), {})", ("exception",), CLEANED),
        ("name-of-the-judge's", "class _End(BaseException): pass", "raise _End", ("exception _End",), CLEANED),
        ("name-of-a-limit", "class TooLarge(Exception): pass", "raise TooLarge", ("exception TooLarge",), CLEANED),
        (
            "group",
            "def deep(n):\n    one = ValueError()\n    for _ in range(n): one = ExceptionGroup('x', [one])\n"
            "    return one",
            "raise deep(10_000)",
            ("exception ExceptionGroup", "killed"),
            CLEANED,
        ),
        (
            "chain",
            "def deep(n):\n    one = None\n    for _ in range(n):\n        two = ValueError()\n"
            "        two.__cause__ = one\n        one = two\n    return one",
            "raise deep(100_000)",
            ("exception ValueError", "killed"),
            CLEANED,
        ),
        (
            "unicode-error",
            "",
            "raise UnicodeDecodeError('utf-8', b'x', 0, 1, 'y')",
            ("exception UnicodeDecodeError",),
            CLEANED,
        ),
        ("system-error", "import ctypes", "ctypes.pythonapi.PyErr_BadInternalCall()", ("exception",), CLEANED),
        (
            "from-nowhere",
            "import ctypes, threading\nmain = threading.get_ident()",
            "ctypes.pythonapi.PyThreadState_SetAsyncExc(ctypes.c_ulong(main), ctypes.py_object(KeyError))\n"
            "    for _ in range(1000): pass\n    return 0",
            ("exception KeyError", "wrong-answer"),
            CLEANED,
        ),
    )
    return (
        *(
            Hostile(
                number=80,
                name=f"nasty-exceptions/{name}",
                source=f"{before}\n\ndef add(a, b):\n    {what}\n",
                reasons=reasons,
                because=because,
                limits=SHORT if name == "endless-name" else Limits(),
            )
            for name, before, what, reasons, because in rows
        ),
        *(
            Hostile(
                number=80,
                name=f"nasty-exceptions/{name}",
                source=source,
                reasons=reasons,
                or_correct=or_correct,
                because=CLEANED,
            )
            for name, source, reasons, or_correct in (
                ("at-load", "raise type('Odd\\n\\x1b[2J', (BaseException,), {})\n", ("exception Odd??[2J",), False),
                (
                    "from-del",
                    "class Late:\n    def __del__(self): raise KeyboardInterrupt\n\n"
                    "def add(a, b):\n    Late()\n    return a + b\n",
                    ("exception",),
                    True,
                ),
                (
                    "of-a-thread",
                    "import threading\n\ndef late(): raise SystemExit\n\n"
                    "def add(a, b):\n    threading.Thread(target=late).start()\n    return a + b\n",
                    ("exception",),
                    True,
                ),
            )
        ),
    )


#: A test that forgives what a candidate raises as a ValueError, and nothing else.
FORGIVING = Check(
    setup=ADD.setup,
    test=textwrap.dedent(
        """
        def check(candidate):
            try:
                candidate(1, 2)
            except ValueError:
                return
            assert False
        """
    ),
    entry_point="add",
)


def _parsed() -> tuple[Hostile, ...]:
    """Item 81: what a program's text ends with."""
    rows = (
        ("operators", "x = " + "-" * 100_000 + "1"),
        ("negations", "x = " + "not " * 100_000 + "1"),
        ("sums", "x = " + "1+" * 50_000 + "1"),
        ("calls", "x = f" + "()" * 50_000),
        ("attributes", "x = f" + ".a" * 50_000),
        ("brackets", "x = " + "[" * 5_000 + "]" * 5_000),
        ("open-brackets", "x = " + "(" * 5_000),
        ("comprehensions", "x = " + "[" * 150 + "0" + " for a in b]" * 150),
        ("lambdas", "x = " + "lambda:" * 20_000 + "0"),
        ("conditions", "x = " + "1 if 1 else " * 20_000 + "0"),
        ("functions", "\n".join(" " * n + "def f():" for n in range(1_000))),
        ("branches", "if 0: pass\n" + "elif 0: pass\n" * 20_000),
        ("subscripts", "x: " + "list[" * 150 + "int" + "]" * 150),
        ("powers", "x = " + "2**" * 20_000 + "2"),
        ("formats", "x = " + "f'{" * 100 + "0" + "}'" * 100),
        ("decorators", "@x\n" * 50_000 + "def f(): pass"),
        ("patterns", "match 0:\n  case " + "(" * 5_000 + "0" + ")" * 5_000 + ": pass"),
    )
    return tuple(
        Hostile(
            number=81,
            name=f"parser-crash/{name}",
            source=f"def add(a, b):\n    return 0\n\n{text}\n",
            reasons=("syntax-error", "killed SIGSEGV", "out-of-memory", "exception", "timed-out", "wrong-answer"),
            because="the judge never compiles a program's text",
            judge=0.2,
        )
        for name, text in rows
    )


#: Programs whose answers make a test work hard, as items 18 and 20 have it, but not the reading of them.
HARD = (
    (
        18,
        "crooked-answer/long-search",
        "return range(3 * 10**8)",
        "assert 'x' in candidate(1, 2)",
        ("timed-out cpu", "wrong-answer", "too-large"),
    ),
    (
        18,
        "crooked-answer/long-range",
        "return range(10**8)",
        "assert tuple(candidate(1, 2)) == (3,)",
        ("timed-out cpu", "too-large", "out-of-memory", "exception MemoryError", "not-plain"),
    ),
    (
        18,
        "crooked-answer/longer-range",
        "return range(10**18)",
        "assert sorted(candidate(1, 2)) == [3]",
        ("timed-out cpu", "too-large", "out-of-memory", "exception MemoryError", "not-plain"),
    ),
    (
        20,
        "int-text/exponent",
        "return __import__('decimal').Decimal('1e999999')",
        "assert int(candidate(1, 2)) == 3",
        ("timed-out cpu", "wrong-answer", "too-large", "not-plain"),
    ),
)

PROGRAMS: tuple[Hostile, ...] = (
    *(
        Hostile(
            number=number,
            name=name,
            source=f"def add(a, b):\n    {answer}\n",
            reasons=reasons,
            because="limits stand over the test, too, whatever it does with an answer",
            check=Check(setup=ADD.setup, test=f"def check(candidate):\n    {test}\n", entry_point="add"),
            slack=30.0,
        )
        for number, name, answer, test, reasons in HARD
    ),
    Hostile(
        number=29,
        name="signal-parent/by-a-pipe",
        # The kernel sends the owner of a pipe the signal that was chosen when something can be read: here one that
        # all ignore. Not to be run with SIGKILL where it could work.
        source=tries(
            """
            reading, writing = os.pipe()
            assert os.getppid()
            fcntl.fcntl(reading, fcntl.F_SETOWN, os.getppid())
            fcntl.fcntl(reading, fcntl.F_SETSIG, signal.SIGURG)
            fcntl.fcntl(reading, fcntl.F_SETFL, fcntl.fcntl(reading, fcntl.F_GETFL) | os.O_ASYNC)
            os.write(writing, b"x")
            """,
            before="import fcntl, os, signal",
        ),
        reasons=("exception PermissionError", "exception AssertionError"),
        weakened=frozenset({"namespaces", "seccomp"}),
    ),
    *(
        Hostile(
            number=74,
            name=f"null-pointer/{name}",
            source=f"import ctypes\n\ndef add(a, b):\n    {what}\n",
            reasons=("killed SIGSEGV",),
            because=OWN,
        )
        for name, what in (
            ("read", "return ctypes.string_at(0)"),
            ("write", "return ctypes.memset(0, 0, 1)"),
            ("jump", "return ctypes.CFUNCTYPE(ctypes.c_int)(8)()"),
            ("kernel", "return ctypes.string_at(0xFFFF_8000_0000_0000)"),
        )
    ),
    Hostile(
        number=74,
        name="null-pointer/at-load",
        source="import ctypes\nctypes.string_at(0)\n",
        reasons=("killed SIGSEGV",),
        because=OWN,
    ),
    Hostile(
        number=74,
        name="null-pointer/misaligned",
        source="""
import ctypes, mmap, os

def add(a, b):
    with open("@MARK@", "w+b") as file:
        file.truncate(8192)
        view = mmap.mmap(file.fileno(), 8192)
        file.truncate(0)
        return view[0]
""",
        reasons=("killed SIGBUS",),
        because=OWN,
    ),
    *_deep(),
    *(
        Hostile(
            number=76,
            name=f"bad-bytecode/{name}",
            source=f"""
import types

def add(a, b):
    code = add.__code__
    return types.FunctionType(code.replace({change}), globals())(a, b)
""",
            reasons=(*RUINED, "wrong-answer"),
            or_correct=True,
            because=OWN,
            limits=SMALL,
        )
        for name, change in (
            ("unknown", "co_code=bytes([255, 255] * 8)"),
            ("pops-nothing", "co_code=bytes([1, 0] * 8), co_stacksize=0"),
            ("pushes-too-much", "co_code=bytes([100, 0] * 2000), co_consts=(1,), co_stacksize=1"),
            ("reads-no-constant", "co_code=bytes([100, 255, 83, 0]), co_consts=()"),
            ("reads-no-local", "co_code=bytes([124, 255, 83, 0]), co_nlocals=2"),
            ("runs-past-the-end", "co_code=bytes([9, 0])"),
            ("no-exceptions", "co_exceptiontable=b'\\xff' * 100"),
            ("odd-length", "co_code=b'\\1'"),
            ("nothing", "co_code=b''"),
        )
    ),
    *_signals(),
    *(
        Hostile(
            number=78,
            name=f"close-everything/{name}",
            source=f"import os\n{source}",
            reasons=("ended-early",),
            because="a program that cannot answer has not passed",
        )
        for name, source in (
            ("in-the-call", "\ndef add(a, b):\n    os.closerange(0, 1024)\n    return a + b\n"),
            ("at-load", "os.closerange(0, 1024)\n\ndef add(a, b):\n    return a + b\n"),
            (
                "another-instead",
                "\ndef add(a, b):\n    os.dup2(os.open('/dev/null', os.O_RDWR), 3)\n    return a + b\n",
            ),
        )
    ),
    *(
        Hostile(
            number=79,
            name=f"broken-runtime/{name}",
            source=f"import builtins, gc, importlib, os, sys\n{source}\n\ndef add(a, b):\n    return a + b\n",
            reasons=RUINED,
            or_correct=True,
            because="it breaks nothing but its own process, and its answer is right",
            limits=SMALL,
        )
        for name, source in (
            ("no-builtins", "for name in list(vars(builtins)): delattr(builtins, name)"),
            ("no-globals", "globals()['__builtins__'] = None"),
            ("no-stdout", "sys.stdout = sys.stderr = sys.stdin = None"),
            ("no-modules", "sys.modules = None"),
            ("no-module", "sys.modules.clear()"),
            ("no-path", "sys.path[:] = []\nsys.meta_path[:] = []\nsys.path_hooks[:] = []"),
            ("no-hook", "sys.excepthook = sys.unraisablehook = 3"),
            ("no-recursion", "sys.setrecursionlimit(60)"),
            ("no-switching", "sys.setswitchinterval(1e9)"),
            ("no-collecting", "gc.set_threshold(1)\ngc.set_debug(gc.DEBUG_LEAK)"),
            ("no-exceptions", "builtins.BaseException = builtins.Exception = None"),
            ("no-os", "for name in ('write', 'read', '_exit'): delattr(os, name)"),
            ("a-reason-to-fail", "sys.exitfunc = None\nos.write = None"),
        )
    ),
    *_nasty(),
    Hostile(
        number=80,
        name="nasty-exceptions/forgiven-by-name",
        # The name is that of the exception which the test forgives; the class is not it.
        source="class ValueError(BaseException):\n    pass\n\ndef add(a, b):\n    raise ValueError\n",
        reasons=("exception",),
        or_correct=True,
        because="that a program could raise a true ValueError as well",
        check=FORGIVING,
    ),
    *_parsed(),
)
