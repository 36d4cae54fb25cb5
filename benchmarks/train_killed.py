"""Ranks of `trainer train` killed with SIGKILL at random, and whether the run ends as if nobody had disturbed it.

    python benchmarks/train_killed.py [kills] [--zero N] [--seed N]

A tiny LLaMA on two ranks, a checkpoint behind every step. Each kill is during a step or a save, of one rank or of both,
at a random moment (20 of them unless told otherwise). Behind every kill the newest checkpoint is read back whole; in
the end the SHA-256 of the exported weights is compared with that of an undisturbed run. Exits with 1 if they differ.
"""

from __future__ import annotations

import argparse
import random
import sys
import tempfile
import time
from importlib.metadata import version
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))

from tests.trainer import killing, small_models, trained

from trainer.training import checkpoint

RANKS = 2


def main() -> None:
    """Kill a run again and again, and tell what became of it."""
    parser = argparse.ArgumentParser(description="Kill ranks at random moments.")
    parser.add_argument("kills", nargs="?", type=int, default=20)
    parser.add_argument("--zero", type=int, default=2)
    parser.add_argument("--seed", type=int, default=1)
    told = parser.parse_args()
    print(", ".join(f"{name} {version(name)}" for name in ("torch", "deepspeed", "transformers")), f"ZeRO {told.zero}")
    with tempfile.TemporaryDirectory() as place:
        same = run(Path(place), told.kills, told.zero, random.Random(told.seed))
    sys.exit(0 if same else 1)


def run(place: Path, kills: int, zero: int, chance: random.Random) -> bool:
    """Whether a run that is killed so often ends with the weights of one that is not."""
    source = small_models.save("llama", place / "model")
    small_models.prepare(source, place / "data")
    straight, disturbed = (
        # Each kill needs two steps to happen in; the rest is for those that come late.
        trained.settings(source, place / "data", place / name, max_steps=6 * kills, save_every=1, zero=zero)
        for name in ("straight", "disturbed")
    )
    if any(killing.finished(killing.recipe(straight, place / "straight.toml"), RANKS)):
        sys.exit((place / "rank-0.txt").read_text())
    recipe = killing.recipe(disturbed, place / "disturbed.toml")
    for number in range(1, kills + 1):
        kill, began = killing.Kill.random(chance), time.perf_counter()
        found = killing.killed(recipe, place / "disturbed", RANKS, kill, chance)
        if found is None:
            print(f"{number:>3}: the run had come to its end")
            break
        newest = checkpoint.newest(place / "disturbed")
        problem = newest.problem() if newest else "no checkpoint"
        end = "" if found.code is None else f", the other rank exited with {found.code}"
        print(
            f"{number:>3}: {kill.whom} during a {kill.during} at {kill.after:.0%} of it, behind step {found.step}: "
            f"checkpoint of step {found.saved} {problem or 'whole'}{', one torn' if found.torn else ''}{end} "
            f"({time.perf_counter() - began:.0f} s)",
            flush=True,
        )
    codes = killing.finished(recipe, RANKS)
    same = codes == [0] * RANKS and trained.weights(place / "disturbed") == trained.weights(place / "straight")
    print(f"exit codes {codes}; final weights {'are' if same else 'ARE NOT'} those of the undisturbed run")
    return same


if __name__ == "__main__":
    main()
