"""Which tokens belong to which segment, by the bytes that each token stands for: no offsets are needed.

Offsets are a quarter of the cost of encoding, and asking for them costs as much again as all else that rendering does.
A byte-level vocabulary (GPT-2's kind: GPT-NeoX, OPT, LLaMA 3, SmolLM2) does without: its tokens, put end to end, are
the text's own bytes.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from itertools import chain
from typing import TYPE_CHECKING, Any
from unicodedata import is_normalized

from trainer.rendering.template import Segment

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray


def lengths(fast: Any) -> NDArray[np.uint16] | None:
    """The bytes that each token of a ``tokenizers.Tokenizer`` stands for, by id; None where it cannot be known.

    Bytes of a text may stand in no token (those that the vocabulary lacks, blanks that an added token takes in), which
    ``counts`` notices, since no token ever stands for a byte that the text lacks.
    """
    import numpy as np

    state = json.loads(fast.to_str())
    model, vocabulary = state["model"], fast.get_vocab(with_added_tokens=True)
    if model["type"] != "BPE" or model["continuing_subword_prefix"] or model["end_of_word_suffix"]:
        return None
    if not _keeps_bytes(state):
        return None
    found = np.zeros(max(vocabulary.values()) + 1, np.uint16)
    for token, index in vocabulary.items():  # written in an alphabet of 256 letters, one a byte
        found[index] = len(token)
    for index, added in fast.get_added_tokens_decoder().items():
        found[index] = len(added.content.encode())
    if model["unk_token"] in vocabulary:
        found[vocabulary[model["unk_token"]]] = 0
    return found


def counts(
    examples: Sequence[Sequence[Segment]],
    texts: Sequence[str],
    ids: Sequence[Sequence[int]],
    sizes: NDArray[np.uint16],
    *,
    normalizes: bool,
) -> list[list[int] | None]:
    """How many tokens begin in each segment of each example; no segment is empty.

    None for an example whose tokens are not its text's bytes, or where a token reaches across the edge of what is
    learnt. ``sizes`` is what ``lengths`` gave for the tokenizer that made the ids of the texts, ``normalizes`` whether
    it has a normalizer.
    """
    import numpy as np

    tokens = np.fromiter(map(len, ids), np.int64, len(ids))
    segments = np.fromiter(map(len, examples), np.int64, len(examples))
    size = sizes[np.fromiter(chain.from_iterable(ids), np.int64, int(tokens.sum()))].astype(np.int64)
    width = np.array([_bytes(one.text) for parts in examples for one in parts], np.int64)
    learnt = np.array([one.learnt for parts in examples for one in parts], bool)
    # GPT-NeoX's normalizer could leave the number of bytes as it was and still move them.
    normal = np.array([not normalizes or one.isascii() or is_normalized("NFC", one) for one in texts], bool)
    whole = normal & (_sums(size, tokens) == _sums(width, segments))
    size, width, learnt = (
        size[np.repeat(whole, tokens)],
        width[np.repeat(whole, segments)],
        learnt[np.repeat(whole, segments)],
    )
    begin, edge = np.cumsum(size) - size, np.cumsum(width) - width
    first = np.searchsorted(begin, edge)
    across = (np.append(begin, -1)[first] != edge) & (learnt != np.roll(learnt, 1))
    fit = whole.copy()
    fit[whole] = _sums(across.astype(np.int64), segments[whole]) == 0
    every = np.diff(first, append=len(begin)).tolist()
    ends = np.cumsum(segments * whole).tolist()
    return [
        every[end - len(parts) : end] if good else None
        for parts, end, good in zip(examples, ends, fit.tolist(), strict=True)
    ]


def _keeps_bytes(state: dict[str, Any]) -> bool:
    """Whether normalizer and pre-tokenizer add nothing to a text."""
    normalizer, splitter = state["normalizer"], state["pre_tokenizer"] or {}
    steps = splitter.get("pretokenizers", [splitter])
    if (normalizer or {"type": "NFC"})["type"] != "NFC" or any(one.get("add_prefix_space") for one in steps):
        return False
    return {"ByteLevel"} <= {one.get("type") for one in steps} <= {"ByteLevel", "Split", "Digits"}


def _bytes(text: str) -> int:
    return len(text) if text.isascii() else len(text.encode())


def _sums(values: NDArray[np.int64], counts: NDArray[np.int64]) -> NDArray[np.int64]:
    """The sum of each of the stretches of so many values that follow one another."""
    import numpy as np

    until = np.concatenate([[0], np.cumsum(values)])[np.cumsum(counts)]
    return np.diff(until, prepend=0)
