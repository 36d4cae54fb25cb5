"""What `benchmarks/train.py` trains and on what: a slice of a checkpoint, and examples as long as a mixture's."""

from __future__ import annotations

import hashlib
import json
import shutil
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from trainer.planning.length_model import LIMIT, human_and_gpt
from trainer.preparation.chunks import Part
from trainer.preparation.draft import Draft
from trainer.preparation.prepared import EXAMPLE, Count, pack
from trainer.rendering import render
from trainer.rendering.render import Renderer
from trainer.table1 import TABLE_1

#: Lengths of the examples of the step that goes before: as much as is read at once, so that all memory was touched.
WARMING = (1999, 1800, *(48,) * 6)
#: The mixture's datasets in the order in which the length model has them.
DATASETS = ("cot", "flan_v2", "dolly", "oasst1", "gpt4_alpaca", "code_alpaca", "sharegpt")


@dataclass(frozen=True, slots=True, kw_only=True)
class Texts:
    """Examples as arrays."""

    ids: NDArray[np.int64]
    learnt: NDArray[np.bool_]
    lengths: NDArray[np.int64]
    #: Of each example, its place in DATASETS.
    datasets: NDArray[np.int64]

    @property
    def ends(self) -> NDArray[np.int64]:
        """Where each example ends."""
        return np.cumsum(self.lengths)

    @property
    def targets(self) -> int:
        """Learnt tokens, but for those that begin an example, which nothing predicts."""
        return int(self.learnt.sum() - self.learnt[self.ends - self.lengths].sum())


def drawn(lengths: NDArray[np.int64], datasets: NDArray[np.int64], vocabulary: int) -> Texts:
    """Examples of these lengths, in rounds of a prompt and an answer as long as Table 1 has them in the mean."""
    numbers = np.random.Generator(np.random.PCG64(1))
    learnt = [_answers(int(one), DATASETS[place]) for one, place in zip(lengths, datasets, strict=True)]
    ids = numbers.integers(256, vocabulary, int(lengths.sum()))
    return Texts(ids=ids, learnt=np.concatenate(learnt), lengths=lengths, datasets=datasets)


def _answers(length: int, dataset: str) -> NDArray[np.bool_]:
    row = TABLE_1[dataset]
    rounds = max(1, round(row.rounds))
    share = row.completion / (row.prompt + row.completion)
    place = np.arange(length) / length * rounds % 1.0
    return np.asarray(place >= 1.0 - share)


def mixture(count: int, vocabulary: int) -> Texts:
    """Examples whose lengths are the Human+GPT mixture's quantiles, in an order of their own."""
    lengths = human_and_gpt()
    datasets = np.repeat(np.arange(len(DATASETS)), [TABLE_1[name].instances for name in DATASETS])
    ranked = np.argsort(lengths, kind="stable")
    places = ranked[((np.arange(count) + 0.5) / count * len(lengths)).astype(np.int64)]
    places = np.random.Generator(np.random.PCG64(0)).permutation(places)
    return drawn(lengths[places], datasets[places], vocabulary)


def save(texts: Texts, folder: Path, name: str, renderer: Renderer) -> None:
    """Leave examples as ``name.npz`` and, for ours, as the prepared folder ``name``."""
    np.savez(folder / f"{name}.npz", ids=texts.ids, ends=texts.ends, learnt=texts.learnt)
    examples: NDArray[np.void] = np.zeros(len(texts.lengths), EXAMPLE)
    examples["tokens"], examples["dataset"], examples["name"] = texts.lengths, texts.datasets, 1
    starts = texts.ends - texts.lengths
    examples["supervised"] = np.add.reduceat(texts.learnt, starts, dtype=np.int64)
    runs, examples["runs"] = pack(texts.learnt.astype(np.uint8) << 4, starts)
    there = np.unique(texts.datasets)
    examples["dataset"] = np.searchsorted(there, texts.datasets)
    names = tuple(DATASETS[place] for place in there)
    part = Part(
        examples=examples,
        tokens=texts.ids.astype("<u2"),
        runs=runs,
        ids=b"-" * len(examples),
        names=names,
        counts={one: _count(examples[examples["dataset"] == place]) for place, one in enumerate(names)},
        rejected=(),
    )
    key = hashlib.sha256(part.tokens.tobytes() + part.runs.tobytes()).hexdigest()
    template = {"name": renderer.template.name, "fingerprint": renderer.template.fingerprint}
    made_of = {"max_length": LIMIT, "tokenizer": renderer.tokenizer.fingerprint, "template": template}
    with Draft(folder / name, key) as draft:
        draft.append(part)
        draft.finish({"key": key, "dtype": "<u2", "made_of": made_of})


def _count(examples: NDArray[np.void]) -> Count:
    supervised = int(examples["supervised"].sum())
    return Count(examples=len(examples), tokens=int(examples["tokens"].sum()), supervised=supervised)


def cut(source: Path, folder: Path, share: int) -> int:
    """A checkpoint with one in ``share`` of a checkpoint's layers and ids, the first of both; how many ids it has."""
    from transformers import AutoModelForCausalLM

    model = AutoModelForCausalLM.from_pretrained(source)
    layers, size = max(1, model.config.num_hidden_layers // share), int(model.config.vocab_size) // share
    model.model.layers = model.model.layers[:layers]
    model.config.num_hidden_layers = layers
    model.resize_token_embeddings(size)
    model.save_pretrained(folder)
    for file in source.glob("*token*"):
        shutil.copy(file, folder)
    told = json.loads((source / "tokenizer.json").read_bytes())
    vocabulary = {text: one for text, one in told["model"]["vocab"].items() if one < size}
    pairs = [one if isinstance(one, list) else one.split(" ") for one in told["model"]["merges"]]
    told["model"]["merges"] = [pair for pair in pairs if "".join(pair) in vocabulary]
    told["model"]["vocab"] = vocabulary
    (folder / "tokenizer.json").write_text(json.dumps(told))
    return size


def lay_out(source: Path, folder: Path, count: int, share: int) -> Texts:
    """Leave in a folder all that the ways read; the examples."""
    size = cut(source, folder / "model", share)
    renderer = render.load(str(folder / "model"), max_length=LIMIT)
    texts = mixture(count, size)
    save(texts, folder, "examples", renderer)
    save(replace(texts, learnt=np.ones_like(texts.learnt)), folder, "examples_all", renderer)
    lengths = np.array(WARMING)
    warm = drawn(lengths, np.full(len(lengths), DATASETS.index("sharegpt")), size)
    save(warm, folder, "warm", renderer)
    save(replace(warm, learnt=np.ones_like(warm.learnt)), folder, "warm_all", renderer)
    return texts
