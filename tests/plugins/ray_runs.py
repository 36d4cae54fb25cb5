"""Whole runs, with something that happens in their midst, of backends that workers find."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from tests.evalkit.small import Notes, no_dataset, put_distribution

from evalkit import models
from evalkit.benchmark import Benchmark
from evalkit.load import Choice, Wishes
from evalkit.plugins import Plugins
from evalkit.run import run

FRAGILE = Path(__file__).with_name("ray_fragile.py").read_text()
#: Seconds for replicas to be placed where that they are is not in question.
PATIENCE = 240.0


def put_fragile(site: Path, patch: pytest.MonkeyPatch) -> None:
    """Have this process and those it starts find the backends of ``ray_fragile``, installed in a folder."""
    put_distribution(site, "evalkit-fragile", "evalkit.backends:fragile", code=FRAGILE)
    put_distribution(site, "evalkit-chunked", "evalkit.backends:chunked", code=FRAGILE)
    patch.syspath_prepend(str(site))
    patch.setenv("PYTHONPATH", str(site))


def pids(folder: Path) -> list[int]:
    """The processes that have opened a model of ``ray_fragile`` named by a folder, in this order."""
    return [int(path.readlink().name) for path in sorted(folder.iterdir(), key=lambda path: int(path.name))]


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
