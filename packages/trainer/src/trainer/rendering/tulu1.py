"""The mask of the 2023 code, for comparison with what it trained: found by the lengths of re-encoded beginnings.

Each message that is not the assistant's is left out of the loss from the number of tokens of the text before it to the
number of tokens of the text with it (and with the marker of an assistant that follows); all else is learnt. Thus also
the newline behind the EOS of every assistant message but the last, and the marker of an assistant message that opens
the conversation or follows another. Where beginnings encode otherwise than the whole, the mask is off by tokens.
Source: ``open_instruct/finetune.py`` of allenai/open-instruct at e44fcf5.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from itertools import chain, zip_longest
from typing import TYPE_CHECKING

from trainer.conversation import Conversation
from trainer.rendering.rendered import Rendered

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from trainer.rendering.template import Pair
    from trainer.rendering.tokenizer import Tokenizer

#: What users call the template with this mask.
NAME = "tulu1"


def spans(conversations: Sequence[Conversation], tokenizer: Tokenizer) -> list[list[tuple[int, int]]]:
    """For each conversation the half-open ranges of tokens that are not learnt, counted with the BOS."""
    ranges = [_ranges(one, tokenizer.eos) for one in conversations]
    lengths = iter(_lengths(list(chain.from_iterable(chain.from_iterable(ranges))), tokenizer))
    return [[(next(lengths), next(lengths)) for _ in one] for one in ranges]


def spans_of_pairs(pairs: Sequence[Pair], tokenizer: Tokenizer) -> list[list[tuple[int, int]]]:
    """The same for prompts with completions: as many tokens as the prompt alone has."""
    return [[(0, length)] for length in _lengths([one.prompt for one in pairs], tokenizer, bare=True)]


def masked(rendered: Sequence[Rendered], spans: Sequence[Sequence[tuple[int, int]]]) -> list[Rendered]:
    """Rendered examples in which everything is learnt but these ranges."""
    import numpy as np

    made = []
    for one, ranges in zip(rendered, spans, strict=True):
        supervised: NDArray[np.bool_] = np.ones(len(one.ids), np.bool_)
        for start, end in ranges:
            supervised[start:end] = False
        made.append(replace(one, supervised=supervised))
    return made


def _ranges(conversation: Conversation, eos: str) -> list[tuple[str, str]]:
    """The texts up to and with each message that is not the assistant's."""
    found = []
    text = ""
    followers = [one.role for one in conversation.messages[1:]]
    for message, follower in zip_longest(conversation.messages, followers):
        before = text
        text += f"<|{message.role}|>\n{message.content.strip()}{eos if message.role == 'assistant' else ''}\n"
        if message.role != "assistant":
            found.append((before, text + "<|assistant|>\n" if follower == "assistant" else text))
    return found


def _lengths(texts: list[str], tokenizer: Tokenizer, *, bare: bool = False) -> list[int]:
    """The tokens of texts with their BOS; the empty beginning of a conversation has not even that."""
    encodings = tokenizer.fast.encode_batch_fast(texts, add_special_tokens=False)
    put = len(tokenizer.leading)
    return [len(one) + put if text or bare else 0 for text, one in zip(texts, encodings, strict=True)]
