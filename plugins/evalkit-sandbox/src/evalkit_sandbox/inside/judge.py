"""The judge: runs tests that see a stub instead of a candidate's function; nobody else says what a program is worth.

Run as a program by `evalkit_sandbox.worker`. Standard input is the socket on which the main process sends jobs; the
descriptor that the first argument names leads to the cage.
"""

from __future__ import annotations

import contextlib
import dis
import importlib
import json
import os
import random
import resource
import select
import signal
import socket
import struct
import sys
from collections import OrderedDict
from collections.abc import Iterator
from types import CodeType, FrameType
from typing import Any, NamedTuple

from . import channel, clocks, kernel, landlock, seccomp
from .layers import COMMON, MORE, Limits
from .orders import Cage, Gone
from .trial import CERTAIN, ENDED, UNBORN, CandidateError, End, Job, Trial, clean

#: A run whose work lies between these parts of the limit is near enough to be repeated.
NEAR = (0.8, CERTAIN)
#: Until so many runs agree on which side of the limit they lie: the most of five.
MOST_OF = 3
#: A program may take as long as so many runs of the problem's reference solution, if that is more.
SLOWER = 10
#: Seconds for a candidate to end by itself that has gone silent.
_ENDING = 10.0
#: Tests that a judge keeps compiled.
_KEPT = 1000
#: Bytes of address space of a judge.
_MEMORY = 2 << 30


class Outcome(NamedTuple):
    """What became of a program; seconds and bytes."""

    reason: str
    wall: float
    cpu: float
    work: float
    memory: int


class Judge:
    """Tries programs one after the other."""

    def __init__(self, main: socket.socket, cage: Cage, core: int) -> None:
        self._main, self._cage, self._core = main, cage, core
        self._hangup = select.poll()
        self._hangup.register(main, 0)
        self._codes: OrderedDict[tuple[str, str], tuple[CodeType, CodeType, list[str]]] = OrderedDict()
        #: What the reference solution of a test takes, in seconds of work.
        self._yardsticks: dict[tuple[str, str, str], float] = {}
        signal.signal(signal.SIGPROF, self._tired)
        self._trial: Trial | None = None

    def serve(self) -> None:
        """Judge what the main process sends until it has gone."""
        while (job := _read_job(self._main)) is not None:
            try:
                answer: dict[str, Any] = {"outcome": self.judge(job)}
            except ValueError as error:
                answer = {"error": str(error)}
            _send_frame(self._main, json.dumps(answer).encode())

    def judge(self, job: Job) -> Outcome:
        """What a program is worth; raises ValueError where its test is at fault."""
        limits = Limits(*job.limits)
        first = self._try(job, limits)
        if limits.wall or first.work < NEAR[0] * limits.work:
            return first
        limit = max(limits.work, SLOWER * self._yardstick(job, limits))
        if limit > limits.work:
            limits = limits._replace(work=limit)
            first = self._try(job, limits)
        sides: tuple[list[Outcome], list[Outcome]] = [], []
        sides[first.work > limit].append(first)
        if NEAR[0] * limit <= first.work < NEAR[1] * limit:
            while max(map(len, sides)) < MOST_OF:
                run = self._try(job, limits)
                sides[run.work > limit].append(run)
        within, beyond = sides
        return within[0] if len(within) > len(beyond) else beyond[0]._replace(reason="timed-out cpu")

    def _yardstick(self, job: Job, limits: Limits) -> float:
        key = job.setup, job.test, job.reference
        if job.reference and key not in self._yardsticks:
            found = self._try(job._replace(source=job.reference), limits._replace(work=100 * limits.work))
            if found.reason != "passed":
                raise ValueError(f"its reference solution does not pass here: {found.reason}")
            self._yardsticks[key] = found.work
        return self._yardsticks.get(key, 0.0)

    def _try(self, job: Job, limits: Limits) -> Outcome:
        candidate = self._cage.candidate(limits)
        clock = clocks.Clock(self._core)
        trial = self._trial = Trial(job, limits, candidate, self._hangup, clock)
        try:
            reason = self._test(job, trial)
        except End:  # the test's time was up just when it had failed
            reason = trial.reason
        finally:
            clock.release()
        wall = clock.wall
        code, cpu, memory = self._cage.end(candidate, grace=_ENDING if reason == ENDED else 0.0)
        if reason == UNBORN and code < 0:
            raise Gone("Somebody has killed a candidate before it began.")
        if reason == UNBORN:
            raise ValueError(f"a process could not be confined for it (exit code {code})")
        if reason == ENDED:
            reason = _ending(code)
        return Outcome(reason, wall, cpu, clock.work(cpu), memory)

    def _test(self, job: Job, trial: Trial) -> str:
        """Run the test on a stub; the reason why the program passes or does not."""
        try:
            setup, test, needed = self._compiled(job)
            namespace: dict[str, Any] = {}
            exec(setup, namespace)  # noqa: S102  (of the benchmark, not of the model)
            exec(test, namespace)  # noqa: S102
            check = namespace[job.check]
        except Exception as error:
            raise ValueError(f"its test cannot be loaded: {error!r}") from None
        namespace[job.entry_point] = trial
        random.seed(0)
        signal.setitimer(signal.ITIMER_PROF, trial.limits.idle)
        try:
            trial.load(needed)
            check(trial)
            trial.finish()
            return trial.reason or "passed"
        except End:
            return trial.reason
        except channel.TooLarge:
            raise ValueError("its test passes more than a call can hold") from None
        except Gone:
            raise
        except BaseException as error:
            return self._failed(trial, error)
        finally:
            signal.setitimer(signal.ITIMER_PROF, 0)

    def _failed(self, trial: Trial, error: BaseException) -> str:
        if trial.reason:
            return trial.reason
        if error is trial.raised:
            return f"exception {error if isinstance(error, CandidateError) else type(error).__name__}"
        if trial.opaque:
            return "not-plain"
        return (
            "wrong-answer" if isinstance(error, AssertionError) else f"exception {clean(type(error).__name__.encode())}"
        )

    def _compiled(self, job: Job) -> tuple[CodeType, CodeType, list[str]]:
        """What a test stands on, the test, and which names it takes from there that are not the candidate's."""
        key = job.setup, job.test
        if key not in self._codes:
            if len(self._codes) >= _KEPT:
                self._codes.popitem(last=False)
            setup, test = (compile(text, "<test>", "exec", dont_inherit=True) for text in key)
            helpers: dict[str, Any] = {}
            exec(setup, helpers)  # noqa: S102
            needed = sorted(set(_names(test)) & helpers.keys() - {job.entry_point, "__builtins__"})
            self._codes[key] = setup, test, needed
        return self._codes[key]

    def _tired(self, signum: int, frame: FrameType | None) -> None:
        """The test itself takes too long: an answer has made it so."""
        if self._trial:
            self._trial.reason = self._trial.reason or "timed-out cpu"
            raise End


def _ending(code: int) -> str:
    """Why a program failed whose process ended before it had answered."""
    if code >= 0:
        return "ended-early"
    if -code in (signal.SIGXCPU, signal.SIGALRM, signal.SIGPROF, signal.SIGVTALRM):
        return "timed-out cpu"
    with contextlib.suppress(ValueError):
        return f"killed {signal.Signals(-code).name}"
    return f"killed SIG{-code}"


def _names(code: CodeType) -> Iterator[str]:
    """All global names that code reads, in functions within it, too."""
    for step in dis.get_instructions(code):
        if step.opname in ("LOAD_GLOBAL", "LOAD_NAME"):
            yield str(step.argval)
    for constant in code.co_consts:
        if isinstance(constant, CodeType):
            yield from _names(constant)


def _read_job(end: socket.socket) -> Job | None:
    """The next job; None where the main process has gone."""
    head = _read_all(end, 4)
    content = head and _read_all(end, struct.unpack("<I", head)[0])
    return Job(*json.loads(content)["job"]) if content else None


def _read_all(end: socket.socket, size: int) -> bytearray | None:
    # Into one place: a program may be large, and each copy of it would count.
    found = bytearray(size)
    left = memoryview(found)
    while left:
        got = end.recv_into(left)
        if not got:
            return None
        left = left[got:]
    return found


def _send_frame(end: socket.socket, content: bytes) -> None:
    end.sendall(channel.frame(content))


def main() -> None:
    """Confine this process, then judge."""
    plan = json.loads(sys.argv[1])
    main_end = socket.socket(fileno=os.dup(0))
    control = socket.socket(fileno=plan["cage"])
    said = control.recv(1000)
    try:
        if said != b"R":
            raise OSError(said[1:].decode("utf-8", "replace") or "the cage ended")
        if plan["bound"]:
            clocks.bind(plan["core"])
        _confine(plan["uid"], seccomp_too=plan["seccomp"])
    except OSError as error:
        _send_frame(main_end, json.dumps(str(error)).encode())
        os._exit(70)
    _send_frame(main_end, b'"ready"')
    try:
        Judge(main_end, Cage(control), plan["core"]).serve()
    except (Gone, ConnectionError):
        os._exit(75)
    os._exit(0)


def _confine(uid: int | None, *, seccomp_too: bool) -> None:
    """Let this process read the standard library and clocks, and little else: tests need not be trusted blindly."""
    for module in (*COMMON, *MORE):
        importlib.import_module(module)
    if uid is not None:
        os.setgroups([])
        os.setresgid(uid, uid, uid)
        os.setresuid(uid, uid, uid)
    resource.setrlimit(resource.RLIMIT_AS, (_MEMORY, _MEMORY))
    kernel.hide_memory()
    kernel.gain_nothing()
    if abi := kernel.landlock_abi():
        readable = [(path, landlock.READ) for path in (*sys.path, "/proc", "/dev/null")]
        kernel.landlock_restrict(landlock.ruleset(abi, readable))
    if seccomp_too:
        kernel.filter_calls(seccomp.program(os.uname().machine, more=seccomp.JUDGING, less=seccomp.MARKING))
