"""What the paper "How Far Can Camels Go?" (arXiv 2306.04751v1) trained on what, how, and the numbers it printed."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from trainer.mixing.mixture import NAMED
from trainer.sources.registry import TWELVE, find

#: The columns of Tables 3 to 5, as the tables head them.
COLUMNS = ("MMLU", "GSM", "BBH", "TyDiQA", "Codex-Eval", "AlpacaFarm", "average")
#: The data of a row that trains on none.
VANILLA = "vanilla"


@dataclass(frozen=True, slots=True, kw_only=True)
class Base:
    """A model that the paper started from."""

    #: What recipes are called by: ``13b``, ``opt-6.7b``.
    name: str
    title: str
    #: Where Hugging Face's layout of it is.
    hub: str
    #: Models of one family have one tokenizer, and so share what is prepared.
    family: str
    #: The files of its weights there.
    weights: str = "*.safetensors"
    learning_rate: float = 2e-5
    #: Tokens behind which the paper cut examples.
    max_length: int = 2048


_LARGE: dict[str, Any] = {"learning_rate": 1e-5, "max_length": 1024}
BASES = {
    base.name: base
    for base in (
        Base(name="7b", title="LLaMA 7B", hub="huggyllama/llama-7b", family="llama"),
        Base(name="13b", title="LLaMA 13B", hub="huggyllama/llama-13b", family="llama"),
        Base(name="30b", title="LLaMA 30B", hub="huggyllama/llama-30b", family="llama", **_LARGE),
        Base(name="65b", title="LLaMA 65B", hub="huggyllama/llama-65b", family="llama", **_LARGE),
        Base(name="opt-6.7b", title="OPT 6.7B", hub="facebook/opt-6.7b", family="opt", weights="*.bin"),
        Base(name="pythia-6.9b", title="Pythia 6.9B", hub="EleutherAI/pythia-6.9b", family="pythia"),
    )
}
_LLAMA = ("7b", "13b", "30b", "65b")

#: Which bases learnt which data: 36 models.
TRAINED: Mapping[str, tuple[str, ...]] = {
    **{name: _LLAMA if name == "sharegpt" else ("7b", "13b") for name in TWELVE},
    "human": _LLAMA,
    "human+gpt": (*_LLAMA, "opt-6.7b", "pythia-6.9b"),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """A row of a table: what it trains on, and from which bases."""

    data: str
    bases: tuple[str, ...]
    #: Bases that were trained so, too, and that the table does not print.
    also: tuple[str, ...] = ()


#: The tables, their rows in the paper's order.
TABLES: Mapping[str, Mapping[str, Row]] = {
    "table3": {name: Row(data=name, bases=("13b",), also=("7b",)) for name in (VANILLA, *TRAINED)},
    "table4": {
        "pythia": Row(data="human+gpt", bases=("pythia-6.9b",)),
        "opt": Row(data="human+gpt", bases=("opt-6.7b",)),
        "llama": Row(data="human+gpt", bases=("7b",)),
    },
    "table5": {name: Row(data=name, bases=_LLAMA) for name in (VANILLA, "sharegpt", "human", "human+gpt")},
}

#: Data and base -> what Tables 3 and 4 print, in COLUMNS; of 30B the model card of Tülu, which has no such average.
SCORES: Mapping[tuple[str, str], tuple[float | None, ...]] = {
    (VANILLA, "13b"): (42.5, 14.0, 36.9, 47.4, 26.6, None, None),
    ("super_ni", "13b"): (49.8, 4.0, 2.8, 51.4, 13.1, 5.0, 21.0),
    ("cot", "13b"): (44.5, 39.5, 39.0, 52.2, 23.3, 4.7, 33.9),
    ("flan_v2", "13b"): (50.7, 21.0, 39.2, 47.5, 16.2, 5.3, 30.0),
    ("dolly", "13b"): (45.3, 17.0, 26.0, 46.8, 31.4, 18.3, 30.8),
    ("oasst1", "13b"): (43.1, 16.0, 38.5, 38.3, 31.8, 55.2, 37.1),
    ("self_instruct", "13b"): (30.3, 9.0, 29.6, 40.4, 13.4, 7.3, 21.7),
    ("unnatural_instructions", "13b"): (46.2, 7.5, 32.8, 39.3, 24.8, 10.8, 26.9),
    ("alpaca", "13b"): (45.1, 8.0, 34.5, 32.8, 27.6, 33.2, 30.2),
    ("code_alpaca", "13b"): (42.6, 12.0, 36.6, 41.3, 34.5, 21.3, 31.4),
    ("gpt4_alpaca", "13b"): (47.0, 14.0, 38.3, 24.4, 32.5, 63.6, 36.6),
    ("baize", "13b"): (43.5, 8.5, 36.7, 33.9, 27.3, 33.9, 30.6),
    ("sharegpt", "13b"): (49.2, 16.0, 40.1, 30.1, 31.6, 69.1, 39.3),
    ("human", "13b"): (50.4, 36.5, 39.4, 49.8, 23.7, 38.5, 39.7),
    ("human+gpt", "13b"): (49.2, 36.5, 42.8, 46.1, 35.0, 57.2, 44.5),
    ("human+gpt", "pythia-6.9b"): (34.6, 15.5, 27.8, 33.4, 21.4, 9.3, 23.7),
    ("human+gpt", "opt-6.7b"): (34.9, 15.5, 27.9, 27.2, 7.9, 14.5, 21.3),
    ("human+gpt", "7b"): (44.5, 27.0, 39.2, 45.7, 27.8, 48.6, 38.8),
    ("human+gpt", "30b"): (57.7, 51.0, 48.7, 58.2, 46.0, 63.5, None),
}


def parts(data: str) -> tuple[str, ...]:
    """The datasets that data is made of: itself, or those of a mixture; none for vanilla."""
    return () if data == VANILLA else NAMED.get(data, (data,))


def title(data: str) -> str:
    """What a reader calls the data."""
    names = {VANILLA: "no instructions", "human": "the Human mix", "human+gpt": "the Human+GPT mix"}
    return names.get(data) or find(data).title
