"""One way to take one optimizer step, counted and timed in this process; ``benchmarks/train.py`` compares.

    python benchmarks/ways/train.py WAY FOLDER --size 4 --precision fp32

FOLDER holds ``model`` (a checkpoint), ``examples.npz`` and ``warm.npz`` (token ids, where each example ends, and which
tokens are learnt) and for ours ``examples`` and ``warm``, the same as prepared folders. Needs only what the way needs,
so that another interpreter can run a way whose packages ours has not. A step on the warming examples with a learning
rate next to nothing comes first, so that what is done only once, as taking memory, is not counted. Prints JSON.
"""

from __future__ import annotations

import argparse
import json
import logging
import os
import tempfile
import warnings
from collections.abc import Callable
from dataclasses import replace
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import torch
from train_peers import PEERS
from train_step import LIMIT, NO_RATE, RATE, Asked, Counted


def ours(asked: Asked, counted: Counted, **more: Any) -> None:
    """`trainer train`, in this process."""
    from trainer.estimating.compute import pairs
    from trainer.preparation.prepared import Prepared
    from trainer.training.feed import Feed
    from trainer.training.settings import Settings
    from trainer.training.train import train

    prepared = Prepared.open(asked.folder / asked.name)
    with tempfile.TemporaryDirectory() as place:
        given = Settings(
            model=str(asked.folder / "model"),
            data=str(prepared.folder),
            out=f"{place}/run",
            batch=len(prepared),
            epochs=1,
            schedule="constant",
            warmup=0.0,
            learning_rate=asked.rate,
            precision="fp32" if asked.precision == "fp32" else "bf16",
            tokens=asked.size * LIMIT,
            **{"engine": "torch", **more},
        )
        train(given, Watch(counted))
        rows = [micro.width for micro in Feed.open(given, prepared, rank=0, world=1).plan.step(0, 0).ranks[0]]
    counted.micros = len(rows)
    masked = more.get("attention") == "mask"
    counted.pairs = sum(row * row for row in rows) if masked else pairs(prepared.lengths.tolist())


class Watch:
    """Is told by our loop when it starts and when its step has ended, and passes over the rest."""

    def __init__(self, counted: Counted) -> None:
        self._counted = counted

    def started(self, start: Any) -> None:
        """The loop begins."""
        self._counted.start()

    def stepped(self, entry: Any) -> None:
        """Its only step has ended."""
        counted = self._counted
        counted.stop()
        counted.slots, counted.heads, counted.loss = entry.slots, entry.supervised, entry.loss
        counted.outside = 1 - entry.seconds_model / counted.wall

    def __getattr__(self, name: str) -> Callable[..., None]:
        return lambda *_, **__: None


def with_deepspeed(asked: Asked, counted: Counted) -> None:
    """Ours with DeepSpeed and ZeRO 2 on a single rank."""
    ours(asked, counted, engine="deepspeed", zero=2)


def with_mask(asked: Asked, counted: Counted) -> None:
    """Ours with an explicit mask instead of attention document by document."""
    ours(asked, counted, attention="mask")


def with_all_learnt(asked: Asked, counted: Counted) -> None:
    """Ours when everything is learnt, so that the head is computed everywhere."""
    ours(replace(asked, name=f"{asked.name}_all"), counted)


#: Each takes the step and counts it.
WAYS: dict[str, Callable[[Asked, Counted], None]] = {
    "ours": ours,
    "ours, DeepSpeed": with_deepspeed,
    "ours, a mask": with_mask,
    "ours, all learnt": with_all_learnt,
    **PEERS,
}


def measure(way: str, asked: Asked) -> Counted:
    """Warm up, then take the step that counts."""
    WAYS[way](replace(asked, name="warm", rate=NO_RATE), Counted())
    counted = Counted()
    WAYS[way](asked, counted)
    return counted


def versions() -> dict[str, str]:
    """Of the packages that matter, as far as this interpreter has them."""
    found = {}
    for name in ("torch", "transformers", "accelerate", "trl", "deepspeed"):
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            continue
    return found


def main() -> None:
    """Take one way and print what it took."""
    asked = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    asked.add_argument("way", choices=WAYS)
    asked.add_argument("folder", type=Path)
    asked.add_argument("--size", type=int, default=1)
    asked.add_argument("--precision", choices=("fp32", "bf16", "bf16-weights"), default="fp32")
    given = asked.parse_args()
    warnings.filterwarnings("ignore")
    logging.disable(logging.WARNING)
    torch.set_num_threads(int(os.environ.get("OMP_NUM_THREADS", "1")))
    asked_for = {"folder": given.folder, "size": given.size, "precision": given.precision}
    counted = measure(given.way, Asked(name="examples", rate=RATE, **asked_for))
    told = {name: value for name, value in vars(counted).items() if not name.startswith("_")}
    print(json.dumps(told | {"versions": versions()}))


if __name__ == "__main__":
    main()
