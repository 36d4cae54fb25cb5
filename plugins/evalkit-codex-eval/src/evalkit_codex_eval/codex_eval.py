"""The benchmark in its two settings: what is asked, what is read, and pass@k."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any, Literal

from evalkit import Benchmark, Context, DataError, EvalkitError, Example, GenerateRequest, Generation, Reading, hookimpl
from evalkit.benchmark import Metric
from evalkit.prompts import seed_of
from evalkit.types import Verdict
from evalkit_codex_eval.problems import DATA, example
from evalkit_codex_eval.tests import Tests

#: ``paper``: the prompts and settings of the Tülu 1 paper, which ``v2``, October 2023, left alone. ``v1``: also without
#: BOS, as its code left it out.
Rules = Literal["paper", "v1", "v2"]

#: What follows a function at the left margin.
_STOP = ("\nclass", "\ndef", "\n#", "\nif", "\nprint")
#: The k that are reported besides the headline's, as far as there are so many samples.
_USUAL = (1, 5, 10, 20, 100)


@hookimpl
def benchmarks() -> Sequence[Callable[..., Benchmark[Generation]]]:
    """Offer both settings."""
    return [pass_at_10, pass_at_1]


def pass_at_10(
    *, k: int = 10, n: int = 20, protocol: Rules = "paper", max_tokens: int = 512, strict_wall: bool = False
) -> Benchmark[Generation]:
    """Codex-Eval with samples that differ; ``k`` chooses another headline, ``n`` another number of samples.

    ``strict_wall`` ends a program after three seconds on the clock, as the original does, however busy the machine is.
    """
    if not 1 <= k <= n:
        raise EvalkitError(f"pass@{k} of {n} samples does not exist: choose k from 1 to n with -B k=… -B n=….")
    ks = (k, *(one for one in _USUAL if one <= n and one != k))
    doc = f"Python functions from their docstrings, {n} samples a problem at temperature 0.8, judged by tests."
    rules = _rules(n, 0.8, max_tokens, protocol, strict_wall=strict_wall)
    return _benchmark("", doc, ks, rules)


def pass_at_1(
    *, n: int = 20, protocol: Rules = "paper", max_tokens: int = 512, strict_wall: bool = False
) -> Benchmark[Generation]:
    """Codex-Eval with samples that hardly differ; ``strict_wall`` as in `pass_at_10`."""
    if n < 1:
        raise EvalkitError(f"pass@1 of {n} samples does not exist: choose n from 1 up with -B n=….")
    doc = f"Python functions from their docstrings, {n} samples a problem at temperature 0.1, judged by tests."
    return _benchmark("pass@1", doc, (1,), _rules(n, 0.1, max_tokens, protocol, strict_wall=strict_wall))


def _rules(n: int, temperature: float, max_tokens: int, protocol: Rules, *, strict_wall: bool) -> dict[str, Any]:
    return {
        "n": n,
        "temperature": temperature,
        "top_p": 0.95,
        "max_tokens": max_tokens,
        "bos": protocol != "v1",
        "strict_wall": strict_wall,
    }


def _benchmark(variant: str, doc: str, ks: tuple[int, ...], rules: Mapping[str, Any]) -> Benchmark[Generation]:
    metrics: Mapping[str, Metric] = {f"pass@{k}": partial(pass_at, k=k) for k in ks}
    asked = {name: value for name, value in rules.items() if name != "strict_wall"}
    return Benchmark(
        name="codex-eval",
        variant=variant,
        version=2,
        doc=doc,
        facet="coding",
        data=DATA,
        example=example,
        rules=rules,
        chat=False,
        request=partial(request, **asked),
        readings=(Reading(name="paper", extract=partial(completions, least=max(ks)), metrics=metrics),),
        verify=Tests(strict_wall=rules["strict_wall"]),
    )


def request(
    example: Example, context: Context, *, n: int, temperature: float, top_p: float, max_tokens: int, bos: bool
) -> GenerateRequest:
    """Show the beginning of the program; in a chat the model's turn repeats it and goes on from there."""
    chat = context.chat
    return GenerateRequest(
        prompt=f"Complete the following python function.\n\n\n{example.question}" if chat else example.question,
        answer_prefix=f"Here is the completed function:\n\n\n{example.question}" if chat else "",
        chat=chat,
        max_tokens=max_tokens,
        stop=_STOP,
        temperature=temperature,
        top_p=top_p,
        n=n,
        seed=seed_of(context.seed, example.id),
        bos=bos,
    )


def completions(response: Generation, example: Example, *, least: int) -> tuple[str, ...] | None:
    """All texts, blanks at their ends included; None when there is nothing in any of them."""
    texts = tuple(text.text for text in response.texts)
    if len(texts) < least:
        raise DataError(
            f"pass@{least} needs {least} samples of a problem, and there are {len(texts)}: "
            "say how many there are at least with -B n=…, or use codex-eval:pass@1"
        )
    return texts if any(text.strip() for text in texts) else None


def pass_at(verdict: Verdict, example: Example, *, k: int) -> float:
    """The chance that one of k samples drawn from all passes: 1 - C(failed, k) / C(n, k)."""
    n, passed = len(verdict.passed), sum(verdict.passed)
    return 1 - math.comb(n - passed, k) / math.comb(n, k)
