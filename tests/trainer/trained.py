"""Runs of a tiny model on this process, or on ranks of their own, for the tests of training."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from trainer.training.settings import Settings
from trainer.watching.alarms import Alarm, Rules, alarm
from trainer.watching.told import Entry, HeldOut, Ran, Saved, Start


@dataclass
class Told:
    """A watch that remembers what it was told, and raises the alarms that rank 0's raises."""

    rules: Rules = field(default_factory=Rules)
    starts: list[Start] = field(default_factory=list)
    entries: list[Entry] = field(default_factory=list)
    held_out: list[HeldOut] = field(default_factory=list)
    commands: list[Ran] = field(default_factory=list)
    saves: list[Saved] = field(default_factory=list)
    said: list[str] = field(default_factory=list)
    ends: list[str] = field(default_factory=list)

    def started(self, start: Start) -> None:
        self.starts.append(start)

    def stepped(self, entry: Entry) -> None:
        self.entries.append(entry)
        if reason := alarm(self.entries, self.rules):
            raise Alarm(reason)

    def evaluated(self, held_out: HeldOut) -> None:
        self.held_out.append(held_out)

    def ran(self, ran: Ran) -> None:
        self.commands.append(ran)

    def saved(self, saved: Saved) -> None:
        self.saves.append(saved)

    def say(self, text: str) -> None:
        self.said.append(text)

    def ended(self, how: str) -> None:
        self.ends.append(how)

    @property
    def losses(self) -> list[float]:
        return [one.loss for one in self.entries]


def settings(source: Path, data: Path, out: Path, **changes: Any) -> Settings:
    """A recipe of a few steps in fp32 in which every rank has several micro-steps."""
    told: dict[str, Any] = {
        "batch": 16,
        "learning_rate": 1e-3,
        "tokens": 300,
        "max_steps": 6,
        "precision": "fp32",
    } | changes
    return Settings(model=str(source), data=str(data), out=str(out), **told)


def weights(out: Path) -> str:
    """SHA-256 of the exported weights."""
    return hashlib.sha256((out / "model" / "model.safetensors").read_bytes()).hexdigest()


def checkpoints(out: Path) -> list[str]:
    """What is in the folder of checkpoints."""
    return sorted(one.name for one in (out / "checkpoints").iterdir())


def log(out: Path) -> list[dict[str, Any]]:
    """The steps that the log holds."""
    lines = map(json.loads, (out / "log.jsonl").read_text().splitlines())
    return [line for line in lines if "loss" in line]
