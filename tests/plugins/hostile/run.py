"""Runs programs at one level inside the fence and writes a JSON line for each run of each: what became of it, and which
invariants were found broken.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import secrets
import signal
import subprocess
import sys
import time
import traceback
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from tests.plugins.hostile import fence, watch
from tests.plugins.hostile.suite import ADD, PSEUDO_LAYERS, USUAL, Hostile, everything

from evalkit.errors import EvalkitError
from evalkit_sandbox.inside import kernel
from evalkit_sandbox.inside.layers import LAYERS, Limits
from evalkit_sandbox.program import Outcome, Program
from evalkit_sandbox.sandbox import Sandbox

HONEST = """
def add(a, b):
    with open("sum", "w") as file:
        file.write(str(a + b))
    assert os.listdir() == ["sum"]
    with open("sum") as file:
        return int(file.read())

import os, random
assert random.randrange(10) in range(10)
"""
#: For a weakened cage, in which files may be out of reach.
SIMPLE = "def add(a, b):\n    return a + b\n"
WRONG = "def add(a, b):\n    return a - b\n"
MIB = 1 << 20
#: How much more memory than its limit may be taken before anybody looks; an eighth of it, of disk. Where a folder has
#: no file system of its own only a look at it every few milliseconds bounds what is in it: half of it.
SPARE = 64 * MIB
#: Parts of the limit on work between which a program is run again, to be sure.
NEAR = (0.8, 1.3)


@dataclass(frozen=True, slots=True)
class Level:
    """Who runs programs, and in which cage."""

    #: Root becomes an ordinary user before anything of the library runs.
    ordinary: bool
    layers: tuple[str, ...] = LAYERS
    #: Namespaces are refused by the kernel, besides.
    withheld: bool = False


_B = tuple(layer for layer in LAYERS if layer != "namespaces")
LEVELS = {
    "A root": Level(ordinary=False),
    "A user": Level(ordinary=True),
    "B root": Level(ordinary=False, layers=_B),
    "B user": Level(ordinary=True, layers=_B, withheld=True),
}
#: The pseudo-levels of programs whose cage lacks what stops them.
WEAKENED = {"weakened root": Level(ordinary=False), "weakened user": Level(ordinary=True)}


@dataclass(frozen=True, slots=True)
class Record:
    """One run of one program."""

    name: str
    level: str
    run: int
    reason: str
    wall: float
    cpu: float
    work: float
    memory: int
    #: Invariants that do not hold: ``I3 4711 python``.
    broken: tuple[str, ...]

    def line(self) -> str:
        """As JSON."""
        return json.dumps({name: getattr(self, name) for name in self.__slots__})

    @classmethod
    def read(cls, line: str) -> Record:
        """From JSON."""
        found = json.loads(line)
        return cls(**{**found, "broken": tuple(found["broken"])})


class Harness:
    """Runs programs and watches what happens around them."""

    def __init__(self, level: str) -> None:
        self._level = level
        self._plants = watch.Plants()
        about = (LEVELS | WEAKENED)[level]
        if about.ordinary:
            fence.become_ordinary()
            kernel.hide_memory(hidden=False)  # as it was before the change of user: the library must see to itself
        self._terminal = watch.Terminal()
        self._plants.places["TTY"] = self._terminal.name
        fence.limit()
        if about.withheld:
            fence.withhold_namespaces()
        self._memory = watch.Memory()

    def batch(self, programs: Iterable[Hostile], times: int) -> Iterator[Record]:
        """Run each program ``times`` times on one worker, between honest and wrong ones."""
        layers, left = LEVELS[self._level].layers, list(programs)
        while left:
            with Sandbox(layers=layers, workers=1) as box:
                while left:
                    one = left.pop(0)
                    records = list(self._watched(box, one, one.limits, times))
                    yield from records
                    if records[0].broken:  # what one has done must not be held against the next
                        break

    def weakened(self, programs: Iterable[Hostile]) -> Iterator[Record]:
        """Run each program once in a cage that lacks what is to stop it."""
        by_layers: dict[frozenset[str], list[Hostile]] = {}
        for one in programs:
            lacking = (one.weakened or frozenset()) | ({"uid"} if one.root else frozenset())
            by_layers.setdefault(lacking, []).append(one)
        for lacking, some in by_layers.items():
            assert lacking <= {*LAYERS, *PSEUDO_LAYERS}, sorted(lacking)
            if "split" in lacking:
                yield from (self._glued(one) for one in some)
                continue
            widest = _more(USUAL, lacking)
            while some:
                before = watch.Snapshot.take()
                with Sandbox(layers=set(LAYERS) - lacking, limits=widest, workers=1) as box:
                    while some:
                        one = some.pop(0)
                        (record,) = self._watched(box, one, _more(one.limits, lacking), 1)
                        yield record
                        if record.broken:  # what one has left must not be held against the next
                            break
                self._clean(before)

    def _clean(self, before: watch.Snapshot) -> None:
        for stranger in watch.census():
            with contextlib.suppress(ProcessLookupError):
                os.kill(stranger, signal.SIGKILL)
        watch.settled(0)
        watch.remove(before)
        self._plants.reached()
        self._terminal.seen()

    def _watched(self, box: Sandbox, one: Hostile, limits: Limits, times: int) -> Iterator[Record]:
        mark = f"mark{secrets.token_hex(3)}"
        check = replace(one.check, test=self._plants.fill(one.check.test, mark))
        hostile = Program(source=self._plants.fill(one.source, mark), check=check)
        neighbour = replace(ADD, test=f"{ADD.test}    # {self._plants.in_memory}\n")
        simple = self._level in WEAKENED
        honest, wrong = (Program(source=one, check=neighbour) for one in (SIMPLE if simple else HONEST, WRONG))
        list(box.run_all([("warm", honest)], limits=limits))
        ignored = (str(self._plants.results),)
        before, processes = watch.Snapshot.take(ignored), watch.census()
        judge = Judge.of(box)
        self._memory.begin()
        batch: list[tuple[str | int, Program]] = [
            ("before", honest),
            *((number, hostile) for number in range(times)),
            ("after", honest),
            ("wrong", wrong),
        ]
        found: dict[str | int, Outcome] = {}
        late: dict[str | int, list[str]] = {}
        clock = _Clock()
        broken: list[str] = []
        try:
            for key, outcome in box.run_all(batch, limits=limits):
                found[key] = outcome
                late[key] = clock.late(outcome, limits, one.slack)
        except EvalkitError as error:
            broken.append(f"I1 judge error: {error}")
        # Only in a weakened cage may something be left, which ends by itself after a while: there nobody waits for it.
        broken += _survivors(box, processes, mark, 1.0 if simple else 60.0)
        broken += [f"I4 left: {name}" for name in before.changes(watch.Snapshot.take(ignored))]
        broken += self._memory_of(limits, judge, box)
        if one.judge and (took := (Judge.of(box).cpu - judge.cpu) / times) > one.judge:
            broken.append(f"the judge worked for {took:.2f} s")
        broken += [f"I6 reached: {name}" for name in self._plants.reached()]
        if shown := self._terminal.seen():
            broken.append(f"I8 on the terminal: {shown[:60]!a}")
        broken += _neighbours(found)
        if Judge.of(box).pid != judge.pid:
            broken.append("I7 the judge was replaced")
        nothing = Outcome(reason="none", wall=0, cpu=0, work=0, memory=0)
        for number in range(times):
            outcome = found.get(number, nothing)
            its = [*broken, *late.get(number, ())]
            record = Record(
                one.name,
                self._level,
                number,
                outcome.reason,
                outcome.wall,
                outcome.cpu,
                outcome.work,
                outcome.memory,
                (),
            )
            yield replace(record, broken=(*its, *self._written(record)))

    def _memory_of(self, limits: Limits, judge: Judge, box: Sandbox) -> Iterator[str]:
        memory, disk = self._memory.peak()
        if memory > limits.memory + SPARE:
            yield f"I5 {memory >> 20} MiB of memory"
        if disk > limits.disk + (SPARE // 8 if "namespaces" in box.layers else SPARE // 2):
            yield f"I5 {disk >> 20} MiB of disk"
        if (more := Judge.of(box).peak - judge.peak) > SPARE:
            yield f"I5 {more >> 20} MiB in the judge"

    def _written(self, record: Record) -> Iterator[str]:
        """Write a result as a run does, and see whether the file is what it must be."""
        line = record.line() + "\n"
        with self._plants.results.open("a", encoding="utf-8") as file:
            file.write(line)
        last = self._plants.results.read_bytes().rsplit(b"\n", 2)[-2]
        if json.loads(last.decode()) != json.loads(line):
            yield "I8 the results were changed"
        if len(record.reason) > 200 or not (record.reason.isascii() and record.reason.isprintable()):
            yield "I8 the reason cannot be shown"
        if any(secret in line for secret in self._plants.secrets) or re.search("EVALKIT_SECRET_", line):
            yield "I6 a secret is among the results"

    def _glued(self, one: Hostile) -> Record:
        """Candidate and test in one process that says by its exit code what the candidate is worth."""
        mark = f"mark{secrets.token_hex(3)}"
        check = one.check
        text = f"{self._plants.fill(one.source, mark)}\n{check.test}\n{check.function}({check.entry_point})\n"
        before = watch.Snapshot.take()
        began = time.monotonic()
        process = subprocess.Popen(
            [sys.executable, "-S", "-c", _GLUE, text],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            cwd="/tmp",
        )
        try:
            code = process.wait(120)
            reason = "passed" if code == 0 else "exception" if code > 0 else f"killed {signal.Signals(-code).name}"
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
            reason = "timed-out wall"
        self._clean(before)
        return Record(one.name, self._level, 0, reason, time.monotonic() - began, 0.0, 0.0, 0, ())


#: What other harnesses do, in short.
_GLUE = """
import sys
def judge(text):
    result = []
    try:
        exec(text, {})
        result.append("passed")
    except Exception:
        result.append("failed")
    return result
sys.exit(0 if judge(sys.argv[1])[0] == "passed" else 1)
"""


@dataclass(frozen=True, slots=True)
class Judge:
    """The judge's process, and what it has used so far."""

    pid: int
    cpu: float
    peak: int

    @classmethod
    def of(cls, box: Sandbox) -> Judge:
        """That of a sandbox with one worker."""
        pid = box.workers[0].pids[0]
        try:
            status = Path(f"/proc/{pid}/status").read_text()
            peak = int(status.split("VmHWM:")[1].split()[0]) << 10
            return cls(pid, time.clock_gettime(~pid << 3 | 2), peak)
        except (OSError, IndexError):
            return cls(pid, 0.0, 0)


class _Clock:
    """Says of each outcome whether it came in time (I2)."""

    def __init__(self) -> None:
        self._last, self._waited = time.monotonic(), watch.pressure()

    def late(self, outcome: Outcome, limits: Limits, slack: float) -> list[str]:
        now, waited = time.monotonic(), watch.pressure()
        took, self._last = now - self._last, now
        # Where the kernel does not say how long processes waited for one another, four times the limit must do.
        stalled = 3 * limits.work if waited is None or self._waited is None else waited - self._waited
        self._waited = waited
        found = []
        if outcome.work > 1.25 * limits.work + 1:
            found.append(f"I2 {outcome.work:.2f} s of work")
        if outcome.wall > outcome.cpu + limits.idle + stalled + 1:
            found.append(f"I2 {outcome.wall:.2f} s on the clock")
        again = 5 if limits.work * NEAR[0] <= outcome.work <= limits.work * NEAR[1] else 1
        if took > again * (outcome.wall + 1) + stalled + slack:
            found.append(f"I2 came after {took:.2f} s")
        return found


def _survivors(box: Sandbox, before: dict[int, watch.Process], mark: str, patience: float) -> list[str]:
    ours = set(box.workers[0].pids)
    found = watch.settled(len(before), patience)
    server = ours | {one.pid for one in found.values() if one.parent in ours}
    strangers = [
        one
        for one in found.values()
        if one.state == "Z" or mark in one.words + one.name or not (one.pid in server or one.parent in server)
    ]
    if not strangers and len(found) > len(before):
        strangers = [found[pid] for pid in sorted(found, key=lambda pid: found[pid].began) if pid not in before]
    return [f"I3 alive: {one.name} ({one.state})" for one in strangers[:5]]


def _neighbours(found: dict[str | int, Outcome]) -> Iterator[str]:
    for key, reason in (("before", "passed"), ("after", "passed"), ("wrong", "wrong-answer")):
        if key in found and found[key].reason != reason:
            yield f"I7 the {'wrong' if key == 'wrong' else 'honest'} program: {found[key].reason}"


def _more(limits: Limits, lacking: frozenset[str]) -> Limits:
    if "deadline" in lacking:
        limits = limits._replace(work=30.0, idle=30.0)
    if "counts" in lacking:
        limits = limits._replace(threads=4096, descriptors=4096, memory=3 << 30)
        limits = limits._replace(file=64 * MIB, disk=64 * MIB, files=1 << 16)
    return limits


def main(level: str, times: int, names: list[str]) -> None:
    """Run the programs of these names and write to standard output."""
    kernel.die_with_parent()
    out = os.dup(1)

    def say(**what: Any) -> None:
        os.write(out, json.dumps(what).encode() + b"\n")

    try:
        fence.enter()
    except OSError as error:
        say(refused=f"namespaces to run hostile programs in: {error}")
        return
    try:
        programs = [one for one in everything() if one.name in names]
        harness = Harness(level)
        found = harness.weakened(programs) if level in WEAKENED else harness.batch(programs, times)
        for record in found:
            os.write(out, record.line().encode() + b"\n")
    except BaseException:
        say(failed=traceback.format_exc())
    os._exit(0)
