"""A backend without a model and a benchmark without data: what plugins look like, and what core is tested with."""

from __future__ import annotations

import hashlib
import re
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any, ClassVar

from evalkit import (
    Backend,
    Benchmark,
    Context,
    Data,
    Example,
    GenerateRequest,
    Generation,
    Indexed,
    Likelihood,
    LikelihoodRequest,
    Reading,
    Request,
    Row,
    Text,
    Tokenizer,
    Usage,
    hookimpl,
)
from evalkit.extract import first_line
from evalkit.metrics import equal

#: The two outputs in a prompt that asks a judge for the better one; the benchmarks that ask so keep to this form.
_PAIR = re.compile(r"^### Output \(a\)\n(.*?)\n\n### Output \(b\)\n(.*)\n\n### Verdict$", re.DOTALL | re.MULTILINE)
#: The same for AlpacaFarm's prompts of several pairs, whose solved examples stand before the line below.
_SEVERAL = re.compile(
    r"^### Output \(a\) for example (\d+):\n(.*?)\n\n### Output \(b\) for example \1:\n(.*?)\n\n(?=## )",
    re.DOTALL | re.MULTILINE,
)
_BEGIN = "\n## Annotation starts below\n"
#: What the judges count.
_JUDGES: dict[str, Callable[[str], int]] = {
    "longer": len,
    "unique": lambda text: len(set(re.findall(r"\w+|[^\w\s]", text))),
}


class Words:
    """A tokenizer whose tokens are words, single marks and runs of blanks."""

    def __init__(self, chat_template: str | None) -> None:
        self._chat_template = chat_template

    @property
    def has_chat_template(self) -> bool:
        """Whether ``-M chat_template`` was given."""
        return self._chat_template is not None

    def render(self, request: Request) -> str:
        """The prompt, in a chat between ``User:`` and ``Model:``."""
        if request.chat:
            return f"User: {request.prompt}\nModel: {request.answer_prefix}"
        return request.prompt + request.answer_prefix

    def prompt_ids(self, request: Request) -> list[int]:
        """A number for each word of the prompt."""
        return [_number(word) % 50_000 for word in _words(self.render(request))]

    def count(self, text: str) -> int:
        """Words, marks and runs of blanks."""
        return len(_words(text))

    def cut(self, text: str, tokens: int) -> str:
        """The first words."""
        return "".join(_words(text)[:tokens])


class Dummy(Backend):
    """Answers without a model, always the same way.

    ``dummy:longer`` is a judge: of two outputs it prefers the longer one; ``dummy:unique`` prefers the one with more
    distinct words and marks.
    """

    can: ClassVar[frozenset[str]] = frozenset({"generate", "likelihood"})
    speed_options: ClassVar[frozenset[str]] = frozenset({"batch_size", "delay"})
    streams: ClassVar[bool] = True

    def __init__(
        self,
        model: str,
        *,
        delay: float = 0.0,
        fail: float = 0.0,
        chat_template: str | None = None,
        batch_size: int = 1,
    ) -> None:
        self._model = model
        #: Seconds per answer.
        self._delay = delay
        #: The share of requests that fail.
        self._fail = fail
        self._words = Words(chat_template)

    def tokenizer(self) -> Tokenizer:
        """A tokenizer of words."""
        return self._words

    def generate(self, requests: Iterable[Indexed[GenerateRequest]]) -> Iterator[Indexed[Generation]]:
        """Answer each request with a number below 20 that its prompt decides."""
        for position, request in requests:
            if self._delay:
                time.sleep(self._delay)
            texts = tuple(self._text(request, sample) for sample in range(request.n))
            usage = Usage(prompt_tokens=len(self._words.prompt_ids(request)), completion_tokens=2 * request.n)
            yield position, Generation(texts=texts, usage=usage)

    def likelihood(self, requests: Iterable[Indexed[LikelihoodRequest]]) -> Iterator[Indexed[Likelihood]]:
        """Give each continuation a log-probability between -10 and 0 that prompt and continuation decide."""
        for position, request in requests:
            if self._delay:
                time.sleep(self._delay)
            if self._fails(request.prompt):
                yield position, Likelihood(error="The dummy failed, as it was told to.")
                continue
            logprobs = tuple(-10 * _share(request.prompt + one) for one in request.continuations)
            lengths = tuple(self._words.count(one) for one in request.continuations)
            yield position, Likelihood(logprobs=logprobs, lengths=lengths)

    def _text(self, request: GenerateRequest, sample: int) -> Text:
        if self._fails(request.prompt):
            return Text(error="The dummy failed, as it was told to.")
        if (count := _JUDGES.get(self._model)) and (pairs := _pairs(request.prompt)):
            better = ("b" if count(b) > count(a) else "a" for a, b in pairs)
            return Text(text="\n".join(f"Output ({letter})" for letter in better))
        seed = f"{request.seed}/{sample}" if request.temperature else ""
        return Text(text=f" {_number(seed + request.prompt) % 20}")

    def _fails(self, prompt: str) -> bool:
        return self._fail > 0 and _share(f"fail/{prompt}") < self._fail


def arithmetic(*, n: int = 20) -> Benchmark[Generation]:
    """Make the benchmark with ``n`` sums."""
    return Benchmark(
        name="arithmetic",
        version=1,
        doc="Sums of two one-digit numbers.",
        facet="reasoning",
        data=Data(home="made by the plugin itself", licence="Apache-2.0", file="", rows=lambda _: _sums(n)),
        example=_example,
        request=_request,
        readings=(Reading(name="plain", extract=first_line, metrics={"exact_match": equal}),),
    )


def _sums(n: int) -> Iterator[Row]:
    for number in range(n):
        yield Row({"a": number % 10, "b": number // 10 % 10}, f"sum {number}", number)


def _example(row: Row) -> Example:
    return Example(id=str(row.number), question=f"{row['a']} + {row['b']} =", target=str(row["a"] + row["b"]))


def _request(example: Example, context: Context) -> GenerateRequest:
    return GenerateRequest(prompt=example.question, max_tokens=8, stop=("\n",), chat=context.chat)


@hookimpl
def backend() -> type[Backend]:
    """Offer the backend ``dummy``."""
    return Dummy


@hookimpl
def benchmarks() -> Sequence[Callable[..., Benchmark[Any]]]:
    """Offer the benchmark ``arithmetic``."""
    return [arithmetic]


def _pairs(prompt: str) -> list[tuple[str, str]]:
    """The outputs that a judge is to compare."""
    if pair := _PAIR.search(prompt):
        return [(pair[1], pair[2])]
    return [(a, b) for _, a, b in _SEVERAL.findall(prompt.rpartition(_BEGIN)[2])]


def _words(text: str) -> list[str]:
    return re.findall(r"\w+|\s+|.", text)


def _number(text: str) -> int:
    return int.from_bytes(hashlib.blake2b(text.encode("utf-8", "surrogatepass"), digest_size=8).digest(), "big")


def _share(text: str) -> float:
    return _number(text) / 2**64
