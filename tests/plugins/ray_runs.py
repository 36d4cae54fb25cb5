"""Whole runs, with something that happens in their midst."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.evalkit.small import Notes, no_dataset

from evalkit import models
from evalkit.benchmark import Benchmark
from evalkit.load import Choice, Wishes
from evalkit.plugins import Plugins
from evalkit.run import run


@dataclass
class Acting(Notes):
    """Does something once so many responses are kept."""

    after: int = 0
    act: Callable[[], object] = print

    def answered(self, score: float | None) -> None:
        super().answered(score)
        if len(self.scores) == self.after:
            self.act()


def ran(
    model: str, options: Mapping[str, str], out: Path, benchmark: Benchmark[Any], watch: Notes | None = None
) -> tuple[bytes, list[int]]:
    """The records of a run, and the positions in its journal."""
    made = models.make(Plugins(), model, options)
    choice = Choice(asked=benchmark.setting, benchmark=benchmark, options={})
    try:
        summary = run(choice, made, Wishes(out=out), open_dataset=no_dataset, versions={}, watch=watch or Notes())
    finally:
        made.backend.close()
    folder = Path(summary["run"])
    lines = (folder / "responses.jsonl").read_bytes().splitlines()
    return (folder / "records.jsonl").read_bytes(), [json.loads(line)["position"] for line in lines]
