"""Starts the runs, and puts what was observed into a table."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterable, Iterator

from tests.plugins.hostile.fence import ROOT
from tests.plugins.hostile.run import LEVELS, WEAKENED, Record
from tests.plugins.hostile.suite import Hostile, everything


class Refused(Exception):
    """The machine does not let programs be fenced."""


def stream(level: str, names: Iterable[str], times: int = 3) -> Iterator[Record]:
    """Run programs in a process of their own, which ends with the caller's thread, and yield each run's record as it
    comes; raises Refused."""
    names = list(names)
    if not names:
        return
    found = set()
    with subprocess.Popen(
        [sys.executable, "-B", "-m", "tests.plugins.hostile", "run", level, str(times), *names],
        cwd=ROOT,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        errors="replace",
        env={**os.environ, "PYTHONPATH": str(ROOT)},
    ) as process:
        assert process.stdout is not None
        try:
            for line in process.stdout:
                about = (
                    json.loads(line) if line.startswith("{") else {"failed": f"{line}{process.stdout.read()}"[-3000:]}
                )
                if "refused" in about:
                    raise Refused(about["refused"])
                if "failed" in about:
                    raise RuntimeError(about["failed"])
                record = Record.read(line)
                found.add(record.name)
                yield record
        except BaseException:
            process.kill()
            raise
    if found != set(names):
        raise RuntimeError(f"ended early with {process.returncode}: nothing of {sorted(set(names) - found)[:5]}")


def records(level: str, names: Iterable[str], times: int = 3) -> list[Record]:
    """All that `stream` yields."""
    return list(stream(level, names, times))


def right(one: Hostile, record: Record) -> bool:
    """Whether this is what may become of a program, and nothing else happened."""
    allowed = ("passed",) if one.honest else one.reasons
    fits = record.reason.startswith(allowed) or (one.or_correct and record.reason == "passed")
    return fits and not record.broken


def noticed(one: Hostile, record: Record) -> bool:
    """Whether a program in a weakened cage shows what is missing."""
    if one.noticed.startswith("I"):
        return any(broken.startswith(one.noticed) for broken in record.broken)
    return record.reason.startswith(one.noticed)


def weak_level(one: Hostile) -> str:
    """Who runs a program in a weakened cage."""
    return "weakened root" if one.root else "weakened user"


def text() -> str:
    """The page of the table."""
    programs = list(everything())
    found: dict[str, dict[str, list[Record]]] = {one.name: {} for one in programs}
    weak = [one for one in programs if one.weakened is not None]
    for level in LEVELS:
        for record in records(level, [one.name for one in programs]):
            found[record.name].setdefault(level, []).append(record)
    for level in WEAKENED:
        for record in records(level, [one.name for one in weak if weak_level(one) == level]):
            found[record.name].setdefault(level, []).append(record)
    lines = [line for one in programs for line in _lines(one, found[one.name])]
    wrong = sum(not right(one, record) for one in programs for level in LEVELS for record in found[one.name][level])
    unseen = sum(not noticed(one, found[one.name][weak_level(one)][0]) for one in weak)
    count = len({one.number for one in programs})
    return _PAGE.format(
        count=count,
        forms=len(programs),
        levels=len(LEVELS),
        wrong=wrong,
        weak=len(weak),
        unseen=unseen,
        rows="\n".join(lines),
    )


_PAGE = """# What hostile programs achieved

Written by `python -m tests.plugins.hostile table docs/sandbox-suite.md`; [the sandbox](sandbox.md) explains the levels.

{count} programs in {forms} forms, each run three times in one batch at each of {levels} levels between honest and
wrong programs: {wrong} of these runs were not as they must be. {weak} forms were run once more in a cage that lacked
what stops them: {unseen} went unnoticed there.

"Nothing else" says that no process, file, shared object or mount was left, no listener was reached, no secret
appeared, the terminal stayed empty, memory and disk stayed within the limits, the judge was the same process before
and after, and its verdicts on the honest and the wrong programs of the same batch were right.

| | Program | Level | Verdict | Observed |
| --- | --- | --- | --- | --- |
{rows}
"""


def _lines(one: Hostile, found: dict[str, list[Record]]) -> Iterable[str]:
    first = f"{one.number} | {one.name}"
    for level in LEVELS:
        some = found[level]
        verdicts = ", ".join(dict.fromkeys(record.reason for record in some))
        broken = "; ".join(dict.fromkeys(what for record in some for what in record.broken)) or "nothing else"
        most = max(record.wall for record in some), max(record.memory for record in some) >> 20
        yield f"| {first} | {level} | {verdicts} | {most[0]:.2f} s, {most[1]} MiB; {broken} |"
        first = " | "
    if one.weakened is None:
        if one.because:
            yield f"| | | none weaker | | {one.because} |"
        return
    (record,) = found[weak_level(one)]
    without = "without " + ", ".join(sorted(one.weakened | ({"uid"} if one.root else set())))
    seen = "; ".join(record.broken) if one.noticed.startswith("I") else "answered as one that reached its aim"
    yield f"| | | {without} | {record.reason} | {'noticed: ' + seen if noticed(one, record) else '**not noticed**'} |"
