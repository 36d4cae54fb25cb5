"""Programs written to get out, to cheat or to break something: at every level each is held, and nothing is left of it.

Each is also run once in a cage that lacks what is to stop it, where that must be noticed. ``EVALKIT_HOSTILE=all``
runs the slowest ones, too, and one level more; ``python -m tests.plugins.hostile table FILE`` writes down what is
observed.
"""

from __future__ import annotations

import os
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from tests.plugins.hostile import table
from tests.plugins.hostile.run import LEVELS, Record
from tests.plugins.hostile.suite import Hostile, everything

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="the sandbox needs Linux")

SLOW = os.environ.get("EVALKIT_HOSTILE") == "all"
PROGRAMS = {one.name: one for one in everything() if SLOW or not one.slow}
WEAK = [name for name, one in PROGRAMS.items() if one.weakened is not None]
#: At level B it is as an ordinary user that a cage is worst off: every file and process there is of one and the same.
HELD = [level for level in LEVELS if SLOW or level != "B root"]
TIMES = 3

Ran = Callable[[str, str], list[Record]]


class Batch:
    """The programs of a level, whose records come one by one: nobody waits for more of them than its own."""

    def __init__(self, level: str, names: list[str], times: int) -> None:
        self._level, self._names, self._times = level, names, times
        self._come = threading.Condition()
        self._found: dict[str, list[Record]] = {}
        self._ended = False
        self._error: Exception | None = None

    def run(self) -> None:
        """Run all; in a thread that lives as long as they do."""
        try:
            for record in table.stream(self._level, self._names, self._times):
                with self._come:
                    self._found.setdefault(record.name, []).append(record)
                    self._come.notify_all()
        except Exception as error:
            self._error = error
        finally:
            with self._come:
                self._ended = True
                self._come.notify_all()

    def of(self, name: str) -> list[Record]:
        """Those of a program; raises what kept them from coming. The last one's wait for the end, and all that is said
        until then."""
        last = name == self._names[-1]
        with self._come:
            self._come.wait_for(lambda: self._ended or (not last and len(self._found.get(name, ())) == self._times))
        if self._error:
            raise self._error
        return self._found.get(name, [])


@pytest.fixture(scope="session")
def ran(request: pytest.FixtureRequest) -> Ran:
    """What became of a program at a level; all that the chosen tests ask for begins to run before the first of them."""
    wanted: dict[str, list[str]] = {}
    for item in request.session.items:
        if item.path == Path(__file__) and isinstance(item, pytest.Function) and hasattr(item, "callspec"):
            level, name = (str(item.callspec.params[part]) for part in ("level", "name"))
            if os.geteuid() == 0 or not level.endswith("root"):
                wanted.setdefault(level, []).append(name)
    held = {level: Batch(level, names, TIMES) for level, names in wanted.items() if level in LEVELS}
    weak = {level: Batch(level, wanted[level], 1) for level in sorted(set(wanted) - set(LEVELS))}

    def run(batches: Iterator[Batch]) -> None:
        for batch in batches:
            batch.run()

    def run_all() -> None:
        # Two at a time: much of it is waiting. Those that take shared memory, which is measured, come by themselves.
        batches = iter([*held.values()])
        threads = [threading.Thread(target=run, args=(batches,), daemon=True) for _ in range(2)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        run(iter(weak.values()))

    # Whoever has had enough does not wait for the rest, which ends with its thread.
    threading.Thread(target=run_all, daemon=True).start()

    def look(level: str, name: str) -> list[Record]:
        if level.endswith("root") and os.geteuid() != 0:
            pytest.skip("only root can be tested as root")
        try:
            return (held | weak)[level].of(name)
        except table.Refused as refused:
            pytest.skip(f"this machine refuses {refused}")
        except Exception as error:  # one for hundreds of tests: no trace of it
            pytest.fail(f"level {level}: {error!s:.2000}", pytrace=False)

    return look


def _weak_level(name: str) -> str:
    return table.weak_level(PROGRAMS[name])


@pytest.mark.parametrize("name", PROGRAMS)
@pytest.mark.parametrize("level", HELD)
def test_it_is_held(ran: Ran, level: str, name: str) -> None:
    """Three times in one batch, between an honest and a wrong program, it fares as it must and nothing else happens."""
    records = ran(level, name)
    assert [record.run for record in records] == list(range(TIMES))
    assert [(record.reason, record.broken) for record in records if not table.right(PROGRAMS[name], record)] == []


@pytest.mark.parametrize(("level", "name"), [(_weak_level(name), name) for name in WEAK])
def test_a_weakened_cage_is_noticed(ran: Ran, level: str, name: str) -> None:
    (record,) = ran(level, name)
    assert table.noticed(PROGRAMS[name], record), (record.reason, record.broken)


def test_every_item_of_the_list_is_there() -> None:
    numbers = {one.number for one in everything()}
    assert numbers == set(range(1, 87)), sorted(set(range(1, 87)) - numbers)
    assert [one.name for one in everything() if one.honest != (one.number > 81)] == []


def test_what_honest_look_alikes_do_is_no_reason_to_hold_them() -> None:
    """The verdict of the table's own rules: they can fail."""
    one = Hostile(number=1, name="one", source="", reasons=("exception",), because="this is a test")
    record = Record("one", "A user", 0, "exception ValueError", 0.0, 0.0, 0.0, 0, ())
    wrong = Record("one", "A user", 0, "passed", 0.0, 0.0, 0.0, 0, ())
    broken = Record("one", "A user", 0, "exception ValueError", 0.0, 0.0, 0.0, 0, ("I3 alive: sh",))
    assert [table.right(one, found) for found in (record, wrong, broken)] == [True, False, False]
