"""R: programs that take more than they may."""

from __future__ import annotations

from dataclasses import replace

from tests.plugins.hostile.suite import ADD, AMPLE, IDLE, SHORT, Hostile, tries

from evalkit_sandbox.inside.layers import Limits

#: Little memory, so that it is soon exceeded.
SMALL = AMPLE._replace(memory=128 << 20)
NO_SECCOMP = frozenset({"seccomp"})
NO_RLIMITS = frozenset({"rlimits"})
DEADLINE = frozenset({"deadline"})
COUNTS = frozenset({"counts"})
SPLIT = frozenset({"split"})
#: Nothing is left that keeps a program from the files of the machine.
FILES_OPEN = frozenset({"namespaces", "landlock", "seccomp"})
MEMORY_OPEN = frozenset({"namespaces", "landlock", "seccomp", "rlimits", "counts"})

#: Whatever is answered is right.
ANY = replace(ADD, test="def check(candidate):\n    candidate(1, 2)\n")
CALLS = """
import ctypes, mmap, os, time
x86 = os.uname().machine == "x86_64"
libc = ctypes.CDLL(None, use_errno=True)
zero = ctypes.c_long(0)
"""


def checked(test: str) -> str:
    """The source of a check of one line."""
    return f"def check(candidate):\n    {test}\n"


def _fork(way: str, body: str, reason: str = "exception PermissionError") -> Hostile:
    return Hostile(number=1, name=f"fork-bomb/{way}", source=tries(body, CALLS), reasons=(reason,), weakened=NO_SECCOMP)


FORKS = (
    _fork("os", "pid = os.fork()\nif not pid:\n    os._exit(0)\nos.waitpid(pid, 0)"),
    _fork("posix", "import posix\npid = posix.fork()\nif not pid:\n    posix._exit(0)\nposix.waitpid(pid, 0)"),
    *(
        _fork(
            way,
            f"""
            pid = libc.syscall({number} if x86 else 220, ctypes.c_long(17), zero, zero, zero, zero)
            if not pid:
                os._exit(0)
            assert pid > 0, ctypes.get_errno()
            os.waitpid(pid, 0)
            """,
            "exception AssertionError",
        )
        for way, number in (("fork", 57), ("clone", 56))
    ),
    _fork(
        "clone3",
        """
        pid = libc.syscall(435, (ctypes.c_uint64 * 8)(0, 0, 0, 0, 17), ctypes.c_size_t(64))
        if not pid:
            os._exit(0)
        assert pid > 0, ctypes.get_errno()
        os.waitpid(pid, 0)
        """,
        "exception AssertionError",
    ),
    _fork(
        "multiprocessing",
        """
        import multiprocessing
        one = multiprocessing.get_context("fork").Process(target=int)
        one.start()
        one.join()
        """,
    ),
    _fork(
        "spawn",
        """
        try:
            os.posix_spawn("/nothing", ["nothing"], {})
        except FileNotFoundError:
            pass
        """,
    ),
    Hostile(
        number=1,
        name="fork-bomb/endless",
        source=tries(
            """
            made, end = 0, time.monotonic() + 60
            while made < 20 and time.monotonic() < end:
                try:
                    if not os.fork():
                        time.sleep(1)
                        os._exit(0)
                    made += 1
                except OSError:
                    pass
            """,
            CALLS,
        ),
        reasons=("timed-out cpu",),
        limits=SHORT,
        weakened=NO_SECCOMP,
    ),
)

#: Where no namespace counts threads, it is the address space that has no room for more of their stacks.
THREADS = tries(
    """
    done = threading.Event()
    started = 0
    try:
        while started < 200:
            threading.Thread(target=done.wait, args=(2,), daemon=True).start()
            started += 1
    except RuntimeError:
        pass
    done.set()
    assert started > 150, started
    """,
    "import threading",
)

#: Each holds ten blocks of 24 MiB somewhere where the limit on address space does not see them.
UNSEEN = {
    "memfd": """
        for number in range(10):
            file = os.memfd_create("@MARK@")
            for _ in range(24):
                os.write(file, block)
        """,
    "sysv": """
        libc.shmat.restype = ctypes.c_void_p
        for number in range(10):
            segment = libc.shmget(@KEY@ + number, ctypes.c_size_t(24 << 20), 0o1600)
            assert segment >= 0, ctypes.get_errno()
            address = libc.shmat(segment, None, 0)
            ctypes.memset(address, 1, 24 << 20)
            libc.shmdt(ctypes.c_void_p(address))
        """,
    "posix": """
        for number in range(10):
            file = libc.shm_open(f"/@MARK@{number}".encode(), os.O_CREAT | os.O_RDWR, 0o600)
            assert file >= 0, ctypes.get_errno()
            for _ in range(24):
                os.write(file, block)
        """,
    "files": """
        for number in range(10):
            with open(f"/var/tmp/@MARK@{number}", "wb", buffering=0) as file:
                for _ in range(24):
                    file.write(block)
        """,
}
QUEUES = {
    "sysv-queues": """
        for number in range(50):
            queue = libc.msgget(@KEY@ + number, 0o1600)
            assert queue >= 0, ctypes.get_errno()
            assert not libc.msgsnd(queue, bytes([1] + 8 * [0] + 4000 * [1]), ctypes.c_size_t(4000), 0o4000)
        """,
    "sysv-semaphores": """
        for number in range(10):
            assert libc.semget(@KEY@ + number, 100, 0o1600) >= 0, ctypes.get_errno()
        """,
    "posix-queues": """
        libc.mq_open.argtypes = [ctypes.c_char_p, ctypes.c_int, ctypes.c_uint, ctypes.c_void_p]
        for number in range(5):
            queue = libc.mq_open(f"/@MARK@{number}".encode(), os.O_CREAT | os.O_RDWR, 0o600, None)
            assert queue >= 0, ctypes.get_errno()
        """,
}
BUFFERS = {
    "pipes": """
        for number in range(200):
            out = os.pipe2(os.O_NONBLOCK)[1]
            try:
                fcntl.fcntl(out, 1031, 1 << 20)
            except OSError:
                pass
            held += os.write(out, block)
        """,
    "sockets": """
        for number in range(200):
            for end in socket.socketpair():
                kept.append(end)
                end.setblocking(False)
                held += end.send(block[:1 << 17])
        """,
}

MEMORY = (
    Hostile(
        number=3,
        name="memory-at-once",
        source=tries("bytearray(400 << 20)"),
        reasons=("out-of-memory",),
        limits=SMALL,
        weakened=NO_RLIMITS,
    ),
    Hostile(
        number=4,
        name="memory-by-steps",
        source=tries(
            """
            blocks, end = [], time.monotonic() + 60
            while len(blocks) < 300 and time.monotonic() < end:
                try:
                    blocks.append(b"x" * (1 << 20))
                except MemoryError:
                    pass
            time.sleep(3)
            """,
            "import time",
        ),
        reasons=("timed-out cpu", "out-of-memory"),
        limits=SMALL._replace(work=1.0),
        weakened=NO_RLIMITS,
        noticed="I5",
    ),
    *(
        Hostile(
            number=5,
            name=f"memory-unseen/{way}",
            source=tries(f"block = b'x' * (1 << 20)\n{_body}", CALLS),
            reasons=("exception",),
            limits=SMALL,
            weakened=MEMORY_OPEN - {"counts"},
            noticed="I5",
        )
        for way, body in UNSEEN.items()
        for _body in [f"{body}\n        time.sleep(3)".replace("\n        ", "\n")]
    ),
    *(
        Hostile(
            number=5,
            name=f"memory-unseen/{way}",
            source=tries(body, CALLS),
            reasons=("exception AssertionError",),
            limits=SMALL,
            # The limit on queues is of one's own namespace, where there is one.
            weakened=FILES_OPEN | {"rlimits"},
            noticed="passed" if way == "posix-queues" else "I4",
        )
        for way, body in QUEUES.items()
    ),
    Hostile(
        number=5,
        name="memory-unseen/folder",
        source=tries(
            """
            for number in range(32):
                with open(f"@MARK@{number}", "wb", buffering=0) as file:
                    for _ in range(15):
                        assert file.write(block) == len(block)
            time.sleep(3)
            assert len(os.listdir()) == 32
            """,
            "import os, time\nblock = b'x' * (1 << 16)",
        ),
        reasons=("exception OSError", "exception AssertionError", "killed SIGKILL"),
        limits=SMALL,
        weakened=COUNTS,
    ),
    *(
        Hostile(
            number=5,
            name=f"memory-unseen/{way}",
            source=tries(f"block, held, kept = b'x' * (1 << 20), 0, []\n{_body}", "import fcntl, os, socket"),
            reasons=("exception OSError",),
            limits=SMALL,
            weakened=COUNTS,
        )
        for way, body in BUFFERS.items()
        for _body in [f"{body}\n        assert held > 8 << 20, held".replace("\n        ", "\n")]
    ),
    Hostile(
        number=6,
        name="address-space",
        source=tries(
            """
            held = []
            for size, most in ((1 << 36, 1), (1 << 32, 1), (1 << 20, 1000)):
                try:
                    for _ in range(most):
                        held.append(mmap.mmap(-1, size, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS | 0x4000))
                except (OSError, MemoryError):
                    pass
            assert sum(map(len, held)) > 256 << 20
            """,
            CALLS,
        ),
        reasons=("exception AssertionError", "out-of-memory"),
        limits=SMALL,
        weakened=NO_RLIMITS,
    ),
)


#: `now` and `END` for programs that work, and for those that wait: on a busy machine the clock tells nothing of work.
CLOCKS = {
    "timed-out cpu": "import time\nnow, END = time.process_time, time.process_time() + 6",
    "timed-out wall": "import time\nnow, END = time.monotonic, time.monotonic() + 12",
}


def _endless(number: int, name: str, body: str, before: str = "", reason: str = "timed-out cpu") -> Hostile:
    """A program that goes on until it is stopped; by itself, after many times what it may."""
    before = f"{CLOCKS[reason]}\n{before}"
    limits = SHORT if reason == "timed-out cpu" else IDLE
    return Hostile(
        number=number, name=name, source=tries(body, before), reasons=(reason,), limits=limits, weakened=DEADLINE
    )


TIME = (
    _endless(
        7,
        "output-flood/descriptors",
        """
        import os
        while now() < END:
            for descriptor in (1, 2):
                os.write(descriptor, b"x" * 65536)
        """,
    ),
    _endless(
        7,
        "output-flood/reopened",
        """
        import sys
        sys.stdout.close()
        sys.stderr.close()
        files = [open(number, "w", closefd=False) for number in (1, 2)]
        while now() < END:
            for file in files:
                print("x" * 10000, file=file, flush=True)
        """,
    ),
    _endless(
        8,
        "slow-output",
        """
        while now() < END:
            print("x", end="", flush=True)
            time.sleep(0.01)
        """,
        reason="timed-out wall",
    ),
    _endless(9, "busy-loop", "while now() < END:\n    pass"),
    _endless(10, "busy-in-C/power", "for _ in range(6):\n    3 ** 3000000"),
    _endless(10, "busy-in-C/expression", "import re\nre.match('(a+)+$', 'a' * 24 + 'b')"),
    _endless(10, "busy-in-C/sum", "sum(range(50000000))"),
    _endless(11, "sleeper", "time.sleep(12)", reason="timed-out wall"),
    Hostile(
        number=11,
        name="sleeper/on-the-clock",
        source=tries("time.sleep(12)", "import time"),
        reasons=("timed-out wall",),
        limits=Limits(wall=2.0),
        because="the deadline of the form before, by the clock",
    ),
    Hostile(
        number=11,
        name="sleeper/as-long-as-it-may",
        source=tries("time.sleep(1000)", "import time"),
        reasons=("timed-out wall",),
        because="the deadline of the form before, with the usual limits",
        slow=True,
    ),
    _endless(
        12,
        "swallower",
        """
        for number in range(1, 65):
            try:
                signal.signal(number, signal.SIG_IGN)
            except (OSError, ValueError):
                pass
        signal.pthread_sigmask(signal.SIG_BLOCK, range(1, 65))
        for which in (signal.ITIMER_REAL, signal.ITIMER_VIRTUAL, signal.ITIMER_PROF):
            signal.setitimer(which, 0)
        signal.alarm(0)
        atexit.register(spin)
        threading.Thread(target=spin).start()
        last = Last()
        del last
        spin()
        """,
        """
import atexit, signal, threading

def spin():
    while now() < END:
        try:
            while now() < END:
                pass
        except BaseException:
            pass

class Last:
    def __del__(self):
        spin()
""",
    ),
)

FILES = (
    Hostile(
        number=13,
        name="big-file/written",
        source=tries(
            """
            with open("@MARK@", "wb", buffering=0) as file:
                for _ in range(16):
                    assert file.write(b"x" * (1 << 20)) == 1 << 20
            """
        ),
        reasons=("exception OSError", "exception AssertionError"),
        limits=AMPLE,
        weakened=frozenset({"rlimits", "counts"}),
    ),
    Hostile(
        number=13,
        name="big-file/sparse",
        source=tries(
            """
            with open("@MARK@", "wb") as file:
                for size in (1 << 40, 1 << 25):
                    try:
                        file.truncate(size)
                    except OSError:
                        pass
            assert os.stat("@MARK@").st_size > 1 << 24
            """,
            "import os",
        ),
        reasons=("exception AssertionError",),
        limits=AMPLE,
        weakened=NO_RLIMITS,
    ),
    Hostile(
        number=13,
        name="big-file/allocated",
        source=tries(
            "with open('@MARK@', 'wb') as file:\n    os.posix_fallocate(file.fileno(), 0, 1 << 25)", "import os"
        ),
        reasons=("exception OSError",),
        limits=AMPLE,
        weakened=frozenset({"rlimits", "counts"}),
    ),
    Hostile(
        number=14,
        name="many-files/flat",
        source=tries(
            """
            for number in range(3000):
                os.close(os.open(f"@MARK@{number}", os.O_CREAT | os.O_WRONLY))
            time.sleep(3)
            assert len(os.listdir()) == 3000
            """,
            "import os, time",
        ),
        reasons=("exception OSError", "killed SIGKILL"),
        limits=AMPLE,
        weakened=COUNTS,
    ),
    Hostile(
        number=14,
        name="many-files/links",
        source=tries(
            """
            with open("@MARK@", "w") as file:
                file.write("x")
            for number in range(3000):
                os.symlink("@MARK@", f"@MARK@s{number}")
                os.link("@MARK@", f"@MARK@l{number}")
                os.mkdir(f"@MARK@d{number}")
            """,
            "import os",
        ),
        reasons=("exception OSError", "exception PermissionError", "killed SIGKILL"),
        limits=SHORT._replace(work=1.0),
        weakened=frozenset({"counts", "deadline"}),
    ),
    Hostile(
        number=14,
        name="many-files/nested",
        source=tries(
            """
            for _ in range(3000):
                os.mkdir("d")
                os.chdir("d")
            """,
            "import os",
        ),
        reasons=("exception OSError", "exception PermissionError"),
        limits=SHORT._replace(work=1.0),
        weakened=frozenset({"counts", "deadline"}),
    ),
    Hostile(
        number=15,
        name="descriptors",
        source=tries("for _ in range(200):\n    os.dup(0)", "import os"),
        reasons=("exception OSError",),
        weakened=NO_RLIMITS,
    ),
    Hostile(
        number=15,
        name="descriptors/answers-then",
        source=tries(
            """
            try:
                while len(os.listdir("/")) >= 0:
                    kept.append(open("/dev/null"))
            except OSError:
                pass
            """,
            "import os\nkept = []",
        ),
        reasons=("exception",),
        or_correct=True,
        because="the limit is that of the form before; here it is its answer that counts",
    ),
)


def _source(name: str, text: str, *, reasons: tuple[str, ...], or_correct: bool = False) -> Hostile:
    return Hostile(
        number=16,
        name=f"compile-bomb/{name}",
        source=f"{text}\ndef add(a, b):\n    return a + b\n",
        reasons=reasons,
        or_correct=or_correct,
        limits=Limits(work=0.5, idle=0.5, memory=256 << 20),
        judge=0.2,
        because="it has no aim but to harm whoever compiles it, and that is the candidate alone",
    )


COMPILING = (
    _source("parentheses", "x = " + "(" * 100_000 + ")" * 100_000, reasons=("syntax-error", "out-of-memory")),
    _source(
        "literal",
        "x = '" + "y" * (10 << 20) + "'",
        reasons=("out-of-memory", "exception MemoryError", "timed-out"),
        or_correct=True,
    ),
    _source(
        "comprehensions",
        "x = " + "[" * 90 + "1" + " for _ in ()]" * 90,
        reasons=("syntax-error", "exception RecursionError", "killed SIGSEGV"),  # the last in Python 3.12 and 3.13
        or_correct=True,
    ),
    _source(
        "folding",
        "x = (('x' * 4000) * (1 << 20), 1 << (1 << 33), (0,) * (1 << 30))",
        reasons=("out-of-memory", "exception OverflowError"),
    ),
    _source(
        "sums", "x = " + "+".join(["1"] * 100_000), reasons=("syntax-error", "exception", "killed", "out-of-memory")
    ),
)


def _answers(
    number: int, name: str, body: str, *, reasons: tuple[str, ...], test: str = "", judge: float = 0.1, before: str = ""
) -> Hostile:
    """A program whose answer is to harm the judge; where test and program are one process, its answer is right."""
    return Hostile(
        number=number,
        name=name,
        source=f"{before}\ndef add(a, b):\n    {body}\n",
        check=replace(ADD, test=checked(test)) if test else ANY,
        reasons=reasons,
        judge=judge,
        weakened=SPLIT,
    )


#: Bytes instead of an answer, as if they had been made of one, where there is a channel.
RAW = """
import struct, sys
HASH = sys.hash_info.modulus
def raw(content):
    channel = sys.modules.get("inside.channel")
    if channel:
        channel.encode = lambda value: content
def big(number):
    size = (number.bit_length() + 8) // 8
    return b"I" + struct.pack("<I", size) + number.to_bytes(size, "little", signed=True)
"""

ANSWERS = (
    _answers(17, "giant-answer/list", "return [None] * 60_000_000", reasons=("too-large", "out-of-memory")),
    _answers(17, "giant-answer/text", "return 'x' * (500 << 20)", reasons=("too-large", "out-of-memory")),
    _answers(17, "giant-answer/number", "return 1 << 80_000_000", reasons=("too-large",)),
    _answers(18, "crooked-answer/itself", "x = []; x.append(x); return x", reasons=("too-large",)),
    _answers(
        18,
        "crooked-answer/deep",
        "x = []\n    for _ in range(200_000): x = [x]\n    return x",
        reasons=("too-large",),
    ),
    _answers(
        18,
        "crooked-answer/endless",
        "return Endless()",
        before="import itertools\nclass Endless(list):\n    def __iter__(self):\n        return itertools.repeat(3)",
        test="assert next(iter(candidate(1, 2)), None) == 3",
        reasons=("wrong-answer",),
    ),
    _answers(
        18,
        "crooked-answer/lying-dict",
        "return Liar()",
        before="class Liar(dict):\n    def items(self): return [(1, 2)]\n    def __len__(self): return 1",
        test="found = candidate(1, 2); assert len(found) == 1 and dict(found.items()) == {1: 2}",
        reasons=("wrong-answer",),
    ),
    *(
        _answers(
            19,
            f"colliding-keys/{name}",
            "return 3",
            before=f"{RAW}\n{content}\nraw(CONTENT)",
            test="assert [candidate(1, 2) for _ in range(100)] is not None",
            reasons=("too-large", "timed-out cpu"),
            judge=0.5,
        )
        for name, content in (
            (
                "dict",
                "CONTENT = b'm' + struct.pack('<I', 60000) + b''.join(big(k * HASH) + b'N' for k in range(30000))",
            ),
            ("set", "CONTENT = b'S' + struct.pack('<I', 60000) + b''.join(big(k * HASH) for k in range(60000))"),
            (
                "by-sixteens",
                """
CONTENT = b"S" + struct.pack("<I", 64000) + b"".join(
    big(k * HASH + group * 2**20) for group in range(4000) for k in range(16)
)""",
            ),
        )
    ),
    *(
        Hostile(
            number=20,
            name=f"int-text/{name}",
            source=f"{RAW}\n{before}\ndef add(a, b):\n    {body}\n",
            check=replace(ADD, test=checked("assert abs(candidate(1, 2) - 3) < 1e-6")),
            reasons=("wrong-answer", "exception OverflowError", "exception InvalidOperation", "too-large"),
            judge=0.1,
            limits=Limits(work=1.0, idle=0.5),
            because="numbers travel as bits, whatever the layers; none of these can be right",
        )
        for name, before, body in (
            ("number", "", "return 7 << 8_000_000"),
            ("negative", "", "return -(7 << 8_000_000)"),
            ("fraction", "raw(b'R' + big(3 ** 2_500_000) + big(5 ** 1_500_000))", "return 4"),
            ("decimal", "raw(b'D' + struct.pack('<I', 1_000_000) + b'7' * 1_000_000)", "return 4"),
            ("large-exponent", "", "from decimal import Decimal; return Decimal('1E+999999')"),
            ("small-exponent", "", "from decimal import Decimal; return Decimal('1E-999999')"),
        )
    ),
)


def _sends(number: int, name: str, body: str, reasons: tuple[str, ...], *, load: bool = False) -> Hostile:
    """A program that writes to the data socket by itself, then answers as it should; with no socket, that is all."""
    before = f"import os, struct, time\nEND = time.monotonic() + 12\ndef send():\n{_indented(body)}"
    call = "try:\n    send()\nexcept OSError:\n    pass"
    return Hostile(
        number=number,
        name=name,
        source=f"{before}\n{call}\n{tries('')}" if load else tries(call, before),
        reasons=reasons,
        limits=IDLE if reasons == ("timed-out wall",) else SHORT,
        weakened=SPLIT,
    )


def _indented(body: str) -> str:
    return "".join(f"    {line}\n" for line in body.splitlines())


FRAMES = (
    *(
        _sends(21, f"half-frame/{name}", f"os.write(3, struct.pack('<I', {size}))\n{then}", reasons)
        for name, size, then, reasons in (
            ("then-nothing", "10", "time.sleep(12)", ("timed-out wall",)),
            ("empty", "0", "time.sleep(1.5)", ("malformed",)),
            ("negative", "0xFFFFFFFF", "time.sleep(1.5)", ("too-large",)),
            ("huge", "0x80000000", "time.sleep(1.5)", ("too-large",)),
            (
                "drop-by-drop",
                "1000",
                "while time.monotonic() < END:\n    os.write(3, b'x')\n    time.sleep(0.1)",
                ("timed-out wall",),
            ),
        )
    ),
    *(
        _sends(
            22,
            f"chatter/{name}",
            f"for _ in range(3000):\n    os.write(3, struct.pack('<I', 1 << 16) + {kind} + b'N' * 0xFFFF)",
            ("malformed", "timed-out"),
            load=load,
        )
        for name, kind, load in (
            ("at-load", "b'A'", True),
            ("loaded", "b'L'", True),
            ("in-the-call", "b'A'", False),
            ("raised", "b'X'", False),
        )
    ),
    Hostile(
        number=23,
        name="import-bomb",
        source=f"{CLOCKS['timed-out cpu']}\nwhile now() < END:\n    pass\n" + tries(""),
        reasons=("timed-out cpu",),
        limits=SHORT,
        weakened=DEADLINE,
    ),
)

PROGRAMS: tuple[Hostile, ...] = (
    *FORKS,
    Hostile(
        number=2,
        name="thread-bomb",
        source=THREADS,
        reasons=("exception AssertionError",),
        weakened=NO_RLIMITS,
    ),
    *MEMORY,
    *TIME,
    *FILES,
    *COMPILING,
    *ANSWERS,
    *FRAMES,
)
