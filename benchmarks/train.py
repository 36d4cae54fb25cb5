"""How many tokens of real content a second of processor time trains on, as a multiple of what others do.

    python benchmarks/train.py [--trl PYTHON] [--quick] [--precision fp32 bf16] [--rounds 3]
        [--examples 16] [--share 10]

SmolLM2-135M-Instruct is found by EVALKIT_SMOLLM2 (default: where `nox -s demo` puts it). Everybody takes one optimizer
step on the same examples, whose lengths are quantiles of `trainer.planning.length_model` (Human+GPT, cut at 2,048) and
of which as much is learnt as Table 1 says of their datasets. Speed does not depend on words, so the ids are drawn.
--share 10 keeps a tenth of the model, its first 3 of 30 layers and first 4,915 of 49,152 ids, so that layers and head
stay in proportion and a step takes a tenth; --share 1 is the whole. --examples 128 is the recipe's step.

First the peers take the step once with 1, 2, 4 and 8 examples to a micro-batch (--quick: with 1 and 8): HF Trainer
with all, the others until more is slower; ours, which counts a micro-step in tokens, with 2,048 and 4,096, its default.
Then all take turns, each in a process of its own and at its best, and TRL also as it comes: 8 examples, recomputed
activations, its metrics. bf16 is by autocast for peers, as they mean it, with fp32 weights; the fastest runs with
weights in bf16, too. Counted is processor time of the loop, from before the first batch is fetched to the end of the
step; a step on eight other examples went before. Losses are printed, too: whoever divides by the step's tokens must
have ours.

Beside each time stand operations counted from what the models were given, as multiples of ours: padding in the layers,
the head where nothing is learnt, attention to what is masked, recomputation; their product, what is left that they do
not explain, and the same product for LLaMA-7B: what a small model gains at its head must not be promised of a large
one.

TRL needs an interpreter of its own with the same torch and transformers (see benchmarks/prepare.py).
"""

from __future__ import annotations

import argparse
import itertools
import json
import math
import os
import platform
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from ways.train_data import Texts, lay_out

from trainer.estimating import compute, shape
from trainer.planning.length_model import LIMIT

MODEL = os.environ.get("EVALKIT_SMOLLM2", ".demo/SmolLM2-135M-Instruct")
SIZES = (1, 2, 4, 8)
PEERS = ("open-instruct loop", "HF Trainer", "HF batch_rebalance", "TRL", "TRL packed")
#: What shows where our speed comes from, taken once.
VARIANTS = ("ours, DeepSpeed", "ours, a mask", "ours, all learnt")
#: The examples of a micro-batch where nothing is set.
DEFAULT_SIZE = 8
#: One thread, and no network.
SETTINGS = {
    "OMP_NUM_THREADS": "1",
    "TOKENIZERS_PARALLELISM": "false",
    "HF_HUB_OFFLINE": "1",
    "HF_DATASETS_OFFLINE": "1",
    "DS_ACCELERATOR": "cpu",
}


# What a way takes.


@dataclass(frozen=True, slots=True, kw_only=True)
class Way:
    """A way to train, as `benchmarks/ways/train.py` knows it."""

    name: str
    precision: str
    size: int = 1

    def __str__(self) -> str:
        weights = ", bf16 weights" if self.precision == "bf16-weights" else ""
        size = f"{self.size * LIMIT:,} tokens" if self.name.startswith("ours") else f"{self.size}"
        return f"{self.name}{weights}, {size}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Bench:
    """Takes ways in processes of their own, and keeps what they told."""

    folder: Path
    texts: Texts
    trl: str | None
    told: dict[Way, list[dict[str, Any]]] = field(default_factory=dict)

    def take(self, way: Way) -> float:
        """The processor time of a way, taken once more."""
        python = self.trl if way.name.startswith("TRL") and self.trl else sys.executable
        program = [python, str(Path(__file__).parent / "ways" / "train.py"), way.name, str(self.folder)]
        command = [*program, "--size", str(way.size), "--precision", way.precision]
        ran = subprocess.run(command, capture_output=True, text=True, check=False, env={**os.environ, **SETTINGS})
        if ran.returncode:
            sys.exit(f"{way} failed:\n{ran.stderr}")
        found: dict[str, Any] = json.loads(ran.stdout.splitlines()[-1])
        self.told.setdefault(way, []).append(found)
        print(f"  {way}: {found['seconds']:.1f} s", file=sys.stderr, flush=True)
        return float(found["seconds"])

    def seconds(self, way: Way) -> float:
        """The median of the processor times of a way."""
        return float(statistics.median(one["seconds"] for one in self.told[way]))

    def best(self, name: str, precision: str, sizes: Sequence[int]) -> Way:
        """A peer's fastest micro-batch; all sizes for the one that padding is measured against."""
        ways = [Way(name=name, precision=precision, size=size) for size in sizes]
        found, least = ways[0], math.inf
        for way in ways:
            took = self.take(way)
            if took >= least and name != "HF Trainer":
                break
            if took < least:
                found, least = way, took
        return found

    def factors(self, way: Way, model: shape.Shape) -> list[float]:
        """By how much padding, head, attention and recomputation multiply our operations, one after the other."""
        told, texts = self.told[way][0], self.texts
        tokens, heads, pairs = len(texts.ids), texts.targets, compute.pairs(texts.lengths.tolist())
        recompute = way.name == "TRL default"
        # TRL's head forgets its logits and computes them again: 8 operations a weight for 6.
        heads_paid = told["heads"] * (8 / 6 if way.name.startswith("TRL") else 1)
        steps = [
            compute.flops(model, tokens=tokens, supervised=heads, pairs=pairs),
            compute.flops(model, tokens=told["slots"], supervised=heads, pairs=pairs),
            compute.flops(model, tokens=told["slots"], supervised=heads_paid, pairs=pairs),
            compute.flops(model, tokens=told["slots"], supervised=heads_paid, pairs=told["pairs"]),
            compute.flops(model, tokens=told["slots"], supervised=heads_paid, pairs=told["pairs"], recompute=recompute),
        ]
        return [after / before for before, after in itertools.pairwise(steps)]


# What is printed.


def run(bench: Bench, precision: str, *, rounds: int, sizes: Sequence[int]) -> None:
    """Take all ways of a precision, and print what came out."""
    peers = [name for name in PEERS if bench.trl or not name.startswith("TRL")]
    print(f"{precision}: each size once", file=sys.stderr)
    ours = bench.best("ours", precision, (1, 2))
    turns = [ours, *(bench.best(name, precision, sizes) for name in peers)]
    if precision == "bf16":
        # What ours has and autocast has not: weights in bf16; without fp32 masters, though, which small updates need.
        turns += [replace(one, precision="bf16-weights") for one in turns if one.name == "HF batch_rebalance"]
    if bench.trl:
        turns.append(Way(name="TRL default", precision=precision, size=DEFAULT_SIZE))
    print("in turns", file=sys.stderr)
    for _ in range(rounds):
        for way in turns:
            bench.take(way)
    for name in VARIANTS:
        bench.take(Way(name=name, precision=precision, size=ours.size))
    once = [one for one in bench.told if one not in turns and one.precision == precision and one.name not in VARIANTS]
    table(bench, ours, [*turns, *(one for one in bench.told if one.name in VARIANTS and one.precision == precision)])
    print("\nOther sizes, each once:\n")
    table(bench, ours, once)
    verdict(bench, ours, turns)


def table(bench: Bench, ours: Way, ways: Sequence[Way]) -> None:
    """A row for each way."""
    here, large = shape.find(str(bench.folder / "model")), shape.find("llama-7b")
    print(f"{'':34}{'CPU s':>8}{'min':>8}{'max':>8}{'tok/s':>8}{'its time':>10}", end="")
    print(f"{'padding':>9}{'head':>7}{'attn':>7}{'again':>7}{'product':>9}{'left':>7}{'at 7B':>7}{'loss':>10}")
    for way in ways:
        told, middle = bench.told[way], bench.seconds(way)
        times = middle / bench.seconds(ours)
        each = bench.factors(way, here)
        product = math.prod(each)
        spread = [min(one["seconds"] for one in told), max(one["seconds"] for one in told)]
        print(f"{way!s:34}{middle:8.2f}{spread[0]:8.2f}{spread[1]:8.2f}{len(bench.texts.ids) / middle:8.0f}", end="")
        print(f"{times:10.2f}{each[0]:9.2f}{each[1]:7.2f}{each[2]:7.2f}{each[3]:7.2f}{product:9.2f}", end="")
        print(f"{times / product:7.2f}{math.prod(bench.factors(way, large)):7.2f}{told[0]['loss']:10.5f}")


def verdict(bench: Bench, ours: Way, turns: Sequence[Way]) -> None:
    """Our speed against what was promised."""
    base, tokens = bench.seconds(ours), len(bench.texts.ids)
    print()
    for way in [one for one in bench.told if one.name == "HF Trainer" and one.precision == ours.precision]:
        times, paid = bench.seconds(way) / base, bench.told[way][0]["slots"] / tokens
        print(f"{way}: ours is {times:.2f} times as fast, {times / paid:.2f} of its {paid:.2f} slots for a token")
    peers = [one for one in turns if one != ours]
    fastest = min(peers, key=bench.seconds)
    print(f"The fastest of them is {fastest}: ours is {bench.seconds(fastest) / base:.2f} times as fast")
    for way in [one for one in peers if one.name == "TRL default"]:
        print(f"TRL as it comes: ours is {bench.seconds(way) / base:.2f} times as fast")
    outside = statistics.median(one["outside"] for one in bench.told[ours])
    print(f"Of our loop's time {outside:.2%} is outside forward, backward and update")


def main() -> None:
    """Measure what was asked for."""
    asked = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    asked.add_argument("--trl", metavar="PYTHON")
    asked.add_argument("--quick", action="store_true")
    asked.add_argument("--precision", nargs="+", choices=("fp32", "bf16"), default=["fp32"])
    asked.add_argument("--rounds", type=int)
    asked.add_argument("--examples", type=int)
    asked.add_argument("--share", type=int)
    given = asked.parse_args()
    count, share, rounds = (
        value if value is not None else quick if given.quick else whole
        for value, quick, whole in ((given.examples, 8, 16), (given.share, 15, 10), (given.rounds, 1, 3))
    )
    with tempfile.TemporaryDirectory() as place:
        texts = lay_out(Path(MODEL), Path(place), count, share)
        bench = Bench(folder=Path(place), texts=texts, trl=given.trl)
        for precision in given.precision:
            run(bench, precision, rounds=rounds, sizes=(1, DEFAULT_SIZE) if given.quick else SIZES)
        told = [one for each in bench.told.values() for one in each]
        named = sorted({f"{name} {one}" for each in told for name, one in each["versions"].items()})
        print(f"\nPython {platform.python_version()}, {', '.join(named)}, one thread of {platform.machine()}")
        learnt = texts.targets / len(texts.ids)
        print(f"{count} examples, {len(texts.ids):,} tokens, {learnt:.0%} of them learnt; 1/{share} of the model")
    if not given.trl:
        print("TRL is left out: --trl names a Python that has it, see this file's first lines.")


if __name__ == "__main__":
    main()
