"""Part conversations into those to learn from and those to measure on: `split.py FOLDER NAME=LEARN+HOLD...`."""

from __future__ import annotations

import argparse
import json
from itertools import groupby
from pathlib import Path


def split(path: Path, learn: int, hold: int) -> tuple[list[str], list[str]]:
    """The first ``learn`` conversations of a file, and behind them ``hold`` that begin otherwise than all of those.

    Conversations that begin alike are paths through one tree and share answers, which would be measured after they had
    been learnt. Raises SystemExit where a file holds too few.
    """
    learnt: list[str] = []
    held: list[str] = []
    openings = set()
    lines = path.read_text(encoding="utf-8").splitlines(keepends=True)
    for opening, group in groupby(lines, key=lambda line: json.loads(line)["messages"][0]["content"]):
        if len(learnt) < learn:
            openings.add(opening)
            learnt += group
        elif opening not in openings:
            held += group
        if len(held) >= hold:
            return learnt[:learn], held[:hold]
    raise SystemExit(f"{path} holds too few conversations for {learn} and {hold} others.")


def main() -> None:
    """Read the command line; writes ``train.jsonl`` and ``held-out.jsonl`` beside the files."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("parts", nargs="+", metavar="NAME=LEARN+HOLD")
    arguments = parser.parse_args()
    learnt: list[str] = []
    held: list[str] = []
    for part in arguments.parts:
        name, _, counts = part.partition("=")
        few, some = split(arguments.folder / f"{name}.jsonl", *map(int, counts.split("+")))
        learnt += few
        held += some
    for name, lines in (("train", learnt), ("held-out", held)):
        (arguments.folder / f"{name}.jsonl").write_text("".join(lines), encoding="utf-8")
        print(f"{name}.jsonl: {len(lines)} conversations")


if __name__ == "__main__":
    main()
