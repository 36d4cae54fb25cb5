"""How good the model is by now: its loss on held-out data, and whatever a command of the user's finds out."""

from __future__ import annotations

import os
import re
import shlex
import shutil
import signal
import subprocess
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from trainer.errors import DataError
from trainer.planning.plan import BATCH, Balanced, Examples
from trainer.watching.secrets import redact
from trainer.watching.told import HeldOut, Ran

if TYPE_CHECKING:
    from trainer.preparation.prepared import Prepared
    from trainer.training.batch import Batch

#: Seconds between two looks at whether a command still runs.
POLL = 0.5
#: Seconds that a command which is told to end has for that, and that its output has to come to an end behind it.
GRACE = 10.0
#: Characters of a command's last line that are kept.
LONGEST_LINE = 500
#: What launchers tell a rank of its run; a command that computes by itself must not take it for its own.
_OF_RANKS = re.compile(
    r"(LOCAL_|GROUP_|ROLE_|CROSS_)?(RANK|WORLD_SIZE)|GROUP_WORLD_SIZE|MASTER_(ADDR|PORT)|TORCHELASTIC_.*"
)


class Ranks(Protocol):
    """What an evaluation asks of an engine."""

    rank: int
    world: int

    def evaluate(self, batch: Any) -> Any:
        """Summed losses and counts of a micro-step's supervised tokens, shape (datasets, 2)."""

    def sum(self, values: Sequence[float]) -> list[float]:
        """A few numbers summed over all ranks."""


def held_out(engine: Ranks, prepared: Prepared, *, step: int, tokens: int) -> HeldOut | None:
    """The loss on all of a prepared folder, a mean over its supervised tokens; all ranks call it together.

    ``tokens`` is what a rank reads at once. The engine counts at least as many datasets as the folder has. None where
    nothing in it is predicted.
    """
    began = time.perf_counter()
    sums = [[0.0, 0.0] for _ in prepared.names]
    for batch in batches(prepared, rank=engine.rank, world=engine.world, tokens=tokens):
        for total, (loss, count) in zip(sums, engine.evaluate(batch).tolist(), strict=False):
            total[0] += loss
            total[1] += count
    flat = engine.sum([value for total in sums for value in total])
    losses, counts = flat[::2], flat[1::2]
    if not sum(counts):
        return None
    each = zip(prepared.names, losses, counts, strict=True)
    return HeldOut(
        step=step,
        loss=sum(losses) / sum(counts),
        dataset_loss={name: loss / count for name, loss, count in each if count},
        supervised=round(sum(counts)),
        seconds=round(time.perf_counter() - began, 3),
    )


def batches(prepared: Prepared, *, rank: int, world: int, tokens: int) -> Iterator[Batch]:
    """A rank's way through all examples, once; in as many batches as every other rank's, for their collectives."""
    from trainer.training import batch, weights

    lengths = prepared.lengths
    examples = Examples(lengths=lengths, batch=max(BATCH, 8 * world))
    plan = Balanced(examples=examples, ranks=world, tokens=max(tokens, int(lengths.max())))
    counts = weights.targets(prepared)
    for number in range(plan.steps):
        one = plan.step(0, number)
        # No gradient is taken: a weight only says that a target counts.
        yield from batch.read(one, rank, prepared, counts, dict.fromkeys(one.ids, 1.0))


def check(trained: Prepared, held: Prepared) -> None:
    """Raise DataError where held-out data was prepared otherwise than what is learnt, or is the same."""
    for what in ("tokenizer", "template"):
        if trained.manifest["made_of"][what] != held.manifest["made_of"][what]:
            raise DataError(
                f"{held.folder} was prepared with another {what} than {trained.folder}, so their losses cannot be "
                f"compared: prepare it anew with the same --{what}."
            )
    if trained.manifest["key"] == held.manifest["key"]:
        raise DataError(f"{held.folder} holds the very data of {trained.folder}: hold other examples out.")


def by_command(
    engine: Ranks,
    text: str,
    *,
    out: Path,
    step: int,
    export: Callable[[Path], object],
    stopping: Callable[[], bool] = lambda: False,
) -> Ran | None:
    """Run a shell command on the model as it is now; all ranks call it together, and rank 0 runs it.

    In ``text`` {model} becomes a folder that ``export`` writes and that is deleted when the command has ended, {step}
    the number of steps done, {out} a folder of this evaluation's own; other braces stay. The other ranks wait without
    a collective that could run into its time limit. Where ``stopping`` says on any rank that the run should stop, the
    command is ended. A command that fails is no error. What comes back is None on other ranks than 0.
    """
    place = out / "evaluations" / f"step-{step:06}"
    model = place / "model"
    if "{model}" in text:
        export(model)
    running = None
    if engine.rank == 0:
        place.mkdir(parents=True, exist_ok=True)
        running = Running(_filled(text, model=model, step=step, out=place), output=place / "output.txt")
    try:
        while True:
            alive, stop = engine.sum([float(running is not None and running.alive()), float(stopping())])
            if not alive or stop:
                break
            time.sleep(POLL)
    finally:
        told = None if running is None else running.end(step)
        if engine.rank == 0:
            shutil.rmtree(model, ignore_errors=True)
    return told


class Running:
    """A shell command under way, in a session of its own; its output goes to a file, secrets struck out."""

    def __init__(self, command: str, *, output: Path) -> None:
        self._command, self._output = command, output
        self._began = time.perf_counter()
        self._last = ""
        environment = {name: value for name, value in os.environ.items() if not _OF_RANKS.fullmatch(name)}
        self._process = subprocess.Popen(  # noqa: S602  # the user's own command, as their shell would run it
            command,
            shell=True,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            start_new_session=True,
            env=environment,
        )
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def alive(self) -> bool:
        """Whether it has not ended yet."""
        return self._process.poll() is None

    def end(self, step: int) -> Ran:
        """What there is to tell of it; one that still runs is ended, with all that it started."""
        for number in (signal.SIGTERM, signal.SIGKILL):
            if not self.alive():
                break
            with suppress(ProcessLookupError):
                os.killpg(self._process.pid, number)
            with suppress(subprocess.TimeoutExpired):
                self._process.wait(timeout=GRACE)
        # What it left running in the background may hold the pipe open for ever.
        self._reader.join(timeout=GRACE)
        return Ran(
            step=step,
            command=redact(self._command),
            exit_code=self._process.wait(),
            seconds=round(time.perf_counter() - self._began, 3),
            last_line=self._last[:LONGEST_LINE],
            output=self._output,
        )

    def _read(self) -> None:
        assert self._process.stdout is not None
        with self._output.open("w", encoding="utf-8") as file, self._process.stdout as pipe:
            for line in pipe:
                text = redact(line.decode(errors="replace"))
                # A bar of progress writes one line over and over.
                self._last = " ".join(text.rstrip().rpartition("\r")[2].split()) or self._last
                file.write(text)
                file.flush()


def _filled(text: str, *, model: Path, step: int, out: Path) -> str:
    """The command with its placeholders filled in, quoted for the shell; its folders are whole paths."""
    values = {"model": str(model.absolute()), "step": str(step), "out": str(out.absolute())}
    return re.sub(r"\{(model|step|out)\}", lambda found: shlex.quote(values[found[1]]), text)
