"""How fast conversations become token ids and masks, as a multiple of what others take for the same file.

    python benchmarks/prepare.py [--trl PYTHON] [--rounds 5] [--conversations 2000] [--million]

Published files are found by EVALKIT_TEST_DATA (default ``../shared/data``), SmolLM2's tokenizer by EVALKIT_SMOLLM2
(default: where `nox -s demo` puts it). Conversations are strung together from the messages of Open Assistant trees and
FastChat's sample dialogues: 7.8 in the mean, and behind each answer as likely a next question, so that lengths spread
as those of people's chats do. What the 2023 method takes grows with the square of that number; of dialogues that all
are about as long it would take less. Everybody renders the Tülu template, learns what the assistant says with
its EOS, cuts at 2,048 tokens and has one process.

In each round every way has its turn, in a process of its own. Counted is processor time, without imports and without
loading the tokenizer, and with everything from the file of JSON lines to where the result is kept: our folder, the
Arrow files of `datasets`, or for the 2023 method lists in memory. Figures are medians over the rounds.

TRL needs an interpreter of its own, since it pins other versions than ours:

    python -m venv peers && peers/bin/pip install trl==1.16.0 && python benchmarks/prepare.py ... --trl peers/bin/python

Before that stands a cold against a warm start, behind it preparation of 10,000 and 100,000 conversations, with
--million of a million (2 GB of JSON, 1 GB of result, and some ten minutes of two cores): time, memory, bytes.
"""

from __future__ import annotations

import argparse
import gzip
import json
import os
import platform
import random
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any


def conversations(data: Path, count: int) -> Iterator[dict[str, Any]]:
    """Made-up dialogues of real messages."""
    said: dict[str, list[str]] = {"user": [], "assistant": []}

    def walk(node: dict[str, Any]) -> None:
        said["user" if node["role"] == "prompter" else "assistant"].append(node["text"])
        for reply in node.get("replies", ()):
            walk(reply)

    with gzip.open(data / "instruct" / "oasst" / "en_100_tree.jsonl.gz") as lines:
        for line in lines:
            walk(json.loads(line)["prompt"])
    for row in json.loads((data / "instruct" / "sharegpt" / "dummy_conversation.json").read_bytes()):
        for one in row["conversations"]:
            said["user" if one["from"] == "human" else "assistant"].append(one["value"])
    numbers = random.Random(0)
    for number in range(count):
        rounds = 1
        while numbers.random() < 2.9 / 3.9:
            rounds += 1
        roles = ("user", "assistant") * rounds
        messages = [{"role": role, "content": numbers.choice(said[role])} for role in roles]
        yield {"dataset": ("oasst1", "sharegpt")[number % 2], "id": f"made_{number}", "messages": messages}


def write(path: Path, data: Path, count: int) -> Path:
    """A file of conversations."""
    with path.open("w", encoding="utf-8") as file:
        for row in conversations(data, count):
            file.write(json.dumps(row, ensure_ascii=False) + "\n")
    return path


def apart(way: str, file: Path, tokenizer: str, python: str = sys.executable) -> dict[str, Any]:
    """What a process says that takes one way."""
    command = [python, str(Path(__file__).parent / "ways" / "prepare.py"), way, str(file), tokenizer]
    ran = subprocess.run(command, capture_output=True, text=True, check=False, env={**os.environ, **SETTINGS})
    if ran.returncode:
        sys.exit(f"{way} failed:\n{ran.stderr}")
    told: dict[str, Any] = json.loads(ran.stdout.splitlines()[-1])
    return told


DATA = Path(os.environ.get("EVALKIT_TEST_DATA", "../shared/data"))
TOKENIZER = os.environ.get("EVALKIT_SMOLLM2", ".demo/SmolLM2-135M-Instruct")
WAYS = ("ours", "bare encode_batch", "bare encode_batch_fast", "HF map", "TRL", "2023 method")

#: One thread, and no network.
SETTINGS = {"OMP_NUM_THREADS": "1", "TOKENIZERS_PARALLELISM": "false", "HF_HUB_OFFLINE": "1", "TQDM_DISABLE": "1"}


def compare(file: Path, tokenizer: str, peer: str | None, rounds: int) -> None:
    """Take turns, and print each way as a multiple of ours."""
    from trainer.preparation.prepared import Prepared

    ways = [way for way in WAYS if way != "TRL" or peer]
    took: dict[str, list[float]] = {way: [] for way in ways}
    versions: dict[str, str] = {}
    for _ in range(rounds):
        for way in ways:
            told = apart(way, file, tokenizer, peer if way == "TRL" and peer else sys.executable)
            took[way].append(told["seconds"])
            versions |= {f"{name} (TRL's)" if way == "TRL" else name: one for name, one in told["versions"].items()}
    named = ", ".join(f"{name} {one}" for name, one in sorted(versions.items()))
    print(f"Python {platform.python_version()}, {named}")
    messages = [len(json.loads(line)["messages"]) for line in file.read_text().splitlines()]
    tokens = len(Prepared.open(file.parent / "started").tokens)
    each = f"{statistics.mean(messages):.1f} messages and {tokens / len(messages):.0f} tokens each"
    print(f"{len(messages):,} conversations, {each}")
    print(f"{'way':24}{'CPU s':>8}{'min':>8}{'max':>8}{'Mtok/s':>8}{'its time / ours':>17}")
    for way in ways:
        middle, ratios = statistics.median(took[way]), [a / b for a, b in zip(took[way], took["ours"], strict=True)]
        spread = f"{middle:8.2f}{min(took[way]):8.2f}{max(took[way]):8.2f}{tokens / middle / 1e6:8.2f}"
        print(f"{way:24}{spread}{statistics.median(ratios):17.2f}")
    if not peer:
        print("TRL is left out: --trl names a Python that has it, see this file's first lines.")


def starts(file: Path, tokenizer: str) -> None:
    """The command, when there is nothing and when all is there; leaves the prepared folder ``started``."""
    folder = file.parent / "started"
    program = (sys.executable, "-m", "trainer", "data", "prepare")
    command = [*program, str(file), "--tokenizer", tokenizer, "--to", str(folder)]
    for name in ("cold", "warm"):
        before, began = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter()
        subprocess.run(command, check=True, capture_output=True, env={**os.environ, **SETTINGS})
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        cpu = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
        print(f"{name} start of the command: {time.perf_counter() - began:.1f} s, {cpu:.1f} s of CPU")


def growth(data: Path, renderer: str, sizes: list[int]) -> None:
    """Larger and larger files, with all cores."""
    print(f"\n{'conversations':>14}{'wall s':>9}{'CPU s':>9}{'per 10,000':>12}{'MB':>8}{'MB a worker':>13}", end="")
    print(f"{'bytes/token':>13}{'warm s':>8}{'open ms':>9}")
    for size in sizes:
        with tempfile.TemporaryDirectory() as place:
            took = apart("grow", write(Path(place) / "conversations.jsonl", data, size), renderer)
        print(f"{size:14,}{took['wall']:9.1f}{took['cpu']:9.1f}{took['cpu'] / size * 1e4:12.2f}", end="")
        print(f"{took['memory']:8.0f}{took['memory of a worker']:13.0f}", end="")
        print(f"{took['bytes']:13.2f}{took['warm']:8.2f}{took['open'] * 1e3:9.1f}", flush=True)


def main() -> None:
    """Measure what was asked for."""
    asked = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    asked.add_argument("--trl", metavar="PYTHON")
    asked.add_argument("--rounds", type=int, default=5)
    asked.add_argument("--conversations", type=int, default=2000)
    asked.add_argument("--sizes", type=int, nargs="*", default=[10_000, 100_000])
    asked.add_argument("--million", action="store_true")
    given = asked.parse_args()
    with tempfile.TemporaryDirectory() as place:
        file = write(Path(place) / "conversations.jsonl", DATA, given.conversations)
        starts(file, TOKENIZER)
        compare(file, TOKENIZER, given.trl, given.rounds)
        apart("renderer", file, TOKENIZER)
        growth(DATA, f"{place}/renderer", [*given.sizes, *([1_000_000] if given.million else [])])


if __name__ == "__main__":
    main()
