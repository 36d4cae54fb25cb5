"""Ranks of `trainer train` that are killed at random moments, for a test and a benchmark that does it more often."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from trainer.launching.ports import meeting_port
from trainer.training.settings import Resolved, Settings

if TYPE_CHECKING:
    from collections.abc import Iterator

#: Seconds that a rank is given: for its start, or to notice that another one is gone.
PATIENCE = 600

#: `trainer train` whose rank 0 goes no further than a step until its standard input ends: who kills it may be slow.
HELD = """
import sys
from trainer.cli import main
from trainer.watching.watch import Writer

stepped, last = Writer.stepped, int(sys.argv.pop())

def held(self, entry):
    stepped(self, entry)
    if entry.step == last:
        sys.stdin.read()

Writer.stepped = held
main()
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Kill:
    """What is done to a run: during a ``step`` or a ``save``, to ``one`` rank or to ``all``."""

    during: str
    whom: str
    #: The part of a step or of a save after which it happens; it may be over by then, which is a moment, too.
    after: float

    @classmethod
    def random(cls, chance: random.Random) -> Kill:
        """One of the four kinds, at a random moment."""
        return cls(during=chance.choice(("step", "save")), whom=chance.choice(("one", "all")), after=chance.random())


@dataclass(frozen=True, slots=True, kw_only=True)
class Killed:
    """What became of it."""

    #: Steps that the log tells of, and the newest checkpoint that was left.
    step: int
    saved: int
    #: Whether an unfinished checkpoint was left.
    torn: bool
    #: The exit code of the rank that was left alive, None where there was none.
    code: int | None


def recipe(settings: Settings, path: Path) -> Path:
    """A file that `trainer train` reads as these settings."""
    sources = dict.fromkeys(Settings.__slots__, "test")
    path.write_text(Resolved(settings=settings, sources=sources).toml())
    return path


@contextmanager
def started(path: Path, ranks: int, last: int = 0) -> Iterator[list[subprocess.Popen[bytes]]]:
    """The ranks of a run, each a process as a launcher starts it; killed at the latest when the context ends.

    With ``last`` they go no further than that step until the standard input of rank 0 is closed.
    """
    program = ["-c", HELD, "train", str(path), str(last)] if last else ["-m", "trainer", "train", str(path)]
    running = []
    with meeting_port() as port:
        meeting = {"WORLD_SIZE": str(ranks), "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}
        try:
            for rank in range(ranks):
                environment = os.environ | meeting | {"RANK": str(rank), "LOCAL_RANK": str(rank)}
                given = subprocess.PIPE if last and not rank else None
                with path.with_name(f"rank-{rank}.txt").open("ab") as said:
                    command = [sys.executable, *program]
                    running.append(subprocess.Popen(command, env=environment, stdin=given, stdout=said, stderr=said))
            yield running
        finally:
            for one in running:
                one.kill()
                one.wait()
                if one.stdin:
                    one.stdin.close()


@contextmanager
def hearing() -> Iterator[None]:
    """Have this process, and those that it starts meanwhile, hear Ctrl-C: a shell's background job ignores it."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)


def finished(path: Path, ranks: int) -> list[int]:
    """Let a run come to its end; the exit codes of its ranks."""
    with started(path, ranks) as running:
        return [one.wait(timeout=PATIENCE) for one in running]


def killed(path: Path, out: Path, ranks: int, kill: Kill, chance: random.Random, *, most: int = 0) -> Killed | None:
    """Start a run, or let it go on, and kill it with SIGKILL; None where it had come to its end before.

    With ``most``, at least 2, it does no more steps than that before it is killed.
    """
    before = steps(out)
    with started(path, ranks, before + most if most else 0) as running:
        alive = [one.poll for one in running]
        if not until(lambda: steps(out) > before, alive):
            return None
        began = time.perf_counter()
        if not until(lambda: steps(out) > before + 1, alive):
            return None
        length = time.perf_counter() - began
        if kill.during == "save" and not until(
            lambda: any((out / "checkpoints").glob("*.part")) or 0 < most <= steps(out) - before, alive
        ):
            return None
        time.sleep(kill.after * (length if kill.during == "step" else length / 4))
        struck = running if kill.whom == "all" else [chance.choice(running)]
        for one in struck:
            one.send_signal(signal.SIGKILL)
        if running[0].stdin:
            running[0].stdin.close()
        left = [one for one in running if one not in struck]
        code = left[0].wait(timeout=PATIENCE) if left else None
    whole = sorted(one.name for one in (out / "checkpoints").glob("step-*") if one.name[5:].isdigit())
    return Killed(
        step=steps(out),
        saved=int(whole[-1][5:]) if whole else 0,
        torn=any((out / "checkpoints").glob("*.part")),
        code=code,
    )


def steps(out: Path) -> int:
    """The last step that a run's log tells of."""
    try:
        lines = (out / "log.jsonl").read_bytes().splitlines()
    except FileNotFoundError:
        return 0
    return sum(b'"dataset_loss"' in line for line in lines)


def until(true: Callable[[], bool], alive: list[Callable[[], int | None]]) -> bool:
    """Wait for something; False where one of those who are to be alive has ended before."""
    end = time.monotonic() + PATIENCE
    while not true():
        if any(code() is not None for code in alive):
            return False
        assert time.monotonic() < end, "nothing happened"
        time.sleep(0.001)
    return True
