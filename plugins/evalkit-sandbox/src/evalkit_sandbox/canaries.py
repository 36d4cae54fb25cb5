"""Small programs that try, once, what a sandbox must not let them do: whoever reports a success has found a hole."""

from __future__ import annotations

import contextlib
import os
import secrets
import socket
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from evalkit_sandbox.inside.layers import Limits
from evalkit_sandbox.program import Check, Program

#: What every canary is asked: the sum of 1 and 2.
CHECK = Check(
    setup="def add(a, b):\n    pass\n",
    test="def check(candidate):\n    assert candidate(1, 2) == 3\n",
    entry_point="add",
)
#: Limits of the canaries that must be stopped, so that they are stopped soon.
SHORT = Limits(work=0.1, idle=0.1)
#: And of the others: on a machine that is slow for a while, time must not decide what is a hole.
AMPLE = Limits(work=30.0, idle=30.0)
#: And of the one that asks for memory.
LITTLE = AMPLE._replace(memory=256 << 20)


@dataclass(frozen=True, slots=True, kw_only=True)
class Canary:
    """A program, and whether it is one that must pass."""

    name: str
    source: str
    honest: bool = False
    limits: Limits = AMPLE

    @property
    def program(self) -> Program:
        """With the test that all of them share."""
        return Program(source=self.source, check=CHECK)


def _tries(body: str) -> str:
    """A program that answers rightly if what it tries succeeds, and raises otherwise."""
    return f"def add(a, b):\n{''.join(f'    {line}{chr(10)}' for line in body.splitlines())}    return a + b\n"


@contextmanager
def planted() -> Iterator[list[Canary]]:
    """The canaries, with what they look for in its place: a file, a variable, a listener."""
    secret = f"EVALKIT_CANARY_{secrets.token_hex(8)}"
    with tempfile.TemporaryDirectory(prefix="evalkit-") as folder, socket.socket() as listener:
        Path(folder).chmod(0o755)
        file = Path(folder, "secret")
        file.write_text("secret")
        listener.bind(("127.0.0.1", 0))
        listener.listen()
        os.environ[secret] = "secret"
        try:
            yield [*_canaries(secret, str(file), listener.getsockname()[1])]
        finally:
            with contextlib.suppress(KeyError):
                del os.environ[secret]


def _canaries(secret: str, file: str, port: int) -> Iterator[Canary]:
    yield Canary(name="honest", source=_tries(""), honest=True)
    yield Canary(
        name="honest import", source=_tries("import textwrap\nassert textwrap.dedent(' x') == 'x'"), honest=True
    )
    yield Canary(name="read a variable", source=_tries(f"import os\nos.environ[{secret!r}]"))
    yield Canary(name="read a file", source=_tries(f"open({file!r}).read()"))
    yield Canary(name="write a file", source=_tries(f"open({file + '2'!r}, 'w').write('x')"))
    yield Canary(name="connect", source=_tries(f"import socket\nsocket.socket().connect(('127.0.0.1', {port}))"))
    yield Canary(name="start a process", source=_tries("import os\nif not os.fork():\n    os._exit(0)\nos.wait()"))
    yield Canary(
        name="become another program",  # one that is not there: who finds that out was not kept from looking
        source=_tries("import os\ntry:\n    os.execv('/nothing', ['nothing'])\nexcept FileNotFoundError:\n    pass"),
    )
    yield Canary(name="signal its parent", source=_tries("import os\nassert os.getppid()\nos.kill(os.getppid(), 0)"))
    yield Canary(name="signal everybody", source=_tries("import os\nos.kill(-1, 0)"))
    yield Canary(
        name="trace its parent",
        source=_tries(
            "import ctypes, os\nassert os.getppid()\nassert not ctypes.CDLL(None).ptrace(0x4206, os.getppid(), 0, 0)"
        ),
    )
    yield Canary(
        name="share memory for good",
        source=_tries(
            "import ctypes\nlibc = ctypes.CDLL(None)\nfound = libc.shmget(0, 4096, 0o1600)\nassert found >= 0\n"
            "libc.shmctl(found, 0, None)"
        ),
    )
    yield Canary(name="change the kernel", source=_tries("open('/proc/sys/kernel/core_pattern', 'r+')"))
    yield Canary(name="take too much memory", source=_tries("bytearray(300 << 20)"), limits=LITTLE)
    yield Canary(name="take too much time", source=_tries("while True:\n    pass"), limits=SHORT)
    yield Canary(name="wait too long", source=_tries("import time\ntime.sleep(60)"), limits=SHORT)
    yield Canary(
        name="please every test",
        source="class Yes:\n    def __eq__(self, other): return True\ndef add(a, b): return Yes()\n",
    )
