"""Whether the sandbox is as fast after 20,000 programs as at the beginning, and leaves nothing behind.

    python benchmarks/soak.py [programs]

HumanEval's reference solutions (found by EVALKIT_TEST_DATA, default ``../shared/data``), over and over through one
sandbox. After each twentieth it prints the rate, and of all processes of the sandbox together their number, the memory
that they hold and the descriptors that are open; at the end what is left of processes, files, shared memory and mounts.
"""

from __future__ import annotations

import gzip
import itertools
import json
import os
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

from evalkit_sandbox import Check, Program, Sandbox

DATA = Path(os.environ.get("EVALKIT_TEST_DATA", "../shared/data"), "humaneval", "HumanEval.jsonl.gz")


def programs(number: int) -> Iterator[tuple[int, Program]]:
    """So many programs, made one at a time."""
    with gzip.open(DATA, "rt", encoding="utf-8") as file:
        rows = [json.loads(line) for line in file]
    for key, row in zip(range(number), itertools.cycle(rows), strict=False):
        setup = f"{row['prompt']}\n    pass\n"
        check = Check(setup=setup, test=row["test"], entry_point=row["entry_point"])
        yield key, Program(source=row["prompt"] + row["canonical_solution"], check=check)


def family(pid: int) -> Iterator[int]:
    """A process and all that descend from it."""
    yield pid
    for thread in Path(f"/proc/{pid}/task").glob("*/children"):
        for child in thread.read_text().split():
            yield from family(int(child))


def census() -> tuple[int, float, int]:
    """Of this process and its descendants: number, MiB that are theirs alone or shared in parts, open descriptors."""
    number, memory, descriptors = 0, 0.0, 0
    for pid in family(os.getpid()):
        try:
            rollup = Path(f"/proc/{pid}/smaps_rollup").read_text()
            descriptors += len(list(Path(f"/proc/{pid}/fd").iterdir()))
        except OSError:  # it has just ended, or the descriptors of another user are none of ours
            continue
        number += 1
        memory += next(int(line.split()[1]) for line in rollup.splitlines() if line.startswith("Pss:")) / 1024
    return number, memory, descriptors


def leftovers() -> dict[str, int]:
    """What a sandbox could leave on a machine."""
    shared = sum(len(Path(f"/proc/sysvipc/{kind}").read_text().splitlines()) - 1 for kind in ("shm", "msg", "sem"))
    return {
        "processes": sum(1 for _ in family(os.getpid())) - 1,
        "files": len(list(Path(tempfile.gettempdir()).glob("evalkit-*"))) + len(list(Path("/dev/shm").iterdir())),
        "shared": shared,
        "mounts": len(Path("/proc/self/mounts").read_text().splitlines()),
        "descriptors": len(list(Path("/proc/self/fd").iterdir())),
    }


def main() -> None:
    """Run and print."""
    number = int(sys.argv[1]) if len(sys.argv) > 1 else 20_000
    before, passed, tenth = leftovers(), 0, max(1, number // 20)
    with Sandbox() as box:
        began = time.perf_counter()
        for done, (_, outcome) in enumerate(box.run_all(programs(number)), 1):
            passed += outcome.passed
            if done % tenth == 0:
                rate = tenth / (time.perf_counter() - began)
                processes, memory, descriptors = census()
                print(
                    f"{done:6} programs, {passed} passed: {rate:5.0f}/s, {processes} processes, {memory:5.1f} MiB, "
                    f"{descriptors} descriptors",
                    flush=True,
                )
                began = time.perf_counter()
    after = leftovers()
    print("left behind:", {name: after[name] - before[name] for name in before})


if __name__ == "__main__":
    main()
