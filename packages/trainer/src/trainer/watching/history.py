"""A run as its folder tells it: ``run.json`` and the lines of ``log.jsonl``, sorted by what they are about."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from trainer.watching import log, run_file

Line = Mapping[str, Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class History:
    """What happened in a run, in order; numbers that were not finite are None."""

    folder: Path
    #: What ``run.json`` holds.
    run: Line
    steps: Sequence[Line]
    held_out: Sequence[Line]
    commands: Sequence[Line]
    saves: Sequence[Line]
    #: Starts, warnings, alarms and ends.
    events: Sequence[Line]

    @property
    def name(self) -> str:
        """The run folder's own name."""
        return self.folder.resolve().name

    @property
    def state(self) -> str:
        """How the run stands, in a few words."""
        ends = [one["event"] for one in self.events if one["event"] != "warning"]
        if not ends or ends[-1] == "started":
            return "running, or killed"
        if self.why == "done":
            return "done"
        return "stopped by an alarm" if ends[-2:-1] == ["alarm"] else "stopped"

    @property
    def why(self) -> str:
        """What the run said when it ended last: ``done``, or why it stopped before."""
        return next((str(one["text"]) for one in reversed(self.events) if one["event"] == "ended"), "")

    @property
    def resumed(self) -> list[int]:
        """The steps behind which the run was started again."""
        return sorted({int(one["step"]) for one in self.run["starts"][1:]})

    @property
    def skipped(self) -> list[int]:
        """The steps that left the weights as they were."""
        return [int(one["step"]) for one in self.steps if one["skipped"]]

    @property
    def datasets(self) -> list[str]:
        """The names of the datasets that the log tells of, those with most supervised tokens first."""
        counts: Mapping[str, Line] = self.run["data"]["train"]["counts"]
        told = {name for line in self.steps for name in line["dataset_loss"]}
        told |= {name for line in self.held_out for name in line["held_out_datasets"]}
        return sorted(told, key=lambda name: (-int(counts.get(name, {}).get("supervised", 0)), name))

    def total(self, name: str) -> float:
        """A number of the steps, summed."""
        return sum(float(one[name] or 0) for one in self.steps)

    def curve(self, name: str) -> list[tuple[int, float | None]]:
        """A number of the steps as points."""
        return [(int(one["step"]), one[name]) for one in self.steps]

    def of_dataset(self, name: str) -> list[tuple[int, float | None]]:
        """The loss of a dataset as points, where a step had some of it."""
        found = ((int(one["step"]), one["dataset_loss"]) for one in self.steps)
        return [(step, each[name]) for step, each in found if name in each]

    def held_out_of(self, name: str = "") -> list[tuple[int, float | None]]:
        """The held-out loss as points, of a dataset or of all."""
        if not name:
            return [(int(one["step"]), one["held_out"]) for one in self.held_out]
        found = ((int(one["step"]), one["held_out_datasets"]) for one in self.held_out)
        return [(step, each[name]) for step, each in found if name in each]


def read(folder: Path) -> History:
    """The history of a run folder, whether the run has ended or not; raises DataError where there is none."""
    run = run_file.read(folder)
    path = folder / log.NAME
    lines = log.read(path) if path.exists() else []
    return History(
        folder=folder,
        run=run,
        steps=[line for line in lines if "dataset_loss" in line],
        held_out=[line for line in lines if "held_out" in line],
        commands=[line for line in lines if "command" in line],
        saves=[line for line in lines if "saved" in line],
        events=[line for line in lines if "event" in line],
    )
