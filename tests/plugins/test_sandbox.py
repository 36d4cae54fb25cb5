"""The sandbox: what becomes of programs, in what order, within which limits, and what a machine is worth."""

from __future__ import annotations

import json
import os
import re
import select
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from itertools import islice
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

import evalkit_sandbox
from evalkit import EvalkitError
from evalkit.cli import evalkit
from evalkit_sandbox import LAYERS, REASONS, Check, Limits, Outcome, Program, Sandbox, Standing, levels, prove, require
from evalkit_sandbox.inside import clocks, trial
from evalkit_sandbox.inside.orders import Candidate
from evalkit_sandbox.sandbox import _Round
from evalkit_sandbox.worker import UIDS, Worker, is_root

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="the sandbox needs Linux")

LEVEL_B = frozenset(LAYERS) - {"namespaces"}
#: What is left when nothing keeps programs from files, sockets and processes. Root's are another user's all the same.
WEAK = frozenset({"uid", "rlimits"})
#: For programs that are stopped for their work, and for those that are stopped for waiting: the other must not decide.
BUSY = Limits(work=0.2, idle=60)
IDLE = Limits(work=60, idle=0.2)
#: For programs that are not to be stopped, however slow the machine.
AMPLE = Limits(work=60, idle=60)
ADD = Check(
    setup="def add(a, b):\n    pass\n",
    test="def check(candidate):\n    assert candidate(1, 2) == 3\n",
    entry_point="add",
)
RIGHT = "    return a + b"
WRONG = "    return a - b"
ENDLESS = "    while True: pass"
#: Goes on for a while under `AMPLE`, and without an end under a narrow limit: however late a judge looks, it is at it.
#: How much work it may do shows in the limit that the kernel keeps.
ON = "    import resource, time\n    on = 0.5 if resource.getrlimit(resource.RLIMIT_CPU)[0] > 100 else 600\n"
WORKS = f"{ON}    while time.process_time() < on: pass\n    return 3"
WAITS = f"{ON}    time.sleep(on); return 3"
as_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root can become another user")


def add(body: str, check: Check = ADD) -> Program:
    return Program(source=f"def add(a, b):\n{body}\n", check=check)


def checking(test: str, **fields: str) -> Check:
    return replace(ADD, test=f"def check(candidate):\n    {test}\n", **fields)


@pytest.fixture(scope="module", params=[frozenset(LAYERS), LEVEL_B], ids=["namespaces", "no namespaces"])
def box(request: pytest.FixtureRequest) -> Iterator[Sandbox]:
    """A sandbox of one worker, where the machine lets it have the layers; closed behind the last test."""
    try:
        made = Sandbox(layers=request.param, limits=AMPLE, workers=1).__enter__()
    except EvalkitError as error:
        pytest.skip(str(error))
    yield made
    made.close()


@pytest.fixture(scope="module")
def two() -> Iterator[Sandbox]:
    """A sandbox of two workers with the layers that this machine gives."""
    with Sandbox(layers=prove().layers, limits=AMPLE, workers=2) as made:
        yield made


# What becomes of programs


@pytest.mark.parametrize(
    ("body", "reason"),
    [
        (RIGHT, "passed"),
        (WRONG, "wrong-answer"),
        ("    return None", "wrong-answer"),
        ("    return 3.0", "passed"),
        ("    return type('Three', (int,), {})(3)", "passed"),
        ("    return add", "not-plain"),
        ("    return type('Yes', (), {'__eq__': lambda *_: True})()", "not-plain"),
        ("    return iter([3])", "not-plain"),
        ("    return c", "exception NameError"),
        ("    raise KeyboardInterrupt", "exception KeyboardInterrupt"),
        ("    raise type('\\x1b[31m' + 'x' * 99, (Exception,), {})", f"exception ?[31m{'x' * 55}"),
        ("    assert False", "exception AssertionError"),
        ("    return (", "syntax-error"),
        ("\x00", "syntax-error"),
        ("    return '\ud800'", "syntax-error"),
        ("    raise SystemExit", "ended-early"),
        ("    import os; os._exit(0)", "ended-early"),
        ("    import os; os.closerange(0, 50); return 3", "ended-early"),
        ("    import ctypes; ctypes.string_at(0)", "killed SIGSEGV"),
        ("    while True: pass", "timed-out cpu"),
        ("    import time; time.sleep(600)", "timed-out wall"),
        ("    return bytearray(2 << 30)", "out-of-memory"),
        ("    return [0] * 200_000", "too-large"),
        ("    return 2 ** (9 << 20)", "too-large"),
        ("    found = []; found.append(found); return found", "too-large"),
        ("    import os; os.write(3, b'\\1\\0\\0\\0A'); return 3", "malformed"),
        ("    print('x' * 10 ** 6); return 3", "passed"),
        ("    return input()", "exception EOFError"),
        ("    import os; os.fork(); return 3", "exception PermissionError"),
        ("    import subprocess; subprocess.run(['true']); return 3", "exception PermissionError"),
        ("    import socket; socket.socket(); return 3", "exception PermissionError"),
        ("    import os; return 3 + len(os.environ)", "passed"),
        ("    import os; return 3 + len(os.listdir())", "passed"),
        ("    open('x', 'w').write('x'); return 2 + len(open('x').read())", "passed"),
        ("    open('x', 'w').write('x' * (2 << 20)); return 3", "exception OSError"),
        ("    import numpy; return 3", "exception ModuleNotFoundError"),
        ("    import os; return 3 if 0 not in os.getresuid() else 0", "passed"),
        ("    from xml.etree import ElementTree\n    import asyncio, decimal, sqlite3; return 3", "passed"),
        ("    import concurrent.futures as c\n    return sum(c.ThreadPoolExecutor(4).map(abs, (1, 2)))", "passed"),
        ("    return a + b if __name__ != '__main__' else 0", "passed"),
    ],
)
def test_reasons(box: Sandbox, body: str, reason: str) -> None:
    outcome = box.run(add(body), limits={"timed-out cpu": BUSY, "timed-out wall": IDLE}.get(reason, AMPLE))
    assert (outcome.reason, outcome.passed) == (reason, reason == "passed")
    assert reason.partition(" ")[0] in REASONS


def test_a_program_that_defines_no_function_of_that_name(box: Sandbox) -> None:
    assert box.run(Program(source="def sub(a, b): return 3", check=ADD)).reason == "exception NameError"


def test_nothing_is_left_for_the_next_program(box: Sandbox) -> None:
    leaves = "    import os, builtins; open('x', 'w'); builtins.x = os.x = 1; os.umask(0); os.chdir('/'); return 3"
    finds = "    import os, builtins; return len(os.listdir()) + hasattr(builtins, 'x') + hasattr(os, 'x') + 3"
    found = box.run_all(enumerate(map(add, (leaves, finds, leaves, finds))))
    assert [outcome.reason for _, outcome in found] == ["passed"] * 4


def test_a_program_keeps_its_state_between_calls(box: Sandbox) -> None:
    check = checking("assert [candidate(0, 0) for _ in range(3)] == [1, 2, 3]")
    counts = "    global n\n    n += 1\n    return n\nn = 0"
    assert box.run(add(counts, check)).reason == "passed"


def test_what_a_test_calls_with_comes_and_goes_as_it_is(box: Sandbox) -> None:
    plain = "None, True, -1, 2 ** 70, 0.1, -0.0, float('inf'), 1j, 'ä\\0\\ud800', b'b', bytearray(b'c'), range(3)"
    values = f"[{plain}, (1,), {{1}}, frozenset(), {{'a': [{{}}]}}]"
    check = checking(f"given = {values}\n    assert repr(candidate(given, b={{}})) == repr((given, {{}}))")
    assert box.run(add("    return a, b", check)).reason == "passed"


def test_arguments_that_a_program_changes_stay_as_they_were_for_the_test(box: Sandbox) -> None:
    check = checking("given = [1]\n    candidate(given, given)\n    assert given == [1]")
    assert box.run(add("    a.append(b)", check)).reason == "passed"


def test_what_a_program_took_is_measured(box: Sandbox) -> None:
    bodies = (
        "    import time\n    while time.process_time() < 1: pass\n    return 3",
        "    import time; time.sleep(0.3); return 3",
        "    return len(bytearray(b'x') * (200 << 20)) and 3",
    )
    busy, idle, large = (box.run(add(body), limits=AMPLE) for body in bodies)
    assert [one.reason for one in (busy, idle, large)] == ["passed"] * 3
    assert 0.99 < busy.cpu < 1.3
    assert 0.17 < busy.work < 4
    assert (idle.wall > 0.3, idle.cpu < 0.1, idle.work < 0.1) == (True, True, True)
    assert 200 << 20 < large.memory < 280 << 20
    assert idle.memory < 60 << 20


def test_all_reasons_have_a_meaning_and_only_one_is_a_success() -> None:
    made = [Outcome(reason=reason, wall=0, cpu=0, work=0, memory=0) for reason in REASONS]
    assert [one.reason for one in made if one.passed] == ["passed"]
    assert all(REASONS.values())


# Limits


@pytest.mark.parametrize(
    ("body", "wide", "narrow", "reason"),
    [
        (WORKS, AMPLE, Limits(work=0.1, idle=60), "timed-out cpu"),
        (WAITS, AMPLE, Limits(work=3, idle=0.1), "timed-out wall"),
        (WAITS, AMPLE, Limits(wall=0.2), "timed-out wall"),
        (WORKS, AMPLE, Limits(wall=0.2), "timed-out wall"),
        ("    return len(bytearray(200 << 20)) and 3", AMPLE, AMPLE._replace(memory=150 << 20), "out-of-memory"),
    ],
)
def test_a_run_can_be_narrower_than_its_sandbox(
    *, two: Sandbox, body: str, wide: Limits, narrow: Limits, reason: str
) -> None:
    assert two.run(add(body), limits=wide).reason == "passed"
    assert two.run(add(body), limits=narrow).reason == reason
    assert two.run(add(RIGHT)).reason == "passed"


@pytest.mark.parametrize(
    ("limits", "body", "reason"),
    [
        (AMPLE._replace(memory=256 << 20), "    return len(bytearray(400 << 20)) and 3", "out-of-memory"),
        (AMPLE._replace(file=1 << 10), "    return open('x', 'w').write('x' * 20_000) and 3", "exception OSError"),
        (
            AMPLE._replace(descriptors=12),
            "    return len([open('/dev/null') for _ in range(12)]) and 3",
            "exception OSError",
        ),
    ],
)
def test_a_run_cannot_be_wider_than_its_sandbox(limits: Limits, body: str, reason: str) -> None:
    with Sandbox(layers=prove().layers, limits=limits, workers=1) as box:
        assert box.run(add(RIGHT)).reason == "passed"
        for wider in (None, AMPLE):
            assert box.run(add(body), limits=wider).reason == reason


def test_a_program_that_waits_for_its_turn_is_not_timed_out(two: Sandbox) -> None:
    """Six that work, two at a time: on the clock they take more than one may wait."""
    works = add("    import time\n    while time.process_time() < 2: pass\n    return 3")
    limits = Limits(work=20, idle=4)
    found = dict(two.run_all(((number, works) for number in range(6)), limits=limits))
    assert [found[number].reason for number in range(6)] == ["passed"] * 6


# Order


def test_each_outcome_comes_once_under_its_key(two: Sandbox) -> None:
    bodies = {number: RIGHT if number % 3 else WRONG for number in range(60)}
    found = list(two.run_all((number, add(body)) for number, body in bodies.items()))
    assert len(found) == 60
    assert {number: outcome.passed for number, outcome in found} == {number: number % 3 > 0 for number in range(60)}


def test_one_worker_keeps_the_order(box: Sandbox) -> None:
    assert [key for key, _ in box.run_all((number, add(RIGHT)) for number in range(20))] == list(range(20))


def test_a_slow_program_holds_up_no_quick_one(two: Sandbox) -> None:
    quick = [(number, add(RIGHT)) for number in range(12)]
    endless = two.run_all([("slow", add("    import time; time.sleep(600)")), *quick], limits=Limits(idle=3600))
    keys = [key for key, _ in islice(endless, 11)]  # all but the one that its worker has been given already
    endless.close()  # type: ignore[attr-defined]
    assert len(set(keys) & set(range(12))) == 11
    slow = add("    import time; time.sleep(1); return 3")
    assert {key for key, _ in two.run_all([("slow", slow), *quick], limits=AMPLE)} == {"slow", *range(12)}


def test_programs_are_made_as_they_are_needed(two: Sandbox) -> None:
    made = []

    def programs() -> Iterator[tuple[int, Program]]:
        for number in range(200):
            made.append(number)
            yield number, add(RIGHT)

    found = two.run_all(programs())
    next(found)
    assert len(made) < 20
    assert len(list(found)) == 199


def test_what_is_not_wanted_any_more_is_not_run_and_answers_nobody_else(two: Sandbox) -> None:
    sleeps = add("    import time; time.sleep(600); return 3")  # were one awaited, this test would take too long
    found = two.run_all([(0, add(RIGHT)), *((number, sleeps) for number in range(1, 9))], limits=Limits(idle=3600))
    assert next(found)[0] == 0
    found.close()  # type: ignore[attr-defined]
    assert dict(two.run_all([("right", add(RIGHT)), ("wrong", add(WRONG))]))["wrong"].reason == "wrong-answer"


def test_one_program_can_be_run_by_itself(two: Sandbox) -> None:
    assert [two.run(add(body)).reason for body in (RIGHT, WRONG)] == ["passed", "wrong-answer"]


def test_no_programs_have_no_outcomes(two: Sandbox) -> None:
    assert list(two.run_all([])) == []


# What is at fault is not the program


@pytest.mark.parametrize(
    ("check", "why"),
    [
        (replace(ADD, test="import no_such_module\n"), "its test cannot be loaded: ModuleNotFoundError"),
        (replace(ADD, test="def check(candidate):\n"), "its test cannot be loaded: "),
        (replace(ADD, setup="1 / 0\n"), "its test cannot be loaded: ZeroDivisionError"),
        (replace(ADD, function="other"), "its test cannot be loaded: KeyError"),
        (checking("candidate([0] * 400_000, 0)"), "its test passes more than a call can hold."),
    ],
)
def test_a_check_at_fault_is_an_error_that_names_the_program_never_a_verdict(
    two: Sandbox, check: Check, why: str
) -> None:
    with pytest.raises(EvalkitError) as caught:
        list(two.run_all([("first", add(RIGHT)), ("the culprit", add(RIGHT, check))]))
    assert str(caught.value).startswith(f"'the culprit' cannot be judged: {why}")
    assert two.run(add(RIGHT)).reason == "passed"


def test_a_reference_solution_that_fails_is_an_error_once_it_is_needed(two: Sandbox) -> None:
    check = replace(ADD, reference="def add(a, b): return 0")
    assert two.run(add(RIGHT, check)).reason == "passed"
    with pytest.raises(EvalkitError, match=r"^0 cannot be judged: its reference solution does not pass here: wrong-an"):
        two.run(add(ENDLESS, check), limits=BUSY)


def test_a_program_may_take_ten_times_as_long_as_the_reference_solution(two: Sandbox) -> None:
    busy = "    for _ in range({}): pass\n    return 3"
    slow = replace(ADD, reference=f"def add(a, b):\n{busy.format(8_000_000)}")
    quick = replace(ADD, reference=f"def add(a, b):\n{RIGHT}")
    limits = Limits(work=0.1, idle=60)
    found = [two.run(add(busy.format(24_000_000), check), limits=limits).reason for check in (slow, quick, ADD)]
    assert found == ["passed", "timed-out cpu", "timed-out cpu"]


def test_a_test_that_loops_because_of_an_answer_fails_that_answer(two: Sandbox) -> None:
    check = checking("n = candidate(1, 2)\n    while n != 3: n += 1")
    assert two.run(add(RIGHT, check)).reason == "passed"
    assert two.run(add("    return 4", check), limits=Limits()).reason == "timed-out cpu"


def test_a_judge_that_an_answer_has_stuck_is_replaced_and_the_answer_failed(monkeypatch: pytest.MonkeyPatch) -> None:
    """Within one operation no signal reaches it."""
    monkeypatch.setattr("evalkit_sandbox.sandbox._STUCK", 0.5)
    check = checking("assert 7 ** candidate(1, 2) == 343")
    with Sandbox(layers=prove().layers, workers=1) as box:
        found = box.run_all([("stuck", add("    return 60_000_000", check)), ("right", add(RIGHT, check))])
        assert {key: outcome.reason for key, outcome in found} == {"stuck": "timed-out cpu", "right": "passed"}


def test_what_a_judge_did_before_is_not_held_against_a_program(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("evalkit_sandbox.sandbox._STUCK", 3.0)
    works = "import time\n    until = time.process_time() + 1\n    while time.process_time() < until: pass"
    laborious = checking(f"{works}\n    assert candidate(1, 2) == 3")
    with Sandbox(layers=prove().layers, workers=1) as box:
        for _ in range(4):
            assert box.run(add(RIGHT, laborious), limits=AMPLE).reason == "passed"
        before = box.workers[0].pids
        assert time.clock_gettime(~before[0] << 3 | 2) > 3
        assert box.run(add("    import time; time.sleep(1.5); return 3"), limits=AMPLE).reason == "passed"
        assert box.workers[0].pids == before


def kill(box: Sandbox, which: Callable[[Worker], int], times: int) -> None:
    """Kill a process of the first worker, and of those that take its place, each when it has got to work."""
    killed: set[int] = set()
    until = time.monotonic() + 120
    while len(killed) < times and time.monotonic() < until:
        worker = box.workers[0]
        if worker.pids[0] not in killed and has_got_to_work(worker):
            os.kill(which(worker), 9)
            killed.add(worker.pids[0])
        time.sleep(0.01)


def has_got_to_work(worker: Worker) -> bool:
    """Whether a candidate has been born for it; before its first program there is none."""
    try:
        pid = server(worker)
        return bool(Path(f"/proc/{pid}/task/{pid}/children").read_text().split())
    except (OSError, IndexError):  # it has just ended
        return False


def judge(worker: Worker) -> int:
    return worker.pids[0]


def cage(worker: Worker) -> int:
    return worker.pids[1]


def server(worker: Worker) -> int:
    """The fork server: with namespaces the cage's child, else the cage itself."""
    pid = worker.pids[1]
    children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    return int(children[0]) if "namespaces" in worker.layers else pid


@pytest.mark.parametrize("victim", [judge, cage, server])
def test_a_worker_that_is_killed_is_replaced_and_its_program_run_again(
    victim: Callable[[Worker], int],
) -> None:
    sleeps = add("    import time; time.sleep(1); return 3")

    def programs(box: Sandbox) -> Iterator[tuple[str, Program]]:
        yield "sleeps", sleeps
        kill(box, victim, 1)  # asked for the second, with the first under way
        yield "wrong", add(WRONG)
        yield "right", add(RIGHT)

    with Sandbox(layers=prove().layers, workers=1) as box:
        before = box.workers[0].pids
        found = list(box.run_all(programs(box), limits=AMPLE))
        assert {key: outcome.reason for key, outcome in found} == {
            "sleeps": "passed",
            "wrong": "wrong-answer",
            "right": "passed",
        }
        assert set(box.workers[0].pids).isdisjoint(before)
        assert not any(Path(f"/proc/{pid}").exists() for pid in before)


def test_a_program_whose_processes_end_three_times_is_given_up() -> None:
    sleeps = add("    import time; time.sleep(600); return 3")
    with Sandbox(layers=prove().layers, workers=1, limits=Limits(idle=3600)) as box:
        killer = threading.Thread(target=kill, args=(box, judge, 3), daemon=True)
        killer.start()
        with pytest.raises(
            EvalkitError, match=r"^The sandbox ended 3 times while it ran a program for 'sleeps'; repeat the command\.$"
        ):
            list(box.run_all([("sleeps", sleeps)]))
        killer.join()


def test_what_a_judge_took_to_start_is_not_held_against_a_program(monkeypatch: pytest.MonkeyPatch) -> None:
    spent = {"before": 1000.0, "after": 7.0}
    with Sandbox(layers=prove().layers, workers=1) as box:
        first = box.workers[0]
        monkeypatch.setattr(_Round, "_spent", lambda one, _: spent["before" if box.workers[0] is first else "after"])
        none: Iterator[tuple[int, Program]] = iter(())
        with _Round(box._workers, none, Limits(), box) as round_:
            round_._replace(0)
            assert box.workers[0] is not first
            assert round_._began == [7.0]


def test_a_program_whose_process_is_slow_to_be_born_has_not_waited(monkeypatch: pytest.MonkeyPatch) -> None:
    """It is tried again: nothing of it has run."""
    ours, its = socket.socketpair()
    monkeypatch.setattr(trial, "_BIRTH", 3600.0)
    with ours, its:
        clock = clocks.Clock(0)
        job = trial.Job("", "", "", "add", "check", "", [])
        one = trial.Trial(job, Limits(idle=0.1), Candidate(1, ours), select.poll(), clock)
        one._look(clock.began + 3000)
        assert one.reason == ""
        with pytest.raises(trial.End):
            one._look(clock.began + 3600)
        assert one.reason == trial.UNBORN


def test_the_clock_of_a_program_begins_when_its_process_is_ready() -> None:
    ours, its = socket.socketpair()
    with ours, its:
        clock = clocks.Clock(0)
        job = trial.Job("", "", "", "add", "check", "", [])
        one = trial.Trial(job, Limits(wall=3.0), Candidate(1, ours), select.poll(), clock)
        one._look(clock.began + 50)
        clock.follow(os.getpid())
        one._look(clock.ready + 2.9)
        assert one.reason == ""
        with pytest.raises(trial.End):
            one._look(clock.ready + 3)
        assert one.reason == "timed-out wall"


# Processes


def descendants() -> set[int]:
    """All processes that descend from this one."""
    parents: dict[int, int] = {}
    for folder in Path("/proc").iterdir():
        if folder.name.isdigit():
            try:
                parents[int(folder.name)] = int((folder / "stat").read_text().rpartition(")")[2].split()[1])
            except OSError:
                continue
    found = {os.getpid()}
    while more := {pid for pid, parent in parents.items() if parent in found} - found:
        found |= more
    return found - {os.getpid()}


@pytest.mark.parametrize("namespaces", [True, False], ids=["namespaces", "no namespaces"])
def test_nothing_is_left_of_a_sandbox(namespaces: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    layers = prove().layers - (set() if namespaces else {"namespaces"})
    if namespaces and "namespaces" not in layers:
        pytest.skip("this machine refuses namespaces")
    processes, descriptors = descendants(), descriptors_of_this_process()
    leaves = add("    open('a', 'w'); open('b', 'w').write('b'); return 3")
    with tempfile.TemporaryDirectory() as folder:
        Path(folder).chmod(0o755)
        monkeypatch.setattr(tempfile, "tempdir", folder)
        with Sandbox(layers=layers, workers=2) as box:
            assert len(descendants() - processes) >= 4
            assert [outcome.reason for _, outcome in box.run_all(enumerate([leaves] * 6))] == ["passed"] * 6
            assert len(list(Path(folder).iterdir())) == 2
            found = box.run_all(enumerate([add(RIGHT), *[add("    import time; time.sleep(2); return 3")] * 4]))
            assert next(found)[1].passed
        assert box.workers == ()
        assert descendants() - processes == set()
        assert list(Path(folder).iterdir()) == []
        del found
    assert descriptors_of_this_process() == descriptors


def descriptors_of_this_process() -> set[str]:
    return {path.name for path in Path("/proc/self/fd").iterdir()}


def test_there_are_as_many_workers_as_cores() -> None:
    with Sandbox(layers=prove().layers) as box:
        assert len(box.workers) == len(os.sched_getaffinity(0))


@as_root
def test_roots_workers_are_other_users_each_its_own(two: Sandbox) -> None:
    for worker in two.workers:
        for pid in worker.pids:
            status = Path(f"/proc/{pid}/status").read_text().splitlines()
            ids = {line for line in status if line.startswith(("Uid", "Gid", "Groups"))}
            own = "\t".join([str(worker.uid)] * 4)
            assert ids == {f"Uid:\t{own}", f"Gid:\t{own}", "Groups:\t "}
    users = [worker.uid for worker in two.workers]
    assert len(set(users)) == 2
    assert set(users) <= set(UIDS)


# What a machine is worth


@pytest.fixture(scope="module")
def weak() -> Standing:
    return prove(WEAK)


def test_a_machine_is_proved_by_canaries() -> None:
    standing = prove()
    assert standing.level == ("A" if "namespaces" in standing.layers else "B")
    assert standing.holes == ()
    assert set(LAYERS) - standing.layers == set(standing.missing) | (set() if is_root() else {"uid"})
    passed = [name for name, reason in standing.canaries.items() if reason == "passed"]
    assert passed == ["honest", "honest import"]
    assert len(standing.canaries) >= 14


def test_without_namespaces_it_is_level_b() -> None:
    standing = prove(LEVEL_B)
    assert (standing.level, standing.holes) == ("B", ())
    assert "namespaces" not in standing.layers


def test_holes_make_it_level_c(weak: Standing) -> None:
    assert weak.level == "C"
    assert {"read a file", "connect", "start a process", "become another program", "signal its parent"} <= {*weak.holes}
    assert not {"read a variable", "please every test", "take too much memory", "take too much time"} & set(weak.holes)
    assert [weak.canaries[name] for name in weak.holes] == ["passed"] * len(weak.holes)


def test_without_limits_on_memory_that_is_a_hole() -> None:
    standing = prove({"uid", "namespaces", "seccomp", "capabilities", "hidden", "landlock"})
    assert standing.holes == ("take too much memory",)
    assert standing.level == "C"


def test_without_a_filter_it_is_level_c_whatever_the_canaries_find() -> None:
    assert prove(frozenset(LAYERS) - {"seccomp"}).level == "C"


def test_a_record_says_how_programs_were_kept(weak: Standing) -> None:
    about = prove(LEVEL_B).record(Limits(work=1))
    assert about["layers"] == [layer for layer in LAYERS if layer in LEVEL_B and (is_root() or layer != "uid")]
    assert (about["sandbox"], about["holes"], about["limits"]) == ("B", [], Limits(work=1)._asdict())
    assert about["kernel"] == os.uname().release
    assert json.loads(json.dumps(about)) == about
    assert "notes" not in about
    assert weak.record(Limits())["notes"] == ["programs of the model ran without a sandbox"]


@pytest.mark.parametrize("level", ["A", "B"])
@pytest.mark.parametrize("root", [False, True])
def test_levels_a_and_b_need_no_consent(level: str, root: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("EVALKIT_UNSAFE_CODE", raising=False)
    monkeypatch.setattr(levels, "is_root", lambda: root)
    require(standing(level=level), unsafe_code=False)
    with pytest.raises(EvalkitError):
        require(standing(level="C"), unsafe_code=False)


def test_a_dry_run_says_what_the_best_sandbox_takes() -> None:
    missing = {"namespaces": "not permitted"}
    (found,) = levels.findings(standing(level="B", missing=missing))
    assert (found.level, found.text) == (
        "note",
        "The sandbox here is of level B: programs run behind a filter of system calls, within limits, but see the "
        "machine's own namespaces.",
    )
    assert found.remedy.startswith("For level A: allow unprivileged user namespaces (on Ubuntu with sysctl ")
    assert list(levels.findings(standing(level="A"))) == list(levels.findings(standing(level="C"))) == []


def standing(**fields: Any) -> Standing:
    about = {"level": "C", "layers": frozenset(LAYERS), "missing": {}, "canaries": {}, "holes": ("read a file",)}
    return Standing(**about | fields)


@pytest.mark.parametrize(
    ("flag", "variable", "goes"),
    [(False, None, 0), (True, None, 0), (False, "yes", 0), (True, "1", 0), (True, "YES", 0), (True, "yes", 1)],
)
def test_below_both_consents_are_needed(
    flag: bool, variable: str | None, goes: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(levels, "is_root", lambda: False)
    monkeypatch.delenv("EVALKIT_UNSAFE_CODE", raising=False)
    if variable is not None:
        monkeypatch.setenv("EVALKIT_UNSAFE_CODE", variable)
    one = standing(missing={"landlock": "the kernel has none"})
    if goes:
        require(one, unsafe_code=flag)
        return
    with pytest.raises(EvalkitError) as caught:
        require(one, unsafe_code=flag)
    assert str(caught.value) == (
        "Programs would run without a sandbox: they can read a file. To mend it: use Linux 5.13 or newer with landlock "
        "among the modules that the boot parameter lsm= names. To go on all the same, give --unsafe-code and set "
        "EVALKIT_UNSAFE_CODE=yes, both."
    )


def test_a_real_weakness_is_refused_to_root_whatever_it_consents_to(
    weak: Standing, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("EVALKIT_UNSAFE_CODE", "yes")
    if not is_root():
        require(weak, unsafe_code=True)
        monkeypatch.setattr(levels, "is_root", lambda: True)
    with pytest.raises(
        EvalkitError, match=r"^Programs would run without a sandbox, as root's: they can .*\. That is refused\. To mend"
    ):
        require(weak, unsafe_code=True)


def test_other_systems_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "platform", "darwin")
    with pytest.raises(EvalkitError, match=r"^Programs can be run on Linux only: use a virtual machine or a container"):
        prove()


@as_root
def test_root_that_cannot_become_another_user_is_refused() -> None:
    """As in a container that knows no user but root."""
    code = (
        "from pathlib import Path\n"
        "from evalkit import EvalkitError\n"
        "from evalkit_sandbox import prove\n"
        "from evalkit_sandbox.inside import kernel\n"
        "kernel.unshare(kernel.CLONE_NEWUSER)\n"
        "Path('/proc/self/uid_map').write_text('0 0 1')\n"
        "try:\n    print(prove().level)\n"
        "except EvalkitError as error:\n    print(error)\n"
    )
    ran = subprocess.run([sys.executable, "-c", code], check=False, capture_output=True, text=True)
    if "unshare" in ran.stderr:
        pytest.skip(ran.stderr.splitlines()[-1])
    assert re.fullmatch(
        r"No program can be run here, not even without a sandbox\. A sandbox cannot be set up here: "
        r"root can give nothing to user \d{5}: Invalid argument\.\n",
        ran.stdout,
    ), ran


# The command


def invoke(*arguments: str) -> tuple[int, str]:
    result = CliRunner().invoke(evalkit, arguments, standalone_mode=False)
    assert result.exception is None, result.exception
    return result.return_value, result.output


def test_the_command_shows_what_this_machine_gives(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "200")
    code, shown = invoke("sandbox", "check")
    assert code == 0
    proved = prove()
    first, head, *lines = shown.splitlines()
    assert first == f"Level {proved.level}: {levels.LEVELS[proved.level]}."
    assert head.split() == ["layer", "what", "it", "does", "here"]
    table = {line.split()[0]: line for line in lines[: len(LAYERS)]}
    assert list(table) == list(LAYERS)
    assert all(table[layer].rstrip().endswith("yes") for layer in proved.layers)
    assert f"{len(proved.canaries)} of {len(proved.canaries)} canaries did what they should." in lines
    assert lines[-1].endswith(" A program has 3 s of work, 3 s of waiting and 1024 MiB.")


def test_the_command_prints_json_and_nothing_else() -> None:
    code, shown = invoke("sandbox", "check", "--json")
    about = json.loads(shown)
    assert code == 0
    assert about == {**prove().record(Limits()), "canaries": about["canaries"]}
    assert about["canaries"]["honest"] == "passed"
    assert about["canaries"]["take too much memory"] == "out-of-memory"


@pytest.mark.parametrize("arguments", [[], ["--json"]])
def test_below_level_b_the_command_names_holes_and_cures_and_fails(
    arguments: Sequence[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    one = standing(
        layers=frozenset(LAYERS) - {"landlock", "uid"},
        missing={"landlock": "the kernel has no Landlock, or keeps it switched off"},
        canaries={"honest": "passed", "read a file": "passed", "connect": "exception PermissionError"},
    )
    monkeypatch.setattr(levels, "prove", lambda: one)
    code, shown = invoke("sandbox", "check", *arguments)
    assert code == 1
    if arguments:
        about = json.loads(shown)
        assert (about["sandbox"], about["holes"], about["missing"]) == ("C", ["read a file"], dict(one.missing))
        return
    said = " ".join(shown.split())
    assert said.startswith("Level C: programs can reach what they must not.")
    assert (
        "landlock is missing: the kernel has no Landlock, or keeps it switched off. To have it, use Linux 5.13" in said
    )
    assert "2 of 3 canaries did what they should. A program can read a file." in said
    assert "not needed" in next(line for line in shown.splitlines() if line.startswith("uid"))


def test_the_library_offers_what_its_users_need() -> None:
    values = {"LAYERS", "Limits", "REASONS", "Check", "Program", "Outcome"}
    offered = values | {"Sandbox", "Standing", "findings", "prove", "require", "command"}
    assert set(evalkit_sandbox.__all__) == offered
    assert all(hasattr(evalkit_sandbox, name) for name in offered)
