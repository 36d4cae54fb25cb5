"""What `trainer data overlap` finds of planted evaluation items, what it finds in clean text, and how long it takes.

    python benchmarks/overlap.py DATA [--items EVERY] [--million]

DATA is the folder of published files that the tests use. Carriers are made up from the words of its instruction rows
(each word drawn by the word before it), so none of them was written with a benchmark at hand. Every EVERYth item
(default 20) is planted under each change and in three ways: as a message of its own, on lines of its own between two
paragraphs, and inside a sentence. False positives are counted twice: on the made-up texts, none of which is meant to
hold an item, and on the real rows, where a find that is a whole item is none.
"""

from __future__ import annotations

import argparse
import gzip
import json
import random
import resource
import tempfile
import time
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator
from itertools import pairwise
from pathlib import Path
from typing import Any

from trainer.contamination.containment import Found, Index
from trainer.contamination.containment_index import build
from trainer.contamination.folding import fold
from trainer.contamination.items import Item, items
from trainer.contamination.overlap import scan
from trainer.conversation import Conversation, Message, Role

Change = Callable[[str, random.Random], str]
MARKS = ".,;:!?-'\"()[]"


def apart(text: str, mark: str) -> str:
    """The text with each of its ASCII marks replaced."""
    return "".join(mark if one in MARKS else one for one in text)


def half(text: str, *, second: bool = False) -> str:
    """Half of the words."""
    words = text.split()
    middle = len(words) // 2
    return " ".join(words[middle:] if second else words[:middle])


def odd(text: str, numbers: random.Random) -> str:
    """Other kinds of space, several at a time, and invisible ones at the words' edges."""
    kinds = ["  ", "\t", "\n", "\u00a0", "\u2003", " \u200b", "\u3000 "]
    return "".join(numbers.choice(kinds) if one == " " else one for one in text)


CHANGES: dict[str, Change] = {
    "verbatim": lambda text, _: text,
    "upper case": lambda text, _: text.upper(),
    "swapped case": lambda text, _: text.swapcase(),
    "marks removed": lambda text, _: apart(text, ""),
    "marks to spaces": lambda text, _: apart(text, " "),
    "other marks": lambda text, numbers: " ".join(
        word.rstrip(MARKS) + numbers.choice(["", ",", " -", "!", ";"]) for word in text.split(" ")
    ),
    "odd spaces": odd,
    "first half": lambda text, _: half(text),
    "second half": lambda text, _: half(text, second=True),
    "half the letters": lambda text, _: text[: len(text) // 2],
}


def rows(folder: Path) -> Iterator[Conversation]:
    """Real instruction rows, 27,000 of them; none is a benchmark's, but some repeat a benchmark's questions."""
    for name, fields in (
        ("instruct/dolly/dolly_hhrlhf_train_small.jsonl.gz", ("prompt", "response")),
        ("instruct/dolly/dtkd_valid.jsonl.gz", ("instruction", "input", "output")),
        ("instruct/unnatural/dtkd_uinst_valid.jsonl.gz", ("instruction", "input", "output")),
        ("nc/alpaca/alpaca_5000.json.gz", ("instruction", "input", "output")),
        ("nc/code_alpaca/code_alpaca_2k.json.gz", ("instruction", "input", "output")),
    ):
        text = gzip.decompress((folder / name).read_bytes()).decode()
        lines: list[Any] = [json.loads(one) for one in text.splitlines()] if ".jsonl" in name else json.loads(text)
        for number, row in enumerate(lines):
            *asked, answer = (str(row[one]) for one in fields)
            yield said(name.split("/")[1], number, "\n\n".join(filter(None, asked)), answer)
    for path in sorted((folder / "instruct/flan_cot").glob("*.tsv.gz")):
        for number, line in enumerate(gzip.decompress(path.read_bytes()).decode().splitlines()):
            yield said(path.name.split(".")[0], number, *(part.replace("\\n", "\n") for part in line.split("\t")))


def said(dataset: str, number: int, *texts: str) -> Conversation:
    """A conversation of user and assistant in turn."""
    roles: tuple[Role, Role] = ("user", "assistant")
    messages = tuple(Message(role=roles[place % 2], content=text) for place, text in enumerate(texts))
    return Conversation(dataset=dataset, id=f"{dataset}_{number}", messages=messages)


def made_up(real: list[Conversation], count: int, numbers: random.Random) -> Iterator[Conversation]:
    """Conversations of two messages, 40 to 160 words each, drawn word by word from what follows a word in real rows."""
    follows = defaultdict(list)
    for one in real:
        for message in one.messages:
            words = message.content.split(" ")
            for word, after in pairwise(words):
                follows[word].append(after)
    starts = list(follows)
    for number in range(count):
        texts = []
        for _ in range(2):
            words = [numbers.choice(starts)]
            for _ in range(numbers.randint(40, 160)):
                words.append(numbers.choice(follows.get(words[-1]) or starts))
            texts.append(" ".join(words))
        yield said("made_up", number, *texts)


def planted(text: str, carrier: Conversation) -> Iterator[tuple[str, Conversation]]:
    """The text in three places of a carrier."""
    first, second = (message.content for message in carrier.messages)
    yield "alone", said("planted", 0, text, second)
    yield "on lines", said("planted", 0, f"{first}\n{text}\n{second}", first)
    yield "in a sentence", said("planted", 0, f"{first} {text} {second}", first)


def recall(index: Index, some: list[Item], carriers: list[Conversation], *, short: bool) -> None:
    """Print what share of planted items is found, by change and place."""
    numbers = random.Random(1)
    print(f"\n{'change':18}{'planted':>9}{'alone':>9}{'on lines':>10}{'in a sentence':>15}{'   missed in a sentence'}")
    for name, change in CHANGES.items():
        if short and name != "verbatim":
            continue
        batch, of = [], []
        for place, item in enumerate(some):
            for where, one in planted(change(item.texts[-1], numbers), carriers[place % len(carriers)]):
                batch.append(one)
                of.append((where, item.benchmark))
        found: Counter[str] = Counter()
        missed: Counter[str] = Counter()
        for start in range(0, len(batch), 500):
            for (where, benchmark), those in zip(of[start:], index.search(batch[start : start + 500]), strict=False):
                found[where] += bool(those)
                missed[benchmark] += not those and where == "in a sentence"
        shares = (found[where] / len(some) for where in ("alone", "on lines", "in a sentence"))
        cells = "{:>8.2%}{:>9.2%}{:>14.2%}".format(*shares)
        print(f"{name:18}{len(some):>9,} {cells}    {dict(+missed) or ''}", flush=True)


def is_whole(index: Index, found: Found) -> bool:
    """Whether all of an item is there, and not a half that is equal to a line."""
    texts = (" ".join(fold(text).split()) for text in index.items[found.item].texts)
    return found.share == 1 and (found.why != "equal" or found.words in texts)


def false_positives(index: Index, real: list[Conversation], made: list[Conversation]) -> None:
    """Print what is found where nothing was planted."""
    print(f"\n{'clean text':18}{'searched':>9}{'found':>8}{'whole items':>13}{'false':>8}{'%':>9}")
    for name, texts in (("made up", made), ("real rows", real)):
        finds = [found for start in range(0, len(texts), 500) for found in index.search(texts[start : start + 500])]
        held = [found for found in finds if found]
        # A conversation that has all of an item's words holds it, whoever put it there.
        whole = sum(any(is_whole(index, one) for one in found) for found in held)
        false = len(held) - whole
        print(f"{name:18}{len(texts):>9,}{len(held):>8}{whole:>13}{false:>8}{false / len(texts):>9.3%}")


def timing(index: Index, made: list[Conversation], counts: list[int]) -> None:
    """Print how long a mix takes in one process, and its memory."""
    print(f"\n{'conversations':>18}{'MB':>9}{'seconds':>9}{'CPU µs each':>13}{'peak MB':>9}")
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "mix.jsonl")
        for count in counts:
            with path.open("w") as file:
                for place in range(count):
                    file.write(made[place % len(made)].line() + "\n")
            wall, cpu = time.perf_counter(), time.process_time()
            scan(path, index)
            wall, cpu = time.perf_counter() - wall, time.process_time() - cpu
            peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
            size = path.stat().st_size / 1e6
            print(f"{count:>18,}{size:>9.0f}{wall:>9.1f}{1e6 * cpu / count:>13.0f}{peak:>9.0f}", flush=True)


def main() -> None:
    """Measure everything."""
    parser = argparse.ArgumentParser()
    parser.add_argument("data", type=Path)
    parser.add_argument("--items", type=int, default=20, help="plant every so manieth item")
    parser.add_argument("--conversations", type=int, default=100_000)
    parser.add_argument("--million", action="store_true", help="time a million conversations, too")
    given = parser.parse_args()
    start = time.process_time()
    index = build(items(given.data))
    sizes = Counter(item.benchmark for item in index.items)
    print(f"index of {len(index.items):,} items in {time.process_time() - start:.1f} s of CPU: {dict(sizes)}")
    real = list(rows(given.data))
    made = list(made_up(real, given.conversations, random.Random(0)))
    false_positives(index, real, made)
    lengths = {item.id + item.benchmark: len(fold(item.texts[-1]).split()) for item in index.items}
    full = [item for item in index.items if lengths[item.id + item.benchmark] >= 8]
    short = [item for item in index.items if lengths[item.id + item.benchmark] < 8]
    print(f"\n{len(full):,} items have eight words or more")
    recall(index, full[:: given.items], made, short=False)
    print(f"\n{len(short):,} items are shorter")
    recall(index, short[:: given.items], made, short=True)
    counts = [len(made) // 10, len(made)] + ([10 * len(made)] if given.million else [])
    timing(index, made, counts)


main()
