"""Whichever process is killed while programs run: nothing survives it, the run can be completed, no verdict differs."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import pytest

pytest.importorskip("evalkit_replay")
pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="the sandbox needs Linux")

from evalkit_codex_eval import problems  # noqa: E402
from evalkit_sandbox import prove  # noqa: E402

#: Rows of a data set, and samples of each: enough that there is time to kill something.
ROWS, SAMPLES = 40, 6


class Process(NamedTuple):
    """A process as the kernel knows it: its number alone may be another's tomorrow."""

    pid: int
    began: int


class Seen(NamedTuple):
    """What the process table says of a process."""

    parent: int
    state: str
    words: str


def table() -> dict[Process, Seen]:
    """All processes of the machine."""
    found = {}
    for folder in Path("/proc").iterdir():
        if folder.name.isdigit():
            try:
                fields = (folder / "stat").read_text(errors="replace").rpartition(")")[2].split()
                words = (folder / "cmdline").read_bytes().decode(errors="replace")
            except OSError:
                continue
            found[Process(int(folder.name), int(fields[19]))] = Seen(int(fields[1]), fields[0], words)
    return found


def family(pid: int) -> dict[Process, Seen]:
    """A process and all that descend from it, elder ones first."""
    every = table()
    found = {process: seen for process, seen in every.items() if process.pid == pid}
    while more := {
        process: seen
        for process, seen in every.items()
        if process not in found and seen.parent in {one.pid for one in found}
    }:
        found |= more
    return found


def alive(processes: set[Process], mark: str) -> list[str]:
    """Those of the processes that live, and any other whose command line bears the mark."""
    marked = mark.encode().hex()  # a cage is told in hexadecimal where it may work
    return [
        f"{process.pid} {seen.state} {seen.words[:60]}"
        for process, seen in table().items()
        if (process in processes or mark in seen.words or marked in seen.words) and seen.state not in "ZX"
    ]


def gone(processes: set[Process], mark: str) -> list[str]:
    """What still lives of them when all have had time to end."""
    until = time.monotonic() + 60
    while (found := alive(processes, mark)) and time.monotonic() < until:
        time.sleep(0.02)
    return found


class Run(NamedTuple):
    """A run of recorded outputs in a folder of its own."""

    folder: Path

    @property
    def command(self) -> list[str]:
        recorded = f"replay:{self.folder}/outputs.jsonl"
        what = ["-m", recorded, "-b", "codex-eval:pass@1", "-B", f"n={SAMPLES}", "--data", f"{self.folder}/data.jsonl"]
        return [sys.executable, "-m", "evalkit", "run", *what, "--out", str(self.folder / "runs"), "--json"]

    @property
    def places(self) -> Path:
        return self.folder / "places"

    def start(self) -> subprocess.Popen[str]:
        env = {**os.environ, "TMPDIR": str(self.places)}
        return subprocess.Popen(self.command, env=env, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)

    def verdicts(self) -> int:
        """How many have been kept."""
        return sum(len(path.read_bytes().splitlines()) for path in self.folder.glob("runs/*/*/verdicts.jsonl"))

    def records(self) -> bytes:
        (path,) = self.folder.glob("runs/*/*/records.jsonl")
        return path.read_bytes()

    def positions(self) -> list[int]:
        """Those of the verdicts, in the order in which they were kept."""
        (path,) = self.folder.glob("runs/*/*/verdicts.jsonl")
        return [json.loads(line)["position"] for line in path.read_bytes().splitlines()]


def prepared(folder: Path) -> Run:
    """Forty times the same small problem, each with right, wrong and slow samples."""
    folder.chmod(0o755)
    (folder / "places").mkdir()
    row = problems.DATA.sample[0]
    right = row["canonical_solution"]
    wait = "    import time; time.sleep(0.4)\n"  # so that a run is not over before it is disturbed
    samples = [right, wait + right, "    return value\n", "    return (\n", wait + "    raise ValueError\n", right]
    names = [f"Made/{number}" for number in range(ROWS)]
    rows = "".join(json.dumps({**row, "task_id": name}) + "\n" for name in names)
    (folder / "data.jsonl").write_text(rows)
    outputs = "".join(json.dumps({"id": name, "texts": samples}) + "\n" for name in names)
    (folder / "outputs.jsonl").write_text(outputs)
    return Run(folder)


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    """The records of a run that nobody disturbed."""
    run = prepared(tmp_path_factory.mktemp("undisturbed"))
    process = run.start()
    _, told = process.communicate(timeout=300)
    assert process.returncode == 0, told
    first = json.loads(run.records().splitlines()[0])
    assert first["verdict"]["reasons"] == [
        "passed",
        "passed",
        "wrong-answer",
        "syntax-error",
        "exception ValueError",
        "passed",
    ]
    return run.records()


def working(run: Run, process: subprocess.Popen[str], verdicts: int) -> dict[Process, Seen]:
    """The family of a run once it has kept so many verdicts more."""
    wanted = run.verdicts() + verdicts
    until = time.monotonic() + 120
    while run.verdicts() < wanted:
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < until
        time.sleep(0.002)
    return family(process.pid)


def main_process(found: dict[Process, Seen]) -> int:
    return next(iter(found)).pid


def judge(found: dict[Process, Seen]) -> int:
    return next(process.pid for process, seen in found.items() if "from inside import judge" in seen.words)


def cage(found: dict[Process, Seen]) -> int:
    main = main_process(found)
    return next(
        process.pid
        for process, seen in found.items()
        if seen.parent == main and "from inside import cage" in seen.words
    )


def fork_server(found: dict[Process, Seen]) -> int:
    """The cage's child where that is the first of a namespace; else the cage itself, whose children are candidates."""
    outer = cage(found)
    children = [process.pid for process, seen in found.items() if seen.parent == outer]
    return next((pid for pid in children if levels_of(pid) > levels_of(outer)), outer)


def levels_of(pid: int) -> int:
    """In how many process namespaces, one within the other, it has a number."""
    try:
        status = Path(f"/proc/{pid}/status").read_text()
    except OSError:  # a candidate that has just ended
        return 0
    return len(status.partition("NSpid:")[2].partition("\n")[0].split())


def busy(found: dict[Process, Seen]) -> bool:
    """Whether the first worker has begun, and a candidate has been born for it."""
    try:
        server = fork_server(found)
        return judge(found) > 0 and any(seen.parent == server for seen in found.values())
    except StopIteration:
        return False


def candidate(found: dict[Process, Seen]) -> int:
    """The youngest process of a cage."""
    server = fork_server(found)
    children = [process for process, seen in found.items() if seen.parent == server]
    return max(children, key=lambda one: one.began).pid if children else server


def test_when_the_main_process_is_killed_nothing_survives_and_the_run_is_completed(
    tmp_path: Path, undisturbed: bytes
) -> None:
    run = prepared(tmp_path)
    for kill in range(3):
        process = run.start()
        found = working(run, process, 6)
        assert len(found) >= 5, found
        process.kill()
        process.communicate()
        assert gone(set(found), str(run.places)) == [], f"kill {kill}"
    kept = run.verdicts()
    assert 18 <= kept < ROWS
    process = run.start()
    _, told = process.communicate(timeout=300)
    assert process.returncode == 0, told
    assert sorted(run.positions()) == list(range(ROWS))
    assert run.records() == undisturbed


@pytest.mark.parametrize("victim", [judge, cage, fork_server, candidate], ids=lambda victim: victim.__name__)
def test_when_a_process_of_the_sandbox_is_killed_the_run_goes_on(
    tmp_path: Path, undisturbed: bytes, victim: Callable[[dict[Process, Seen]], int]
) -> None:
    run = prepared(tmp_path)
    process = run.start()
    seen: set[Process] = set()
    for _ in range(3):
        found = working(run, process, 6)
        seen |= set(found)
        try:
            os.kill(victim(found), signal.SIGKILL)
        except ProcessLookupError:  # a candidate lives for milliseconds
            assert victim is candidate
    _, told = process.communicate(timeout=300)
    assert process.returncode == 0, told
    assert gone(seen, str(run.places)) == []
    assert list(run.places.iterdir()) == []
    assert sorted(run.positions()) == list(range(ROWS))
    if victim is not candidate:
        assert run.records() == undisturbed
        return
    differ = [
        reason for reason, other in zip(reasons(run.records()), reasons(undisturbed), strict=True) if reason != other
    ]
    assert differ == ["killed SIGKILL"] * len(differ)
    assert len(differ) <= 3


def reasons(records: bytes) -> list[str]:
    return [reason for line in records.splitlines() for reason in json.loads(line)["verdict"]["reasons"]]


def test_when_it_is_interrupted_nothing_survives_and_it_says_how_to_go_on(tmp_path: Path, undisturbed: bytes) -> None:
    run = prepared(tmp_path)
    before = signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell may have it ignored
    process = run.start()
    signal.signal(signal.SIGINT, before)
    found = working(run, process, 6)
    process.send_signal(signal.SIGINT)
    _, told = process.communicate(timeout=300)
    assert process.returncode == 75
    assert told.splitlines()[-1].startswith(f"Stopped: {ROWS} of {ROWS} responses are kept in ")
    assert ("Traceback" in told, "ignored" in told) == (False, False)
    assert gone(set(found), str(run.places)) == []
    assert list(run.places.iterdir()) == []
    again = run.start()
    _, told = again.communicate(timeout=300)
    assert again.returncode == 0, told
    assert sorted(run.positions()) == list(range(ROWS))
    assert run.records() == undisturbed


#: Runs two programs that wait and work for an hour, in a sandbox with the layers that its arguments name.
_BUSY = """
import sys
from evalkit_sandbox import Check, Limits, Program, Sandbox
check = Check(setup="def f(): pass", test="def check(f): f()", entry_point="f")
bodies = "import time; time.sleep(3600)", "[0 for _ in iter(int, 1)]"
with Sandbox(layers=sys.argv[1:], limits=Limits(work=3600, idle=3600), workers=2) as box:
    print("ready", flush=True)
    list(box.run_all((body, Program(source=f"def f(): {body}", check=check)) for body in bodies))
"""


@pytest.mark.parametrize("namespaces", [True, False], ids=["namespaces", "no namespaces"])
@pytest.mark.parametrize("victim", [main_process, judge, fork_server], ids=lambda victim: victim.__name__)
def test_programs_end_with_whoever_is_killed(victim: Callable[[dict[Process, Seen]], int], namespaces: bool) -> None:
    layers = prove().layers - (set() if namespaces else {"namespaces"})
    if namespaces and "namespaces" not in layers:
        pytest.skip("this machine refuses namespaces")
    process = subprocess.Popen([sys.executable, "-c", _BUSY, *layers], stdout=subprocess.PIPE, text=True)
    try:
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
        until = time.monotonic() + 120
        while not busy(found := family(process.pid)):
            assert process.poll() is None
            assert time.monotonic() < until
            time.sleep(0.02)
        killed = victim(found)
        worker = set(family(killed))
        assert len(worker) >= (1 if victim is judge else 2)
        os.kill(killed, signal.SIGKILL)
        if victim is not main_process:
            assert gone(worker, "no other") == []
            assert process.poll() is None
            found |= family(process.pid)
            process.kill()
        process.wait()
        assert gone(set(found), "no other") == []
    finally:
        process.kill()
        process.communicate()
