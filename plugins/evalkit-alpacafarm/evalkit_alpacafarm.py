r"""AlpacaFarm: open-ended instructions, and a judge that compares what a model said with a reference.

A row of ``davinci_003_outputs.json`` (https://github.com/hamishivi/alpaca_farm)::

    {"instruction": "How did US states get their names?", "input": "", "generator": "text-davinci-003-greedy-long",
     "output": "\n\nThe names of US states vary in origin, but many are derived from Native American languages, ..."}

``model_outputs.json`` of https://github.com/tatsu-lab/alpaca_eval has ``dataset`` in place of ``input``, which stands
behind the instruction there. The judge's rows are the records of a run.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from functools import partial
from typing import Any, Literal

from evalkit import (
    Benchmark,
    Context,
    Data,
    DataError,
    Example,
    File,
    GenerateRequest,
    Generation,
    Reading,
    Row,
    Source,
    codec,
    hookimpl,
)
from evalkit.extract import whole_text
from evalkit_judge import NOT_COMPARABLE, make
from evalkit_judge.benchmark import Orders
from evalkit_judge.forms import Preset

#: ``paper``: the settings of the Tülu 1 paper, and of its code (``v1``), which gave BOS here. ``v2``: October 2023.
Rules = Literal["paper", "v1", "v2"]
#: Text-davinci-003 with up to 2,048 tokens, or AlpacaEval's, with up to 300.
Reference = Literal["davinci-2048", "alpaca-eval"]

#: AlpacaEval names the source of each instruction; AlpacaFarm's file has the same instructions in the same order and
#: does not.
_SOURCES = (("helpful_base", 129), ("koala", 156), ("oasst", 188), ("selfinstruct", 252), ("vicuna", 80))
#: Of the 805 instructions, so that sources are given to no others.
_INSTRUCTIONS = "d02007bfbcc8fcf624c641e8b70d53e82f7d0c061d12cf1b5695357e0d0090ce"


@hookimpl
def benchmarks() -> Sequence[Callable[..., Benchmark[Generation]]]:
    """Offer the instructions and the judge."""
    return [answers, judge]


def answers(
    *, protocol: Rules = "paper", reference: Reference | None = None, max_tokens: int | None = None
) -> Benchmark[Generation]:
    """The instructions."""
    late = protocol == "v2"
    chosen = reference or ("alpaca-eval" if late else "davinci-2048")
    longest = (8192 if late else 2048) if max_tokens is None else max_tokens
    return Benchmark(
        name="alpacafarm",
        version=1,
        doc="805 open-ended instructions; a second model judges the answers.",
        facet="open-ended",
        data=_DATA[chosen],
        example=example,
        rules={"reference": chosen, "max_tokens": longest},
        request=partial(request, max_tokens=longest),
        readings=(Reading(name="text", extract=whole_text, metrics={"answered": answered}),),
        judged="judge",
    )


def judge(
    *, preset: Preset = "pair", orders: Orders | None = None, order_seed: int = 42, max_tokens: int | None = None
) -> Benchmark[Generation]:
    """The judge of a run's answers."""
    made = make(
        preset=preset,
        orders=orders,
        order_seed=order_seed,
        max_tokens=max_tokens,
        sample=_SAMPLE_RECORDS,
        notes=(NOT_COMPARABLE,),
    )
    return replace(
        made,
        name="alpacafarm",
        variant="judge",
        doc="Whether a judge prefers a run's answers to open-ended instructions to reference outputs.",
        data=replace(made.data, home="a run of alpacafarm", files=_PROMPTS),
    )


def rows(source: Source, *, files: tuple[str, ...]) -> Iterator[Row]:
    """The rows of a file of reference outputs."""
    name = source.one(*files)
    published = source.json(name)
    if not isinstance(published, list) or not all(isinstance(fields, Mapping) for fields in published):
        raise DataError(f"{name}: should be a list of objects with instruction and output.")
    sources = _sources(published)
    for number, fields in enumerate(published):
        yield Row({**fields, **sources.get(number, {})}, f"{name} entry {number}", number)


def _sources(published: Sequence[Mapping[str, Any]]) -> Mapping[int, Mapping[str, str]]:
    """The source of each instruction, by its position, where a file has the known ones and does not say it."""
    if any("dataset" in fields for fields in published):
        return {}
    asked = [_question(str(fields.get("instruction")), str(fields.get("input", ""))) for fields in published]
    if codec.digest(asked) != _INSTRUCTIONS:
        return {}
    names = [name for name, count in _SOURCES for _ in range(count)]
    return {number: {"dataset": name} for number, name in enumerate(names)}


def example(row: Row) -> Example:
    """The instruction with its input, and the reference output."""
    more = row.text("input") if "input" in row else ""
    return Example(
        id=str(row.number),
        question=_question(row.text("instruction"), more),
        target=row.text("output"),
        subset=row.text("dataset") if "dataset" in row else "",
        meta={"input": more} if more else {},
    )


def _question(instruction: str, more: str) -> str:
    return instruction + (f"\n\n{more}" if more else "")


def request(example: Example, context: Context, *, max_tokens: int) -> GenerateRequest:
    """Ask for the answer to the bare instruction."""
    return GenerateRequest(prompt=example.question, chat=context.chat, max_tokens=max_tokens)


def answered(answer: str, example: Example) -> float:
    """1 for any answer: how good it is, the judge says."""
    return 1.0


_SAMPLE = (
    {
        "instruction": "Name three things that one should not forget on a walk in the mountains.",
        "input": "",
        "output": "Water, a map of the area and a jacket that keeps the rain out.",
    },
    {
        "instruction": "Put this sentence into the past tense.",
        "input": "The train leaves before we reach the station.",
        "output": "The train left before we reached the station.",
    },
    {
        "instruction": "Why does a loaf of bread go stale faster in the fridge than on the table?",
        "input": "",
        "output": "Its starch returns to a crystalline form, and it does so fastest a little above freezing.",
    },
)

_SAMPLE_RECORDS = (
    {
        "id": "0",
        "question": "Name three things that one should not forget on a walk in the mountains.",
        "target": "Water, a map of the area and a jacket that keeps the rain out.",
        "response": {"texts": [{"text": "Water, sun cream, and a charged phone with the map stored on it."}]},
        "answers": {"text": "Water, sun cream, and a charged phone with the map stored on it."},
    },
    {
        "id": "1",
        "question": "Put this sentence into the past tense.\n\nThe train leaves before we reach the station.",
        "target": "The train left before we reached the station.",
        "response": {"texts": [{"text": "The train has leaved before we reach the station."}]},
        "answers": {"text": "The train has leaved before we reach the station."},
    },
    {
        "id": "2",
        "question": "Why does a loaf of bread go stale faster in the fridge than on the table?",
        "target": "Its starch returns to a crystalline form, and it does so fastest a little above freezing.",
        "response": {"texts": [{"text": "Because it is cold there."}]},
        "answers": {"text": "Because it is cold there."},
    },
)

_FARM = "https://github.com/hamishivi/alpaca_farm"
_ALPACA_EVAL = "https://raw.githubusercontent.com/tatsu-lab/alpaca_eval/cd543a149df89434d8a54582c0151c0b945c3d20"
_FILES = (
    File(
        path="nc/alpaca_farm/davinci_003_outputs.json",
        # No commit of this fork is known; the hash says whether it is the paper's file.
        url=f"{_FARM}/raw/main/src/alpaca_farm/auto_annotations/annotators/greedy_gpt4/davinci_003_outputs.json",
        sha256="c5f1b89b610d4d37f2bb22ad187f798278258df7ccdd59bface4a7d2f532f0ec",
        page=_FARM,
    ),
    File(
        path="nc/alpaca_eval/text_davinci_003/model_outputs.json",
        url=f"{_ALPACA_EVAL}/results/text_davinci_003/model_outputs.json",
        sha256="af0bc112f08c88bf589bbfe6fc1036806d0a0f6fec9c4d5a4db860f5afe73b4b",
        page="https://github.com/tatsu-lab/alpaca_eval",
    ),
)

#: The texts of the paper's judge, from its fork's folder ``greedy_gpt4``; no pinned address of them is known.
_PROMPTS = tuple(
    File(
        path=f"prompts/alpacafarm_chatml_b5_{which}_inputs.txt",
        sha256=sha256,
        page=_FARM,
        licence="Apache-2.0",
    )
    for which, sha256 in (
        ("without", "76bddc8c4d36448da4c88287b2a396c8cce9e1bc2f04182e04d1d52b1fad1f4e"),
        ("with", "e282137f36fd24336f50719a9260c0f77b2007bd3342f8641093f4a8a9f397e0"),
    )
)

_DATA: Mapping[str, Data] = {
    "davinci-2048": Data(
        home=_FARM,
        licence="CC-BY-NC-4.0",
        n=805,
        file="davinci_003_outputs.json",
        rows=partial(rows, files=("davinci_003_outputs.json",)),
        sample=_SAMPLE,
        files=(*_FILES, *_PROMPTS),
    ),
    "alpaca-eval": Data(
        home="https://github.com/tatsu-lab/alpaca_eval",
        licence="CC-BY-NC-4.0",
        n=805,
        file="results/text_davinci_003/model_outputs.json",
        rows=partial(rows, files=("text_davinci_003/model_outputs.json",)),
        sample=_SAMPLE,
        files=(*_FILES, *_PROMPTS),
    ),
}
