"""Lengths of a mixture before it is there: a model made from the means of the paper's Table 1, not data.

A message has gamma(1.5) many tokens with the mean that Table 1 gives; an example adds BOS, the markers of the Tülu
template and end-of-sequence, and is cut at 2,048. ShareGPT's conversations were split at 2,048 tokens, so theirs are
2,048 times a Beta variable with the mean 1,423 / 2,048; its spread (2.5) is the one at which random batches of 2, 4 and
8 lose to padding what such conversations are reported to lose (0.83, 0.75, 0.72).
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

from trainer.table1 import TABLE_1

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

#: What the command line calls the model.
NAME = "human+gpt"
LIMIT = 2048
#: The mixture's datasets, in the order in which it names them.
_DATASETS = ("cot", "flan_v2", "dolly", "oasst1", "gpt4_alpaca", "code_alpaca", "sharegpt")
_SHAREGPT_MEAN = 1423 / LIMIT
_SPREAD = 2.5
#: ``<|user|>\n``, a newline, ``<|assistant|>\n`` and ``</s>`` in LLaMA's tokens, once a round.
_MARKERS = 6 + 1 + 7 + 1


def human_and_gpt(seed: int = 0) -> NDArray[np.int64]:
    """The lengths of 490,694 examples in tokens, dataset by dataset, shape (examples,)."""
    return of(_DATASETS, seed=seed)


def of(datasets: Iterable[str], *, limit: int = LIMIT, seed: int = 0) -> NDArray[np.int64]:
    """The lengths of the examples of datasets of Table 1, cut at ``limit``, dataset by dataset, shape (examples,)."""
    import numpy as np

    numbers = np.random.Generator(np.random.PCG64(seed))
    parts = [_sharegpt(numbers) if name == "sharegpt" else _messages(numbers, name) for name in datasets]
    return np.minimum(np.concatenate(parts).astype(np.int64), limit)


def supervised(datasets: Iterable[str]) -> float:
    """The share of the tokens that an assistant says, end-of-sequence included, by Table 1's means."""
    rows = [TABLE_1[name] for name in datasets]
    learnt = sum(row.instances * row.rounds * (row.completion + 1) for row in rows)
    return learnt / sum(row.instances * (1 + row.rounds * (_MARKERS + row.prompt + row.completion)) for row in rows)


def _messages(numbers: np.random.Generator, name: str) -> NDArray[np.float64]:
    import numpy as np

    row = TABLE_1[name]
    count = row.instances
    lengths = np.ones(count)  # BOS
    # Rounds are whole: with a mean of 1.6, six in ten examples have a second one.
    whole = int(row.rounds)
    for share in (*[1.0] * whole, row.rounds - whole):
        has = numbers.random(count) < share
        said = numbers.gamma(1.5, row.prompt / 1.5, count) + numbers.gamma(1.5, row.completion / 1.5, count)
        lengths += has * (_MARKERS + said)
    return np.minimum(lengths, LIMIT)


def _sharegpt(numbers: np.random.Generator) -> NDArray[np.float64]:
    import numpy as np

    shape = _SHAREGPT_MEAN * _SPREAD, (1 - _SHAREGPT_MEAN) * _SPREAD
    lengths = np.clip(LIMIT * numbers.beta(*shape, TABLE_1["sharegpt"].instances), 1 + _MARKERS, LIMIT)
    return np.asarray(lengths)
