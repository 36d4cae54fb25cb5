"""The life of one candidate: a process that confines itself, runs a program, and answers calls of its function."""

from __future__ import annotations

import os
import resource
import struct
import sys
from collections.abc import Iterator, Mapping
from typing import Any, NoReturn

from . import channel, kernel
from .layers import Limits

#: Where the judge is reached; 0, 1 and 2 lead nowhere, and nothing else is open.
JUDGE = 3
#: More descriptors than a fork server ever has.
MOST_OPEN = 256
#: Where a candidate works, where it has a file system of its own.
PLACE = "/tmp"  # noqa: S108  (of the cage, not of the machine)

#: What a candidate's frame is about: it is confined, has loaded, answers, raised, has too large an answer, did not
#: load, could not be compiled.
READY, LOADED, ANSWER, RAISED, OVERSIZED, UNLOADED, UNCOMPILED = (bytes([one]) for one in b"RLAXOUS")
#: The judge's: here is your program; call your function.
PROGRAM, CALL = b"P", b"C"
#: Bytes of the number that a call bears and its answer repeats, so that no answer can be sent ahead.
NONCE = 8


def live(judge: int, limits: Limits, layers: frozenset[str], filter_: bytes) -> NoReturn:
    """Be a candidate, to the end of this process.

    ``judge`` is the descriptor of the data socket, ``filter_`` the seccomp filter.
    """
    try:
        _confine(judge, limits, layers, filter_)
        _say(READY)
        _serve()
    except BaseException:  # a layer that cannot be put on ends the candidate before anything runs
        os._exit(70)
    os._exit(0)


def _confine(judge: int, limits: Limits, layers: frozenset[str], filter_: bytes) -> None:
    """Put on what the fork server cannot wear for its children."""
    if judge != JUDGE:
        os.dup2(judge, JUDGE)
    os.closerange(JUDGE + 1, MOST_OPEN)
    if "namespaces" not in layers:  # with them it dies with the server, which is the first of its namespace
        kernel.die_with_parent()
    if "capabilities" in layers:
        kernel.drop_capabilities()
    if "rlimits" in layers:
        confine_use(limits, own=True)
    if "seccomp" in layers:
        kernel.filter_calls(filter_)


def confine_use(limits: Limits, *, own: bool, threads: bool = False) -> None:
    """Lower the limits of this process and its children; ``own`` for those that a fork server cannot share."""
    wanted = {resource.RLIMIT_AS: limits.memory}
    if own:
        wanted[resource.RLIMIT_CPU] = limits.cpu
    else:
        wanted |= {
            resource.RLIMIT_FSIZE: limits.file,
            resource.RLIMIT_NOFILE: limits.descriptors,
            resource.RLIMIT_CORE: 0,
            resource.RLIMIT_MSGQUEUE: 0,
            resource.RLIMIT_MEMLOCK: 0,
            resource.RLIMIT_STACK: limits.stack,
        }
    if threads:  # counts all processes of the user, unless in a user namespace
        wanted[resource.RLIMIT_NPROC] = limits.threads
    for what, most in wanted.items():
        hard = resource.getrlimit(what)[1]
        value = most if hard == resource.RLIM_INFINITY else min(most, hard)
        resource.setrlimit(what, (value, value))


def _say(kind: bytes, content: bytes = b"") -> None:
    data = channel.frame(kind + content)
    while data:
        data = data[os.write(JUDGE, data) :]


def _frames() -> Iterator[bytes]:
    """What the judge says, frame by frame; ends this process when the judge has heard enough."""
    found = bytearray()
    while True:
        while len(found) < 4 or len(found) < (end := 4 + struct.unpack_from("<I", found)[0]):
            more = os.read(JUDGE, 1 << 16)
            if not more:
                os._exit(0)
            found += more
        yield bytes(found[4:end])
        del found[:end]


def _serve() -> None:
    """Load the program and answer calls of its function until the judge has heard enough."""
    frames = _frames()
    source, entry_point, needed = _parts(next(frames)[1:])
    namespace: dict[str, Any] = {}
    try:
        code = compile(source, "<program>", "exec", dont_inherit=True)
    except MemoryError as error:
        _say(UNLOADED, _name(error))
        return
    except BaseException:
        _say(UNCOMPILED)
        return
    try:
        exec(code, namespace)  # noqa: S102  (what this process is for)
        missing = [name for name in (entry_point, *needed) if name not in namespace]
    except BaseException as error:
        _say(UNLOADED, _name(error))
        return
    del source, code
    if missing:
        _say(UNLOADED, b"NameError")
        return
    _say(LOADED)
    for call in frames:
        _answer(call, namespace, entry_point)


def _answer(call: bytes, namespace: Mapping[str, Any], entry_point: str) -> None:
    nonce = call[1 : 1 + NONCE]
    (arguments, keywords), _ = channel.decode(call[1 + NONCE :])
    try:
        content = channel.encode(namespace[entry_point](*arguments, **keywords))
    except channel.TooLarge:
        _say(OVERSIZED, nonce)
    except BaseException as error:
        _say(RAISED, nonce + _name(error))
    else:
        _say(ANSWER, nonce + content)


def _name(error: BaseException) -> bytes:
    """The name of an exception's class, as it is; the judge cleans it."""
    name = type(error).__name__
    return str(name).encode("utf-8", "replace")[:200]


def program(source: str, entry_point: str, needed: list[str]) -> tuple[bytes, bytes]:
    """The judge's first frame, in two parts: what stands before the program, and the program.

    Before it stand its function and the names that it must have besides.
    """
    names, text = channel.encode((entry_point, needed)), source.encode("utf-8", "surrogatepass")
    head = PROGRAM + struct.pack("<I", len(names)) + names
    return struct.pack("<I", len(head) + len(text)) + head, text


def _parts(content: bytes) -> tuple[str, str, list[str]]:
    end = 4 + struct.unpack_from("<I", content)[0]
    (entry_point, needed), _ = channel.decode(content[4:end])
    return content[end:].decode("utf-8", "surrogatepass"), entry_point, needed


def leave_nothing_open() -> None:
    """Let standard input, output and error lead nowhere."""
    nothing = os.open(os.devnull, os.O_RDWR)
    for descriptor in (0, 1, 2):
        os.dup2(nothing, descriptor)
    if nothing > 2:
        os.close(nothing)
    sys.stdin = open(0, closefd=False)  # noqa: SIM115
    sys.stdout = open(1, "w", closefd=False)  # noqa: SIM115
    sys.stderr = open(2, "w", closefd=False)  # noqa: SIM115
