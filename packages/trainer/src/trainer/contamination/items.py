"""The questions of the six benchmarks, read from their publishers' files: what a training mix must not contain."""

from __future__ import annotations

import csv
import gzip
import io
import json
import zipfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from trainer.errors import DataError


@dataclass(frozen=True, slots=True, kw_only=True)
class Item:
    """One evaluation question."""

    benchmark: str
    id: str
    #: The forms in which a training mix may hold it, the fullest first: with its choices, and alone.
    texts: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Benchmark:
    """Where a benchmark's questions are below a folder of data, and how a file of them is read."""

    name: str
    #: Patterns of its files; all that match are read, and an item that comes twice counts once.
    files: tuple[str, ...]
    read: Callable[[str, bytes], Iterator[tuple[str, tuple[str, ...]]]]


def items(folder: Path) -> Iterator[Item]:
    """All items of the benchmarks whose files are in the folder, benchmark by benchmark.

    Raises DataError where there are none at all, or where a file is not what its name says, naming file and row.
    """
    some = False
    for benchmark in BENCHMARKS:
        seen = set()
        for path in _files(folder, benchmark):
            for name, texts in _read(benchmark, path):
                if (name, texts) not in seen:
                    seen.add((name, texts))
                    yield Item(benchmark=benchmark.name, id=name, texts=texts)
        some |= bool(seen)
    if not some:
        wanted = "; ".join(f"{one.name}: {one.files[0]}" for one in BENCHMARKS)
        raise DataError(f"{folder} holds no benchmark files. Looked for, plain or gzipped: {wanted}.")


def _files(folder: Path, benchmark: Benchmark) -> list[Path]:
    found = {path for pattern in benchmark.files for end in ("", ".gz") for path in folder.glob(f"**/{pattern}{end}")}
    return sorted(found)


def _read(benchmark: Benchmark, path: Path) -> Iterator[tuple[str, tuple[str, ...]]]:
    try:
        content = path.read_bytes()
        if path.suffix == ".gz":
            content = gzip.decompress(content)
        yield from benchmark.read(path.name.removesuffix(".gz"), content)
    except OSError as error:
        raise DataError(f"{path} cannot be read: {error.strerror or error}.") from None
    except (ValueError, KeyError, TypeError, IndexError, EOFError, zipfile.BadZipFile) as error:
        raise DataError(f"{path} is no file of {benchmark.name} ({type(error).__name__}: {error}).") from None


def _mmlu(name: str, content: bytes) -> Iterator[tuple[str, tuple[str, ...]]]:
    """``question,choice,choice,choice,choice,letter`` without a header: one subject, or the archive of all."""
    if name.endswith(".zip"):
        with zipfile.ZipFile(io.BytesIO(content)) as archive:
            for inside in sorted(archive.namelist()):
                if inside.endswith("_test.csv"):
                    yield from _mmlu(inside.rsplit("/", 1)[-1], archive.read(inside))
        return
    subject = name.removesuffix("_test.csv")
    for number, row in enumerate(csv.reader(io.StringIO(content.decode(), newline=""))):
        question, *choices = row[:5]
        lettered = "\n".join([question, *(f"{letter}. {one}" for letter, one in zip("ABCD", choices, strict=True))])
        # Choices may stand in a mix without letters, or in another order behind the question: that alone is a form.
        yield f"{subject}/{number}", (lettered, "\n".join([question, *choices]), question)


def _gsm(_: str, content: bytes) -> Iterator[tuple[str, tuple[str, ...]]]:
    """``{"question": "Janet’s ducks lay…", "answer": "…#### 18"}`` on each line."""
    for number, row in _lines(content):
        yield str(number), (row["question"],)


def _bbh(name: str, content: bytes) -> Iterator[tuple[str, tuple[str, ...]]]:
    """``{"canary": …, "examples": [{"input": …, "target": …}]}``: one task, or the repository's archive of all."""
    if name.endswith(".zip"):
        with zipfile.ZipFile(io.BytesIO(content)) as archive:
            for inside in sorted(archive.namelist()):
                if inside.endswith(".json") and "/bbh/" in inside:
                    yield from _bbh(inside.rsplit("/", 1)[-1], archive.read(inside))
        return
    for number, row in enumerate(json.loads(content)["examples"]):
        yield f"{name.removesuffix('.json')}/{number}", (row["input"],)


def _tydiqa(_: str, content: bytes) -> Iterator[tuple[str, tuple[str, ...]]]:
    """SQuAD's form; the question is the item, its passage is Wikipedia and may be in any mix."""
    for article in json.loads(content)["data"]:
        for paragraph in article["paragraphs"]:
            for row in paragraph["qas"]:
                yield row["id"], (row["question"],)


def _codex_eval(_: str, content: bytes) -> Iterator[tuple[str, tuple[str, ...]]]:
    """``{"task_id": "HumanEval/0", "prompt": "def …", …}`` on each line."""
    for _number, row in _lines(content):
        yield row["task_id"], (row["prompt"],)


def _alpacafarm(_: str, content: bytes) -> Iterator[tuple[str, tuple[str, ...]]]:
    """A list of ``{"instruction": …, "input": …, …}``; AlpacaEval's files have the input in the instruction."""
    for number, row in enumerate(json.loads(content)):
        parts = [part for part in (row["instruction"], row.get("input")) if part]
        yield str(number), ("\n\n".join(parts),)


def _lines(content: bytes) -> Iterator[tuple[int, Any]]:
    """The objects on lines, counted from 0."""
    for number, line in enumerate(content.splitlines()):
        if line.strip():
            yield number, json.loads(line)


#: The paper's six, as evalkit calls them. Files of questions only: solved examples for prompts are not evaluated.
BENCHMARKS = (
    Benchmark(name="mmlu", files=("mmlu.zip", "test/*_test.csv"), read=_mmlu),
    Benchmark(name="gsm", files=("gsm8k/test.jsonl",), read=_gsm),
    Benchmark(name="bbh", files=("bbh/*.json", "BIG-Bench-Hard*.zip"), read=_bbh),
    Benchmark(name="tydiqa", files=("tydiqa*goldp*dev.json",), read=_tydiqa),
    Benchmark(name="codex-eval", files=("HumanEval.jsonl",), read=_codex_eval),
    Benchmark(
        name="alpacafarm",
        files=("davinci_003_outputs.json", "text_davinci_003/model_outputs.json"),
        read=_alpacafarm,
    ),
)
