"""A benchmark of requests that all differ: the model is asked to say a number."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any

from evalkit import Benchmark, Context, Data, Example, GenerateRequest, Generation, Reading, Row, hookimpl
from evalkit.extract import whole_text
from evalkit.metrics import equal


def say(*, n: int = 20) -> Benchmark[Generation]:
    """Say the numbers from 0 on."""

    def rows(_: Any) -> Iterator[Row]:
        for number in range(n):
            yield Row({}, f"number {number}", number)

    def request(example: Example, context: Context) -> GenerateRequest:
        return GenerateRequest(prompt=example.question, max_tokens=8, stop=("\n",), chat=context.chat)

    return Benchmark(
        name="say",
        version=1,
        doc="Numbers to be said again.",
        facet="reasoning",
        data=Data(home="made by the test", licence="Apache-2.0", file="", rows=rows),
        example=lambda row: Example(id=str(row.number), question=f"Say {row.number}", target=str(row.number)),
        request=request,
        readings=(Reading(name="strict", extract=whole_text, metrics={"accuracy": equal}),),
    )


@hookimpl
def benchmarks() -> Sequence[Callable[..., Benchmark[Any]]]:
    """Offer it."""
    return [say]
