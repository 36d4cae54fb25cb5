"""What a hostile program is, and where all of them are.

A program completes ``def add(a, b):`` so that ``add(1, 2) == 3`` unless its check says otherwise. Write it so that it
*answers rightly if the forbidden thing worked* and raises otherwise (`tries` does); then a hole shows as ``passed``.
Every program bounds itself in count, size and time, for it is also run in a cage that is weakened on purpose.

What a program may know of the harness stands in its source, or in its check's, as ``@NAME@`` (`PLACES`).
"""

from __future__ import annotations

import importlib
import pkgutil
import textwrap
from collections.abc import Iterator
from dataclasses import dataclass

from evalkit_sandbox.inside.layers import Limits
from evalkit_sandbox.program import Check

#: The check that is meant where none is named.
ADD = Check(
    setup="def add(a, b):\n    pass\n",
    test="def check(candidate):\n    assert candidate(1, 2) == 3\n",
    entry_point="add",
)
USUAL = Limits()
#: For programs that are stopped for their work: what they wait meanwhile must not decide, nor for their neighbours.
SHORT = Limits(work=0.25, idle=30.0)
#: For programs that are stopped for waiting; honest neighbours have as long.
IDLE = Limits(work=30.0, idle=2.0)
#: For programs that are stopped by something else than time.
AMPLE = Limits(work=30.0, idle=30.0)

#: What stands for what the harness has planted. All secrets match ``EVALKIT_SECRET_[0-9a-f]{32}``: a program that
#: searches for the pattern (a regular expression) does not find itself.
PLACES = {
    "FILE": "a readable file outside, its content a secret",
    "HOME": "a home folder outside with .ssh/id_rsa, .netrc, .aws/credentials and .bash_history, each with a secret",
    "FOLDER": "a folder outside where everybody may write; empty, and it must stay so",
    "RUN": "the folder of this very run, with results.jsonl in it and a file samples.jsonl with a secret",
    "VARIABLE": "the name of a variable in the main process's environment, its value a secret",
    "TREE": "the folder of the sources that the tests belong to",
    "TCP": "the port of a listener on 127.0.0.1",
    "UDP": "the port of a socket on 127.0.0.1",
    "ABSTRACT": "the name, less the zero byte before it, of an abstract unix socket that listens",
    "SOCKET": "the path of a unix socket that listens, in a folder where everybody may write",
    "TTY": "the path of the terminal that the main process is attached to",
    "MAIN": "the number of the main process",
    "MARK": "a word that no other program has; put it into the name of whatever you leave: files, processes, objects",
    "KEY": "a whole number, hexadecimal with 0x, for SysV objects; no other program has it",
}

#: Beside the names of layers, what `Hostile.weakened` may hold.
#: deadline: 30 s of work and of waiting are allowed. A program that shall be stopped is to go on for some seconds,
#: many times its limit, and then answer rightly, so that it passes.
#: split: candidate and test are glued together and run in one process without a cage, as other harnesses do.
#: counts: 4096 threads and descriptors are allowed, 3 GiB of memory, files of 64 MiB, 65536 of them.
PSEUDO_LAYERS = frozenset({"deadline", "split", "counts"})


@dataclass(frozen=True, slots=True, kw_only=True)
class Hostile:
    """A program, what may become of it, and how it would be noticed if a layer were missing."""

    #: Its number in the list of programs, which several forms of it share.
    number: int
    #: ``fork-bomb/os``: the item, a slash, the form.
    name: str
    source: str
    #: What its reason may begin with.
    reasons: tuple[str, ...]
    #: It may pass besides, as long as nothing else happens.
    or_correct: bool = False
    #: Layers and pseudo-layers whose absence must be noticed; None where nothing that can be taken off stops it.
    weakened: frozenset[str] | None = None
    #: That run is by real root (without the layer uid), not by an ordinary user; it must change nothing.
    root: bool = False
    #: How that shows: ``passed``, the beginning of another reason, or an invariant (``I3``) that is found broken.
    noticed: str = "passed"
    #: Where `weakened` is None: what stops it instead.
    because: str = ""
    limits: Limits = USUAL
    check: Check = ADD
    #: It must pass, everywhere.
    honest: bool = False
    #: Seconds it may take beyond what I2 allows: the kernel needs them, to give memory back for one.
    slack: float = 0.0
    #: Seconds of processor time that the judge may take over one run of it; 0 where that is not the point.
    judge: float = 0.0
    #: Left out of ordinary runs (``EVALKIT_HOSTILE=all`` has it in).
    slow: bool = False

    def __post_init__(self) -> None:
        assert self.honest or self.reasons, self.name
        assert self.honest or (self.weakened is None) == bool(self.because), self.name


def tries(body: str, before: str = "") -> str:
    """A program that runs ``body`` in its function, answers rightly if that raises nothing, and else raises."""
    body = textwrap.indent(textwrap.dedent(body), "    ")
    return f"{textwrap.dedent(before)}\ndef add(a, b):\n{body}\n    return a + b\n"


def everything() -> Iterator[Hostile]:
    """The ``PROGRAMS`` of all modules beside this one, in the order of their numbers."""
    package = __name__.rpartition(".")[0]
    found: list[Hostile] = []
    for module in pkgutil.iter_modules(importlib.import_module(package).__path__):
        if module.name[1] == "_" and module.name[0] in "revwxpch":
            found += importlib.import_module(f"{package}.{module.name}").PROGRAMS
    names = [one.name for one in found]
    assert len(set(names)) == len(names), "two programs have one name"
    yield from sorted(found, key=lambda one: one.number)
