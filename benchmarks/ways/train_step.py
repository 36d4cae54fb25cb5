"""What a way to train is asked for and what it counts; shared by `train.py` beside this and its peers' file."""

from __future__ import annotations

import itertools
import time
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

MASKED = -100
LIMIT = 2048
RATE = 2e-5
#: One that changes no weight, and is none that anybody refuses.
NO_RATE = 1e-30


@dataclass
class Counted:
    """What the step was, as its model saw it, and what it took."""

    #: Token slots that the layers computed, padding included, and pairs of slots that attention did.
    slots: int = 0
    pairs: int = 0
    #: Positions at which the head was computed.
    heads: int = 0
    micros: int = 0
    seconds: float = 0.0
    wall: float = 0.0
    loss: float = 0.0
    #: Of the step's wall time, the share outside forward, backward and update; only ours tells.
    outside: float = 0.0
    _began: tuple[float, float] = field(default=(0.0, 0.0), repr=False)

    def start(self) -> None:
        """The step begins."""
        self._began = time.process_time(), time.perf_counter()

    def stop(self) -> None:
        """The step has ended."""
        self.seconds, self.wall = time.process_time() - self._began[0], time.perf_counter() - self._began[1]


@dataclass(frozen=True, kw_only=True)
class Asked:
    """What a way is asked to do: one optimizer step on all examples."""

    folder: Path
    #: ``examples`` or ``warm``.
    name: str
    #: Examples to a micro-batch; for ours, which fills a row with whole examples, how many of the longest it takes.
    size: int
    precision: str
    rate: float


Examples = list[tuple[list[int], list[int]]]


def read(asked: Asked) -> Examples:
    """Ids and labels of each example."""
    arrays = np.load(asked.folder / f"{asked.name}.npz")
    labels = np.where(arrays["learnt"], arrays["ids"], MASKED)
    ends = [0, *arrays["ends"].tolist()]
    spans = [slice(*one) for one in itertools.pairwise(ends)]
    return [(arrays["ids"][one].tolist(), labels[one].tolist()) for one in spans]
