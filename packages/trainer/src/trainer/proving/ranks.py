"""Runs of a recipe on ranks of their own, and how far apart they end: what the proofs of stages and resuming share.

``python -m trainer.proving.ranks JOBS`` is one rank of a launch; it does several runs one after the other, as the start
of a process costs more than their few steps.
"""

from __future__ import annotations

import json
import math
import os
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from trainer.errors import Interrupted, TrainerError
from trainer.launching.ports import meeting_port
from trainer.training import checkpoint, fragments
from trainer.training.settings import Settings

_LOSSES = "losses.json"
#: Ranks that a launch is started without, so that one in a launcher's environment can start another.
_OF_LAUNCHERS = ("RANK", "WORLD_SIZE", "LOCAL_RANK", "LOCAL_WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT")


@dataclass(frozen=True, slots=True, kw_only=True)
class Job:
    """A run up to a step, or on from the checkpoint that its folder holds."""

    settings: Settings
    until: int
    #: Whether what the model's config drops at random is dropped; ranks draw each for itself.
    dropout: bool = False


def few(settings: Settings, folder: Path, *, batch: int, steps: int, **changes: Any) -> Settings:
    """A recipe cut down to a few small steps in fp32, in which a rank reads a step's examples at once."""
    told: dict[str, Any] = {
        "out": str(folder),
        "batch": batch,
        # So that the last step of a proof is not a run's last, which would be exported.
        "max_steps": steps + 1,
        "warmup": 0.0,
        "precision": "fp32",
        "reduction": "example" if settings.reduction == "tulu1" else settings.reduction,
        "tokens": 0,
        "save_every": 0,
        "keep": 1,
        **dict.fromkeys(("time_limit", "evaluate_every"), 0),
        **dict.fromkeys(("held_out", "evaluate_command"), ""),
        "tracker": "none",
    }
    return replace(settings, **(told | changes))


def start(jobs: Sequence[Job], ranks: int, folder: Path) -> None:
    """Do jobs one after the other on so many ranks of this machine; raises TrainerError with what a failed one said."""
    folder.mkdir(parents=True, exist_ok=True)
    file = folder / "jobs.json"
    file.write_text(json.dumps([asdict(job) for job in jobs]))
    clean = {name: value for name, value in os.environ.items() if name not in _OF_LAUNCHERS}
    if 0 < torch.cuda.device_count() < ranks:
        clean["CUDA_VISIBLE_DEVICES"] = ""  # each rank needs a GPU of its own, and has the CPU where there are too few
    errors = [folder / f"rank-{rank}.txt" for rank in range(ranks)]
    processes = []
    with meeting_port() as port:
        meeting = {"WORLD_SIZE": str(ranks), "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}
        try:
            for rank, error in enumerate(errors):
                own = {"RANK": str(rank), "LOCAL_RANK": str(rank), "LOCAL_WORLD_SIZE": str(ranks)}
                with error.open("wb") as said:
                    command = [sys.executable, "-m", __spec__.name, str(file)]
                    processes.append(subprocess.Popen(command, env=clean | meeting | own, stdout=said, stderr=said))
            _wait(processes)
        finally:
            for one in processes:
                one.kill()
                one.wait()
    for process, error in zip(processes, errors, strict=True):
        if process.returncode > 0:
            lines = error.read_text(errors="replace").strip().splitlines() or ["it said nothing"]
            raise TrainerError(f"A run of the proof failed: {lines[-1]} (All of it is in {error}.)")


def _wait(processes: Sequence[subprocess.Popen[bytes]]) -> None:
    """Wait until all have ended, or one has failed: the others would wait for it."""
    while any(one.poll() is None for one in processes) and not any(one.poll() for one in processes):
        time.sleep(0.05)


class Losses:
    """A watch that keeps the losses."""

    def __init__(self) -> None:
        self.found: list[float] = []

    def stepped(self, entry: Any) -> None:
        """Keep the loss of a step."""
        self.found.append(entry.loss)

    def __getattr__(self, _: str) -> Any:
        return lambda *_: None


def losses(out: Path) -> list[float]:
    """The losses of the steps of the last job in a folder."""
    found: list[float] = json.loads((out / _LOSSES).read_text())
    return found


@dataclass(frozen=True, slots=True, kw_only=True)
class Apart:
    """How far two checkpoints are from each other."""

    #: Values, of weights and of the optimizer's means, that differ at all.
    values: int
    #: The norm of the difference of the weights, relative to the norm of the weights.
    relative: float


def apart(first: Path, second: Path) -> Apart:
    """Compare the newest checkpoints of two runs, whatever ranks and engines wrote them; one parameter at a time."""
    ours, theirs = (_stored(out) for out in (first, second))
    if ours.keys() != theirs.keys():
        raise TrainerError(f"{first} and {second} hold other parameters.")
    values, difference, norm = 0, 0.0, 0.0
    for name in ours:
        for place, _ in enumerate(fragments.KINDS):
            one, other = (_whole(stored[name], place) for stored in (ours, theirs))
            values += int((one.view(np.uint32) != other.view(np.uint32)).sum())
            if place == 0:
                difference += float(((one.astype(np.float64) - other) ** 2).sum())
                norm += float((one.astype(np.float64) ** 2).sum())
    return Apart(values=values, relative=math.sqrt(difference / norm))


def _stored(out: Path) -> Mapping[str, Any]:
    found = checkpoint.newest(out)
    if found is None:
        raise TrainerError(f"{out} holds no checkpoint.")
    return fragments.index([found.folder / name for name in found.files])


def _whole(stored: Sequence[Any], place: int) -> Any:
    """A parameter, or one of its means, from its stretches."""
    whole = np.empty(max(one.stop for one in stored), np.float32)
    for one in stored:
        whole[one.start : one.stop] = np.fromfile(one.path, np.float32, one.stop - one.start, offset=one.offsets[place])
    return whole


def main(file: str) -> None:
    """Be one rank of a launch."""
    from trainer.training import engine
    from trainer.training.train import train

    try:
        for told in json.loads(Path(file).read_text()):
            settings, watch = Settings(**told["settings"]), Losses()
            try:
                train(settings, watch, until=told["until"], dropout=told["dropout"])
            except Interrupted:
                if len(watch.found) == 0 or engine.world()[0]:
                    continue
            Path(settings.out, _LOSSES).write_text(json.dumps(watch.found))
    except TrainerError as error:
        sys.exit(str(error))
    finally:
        engine.leave()


if __name__ == "__main__":
    main(sys.argv[1])
