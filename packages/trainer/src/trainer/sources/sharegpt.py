"""ShareGPT: dialogues with ChatGPT that its users shared, cut into pieces of at most 2,048 tokens.

A row is {"id": "...", "conversations": [{"from": "human", "value": "..."}, {"from": "gpt", "value": "..."}, ...]}, in
two files of one JSON list each. Senders are also user, chatgpt, bing, bard and system.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from random import Random
from typing import TypeAlias

from trainer.conversation import Conversation, Message, Rejected, Role
from trainer.errors import DataError
from trainer.raw.rows import Fault, Files, Row
from trainer.sources import Published, Source

FILES = tuple(f"sg_90k_part{part}_html_cleaned.json" for part in (1, 2))
#: LLaMA's tokenizer, which measures the pieces; another one in its place measures them its way.
TOKENIZER = "tokenizer.json"
#: Tokens of a piece.
LIMIT = 2048
#: Tokens that a message is taken to need besides its text.
AROUND = 6
SENDERS: dict[str, Role] = {"human": "user", "user": "user", "gpt": "assistant", "chatgpt": "assistant"}

#: Tokens of a text, BOS included if the tokenizer puts one.
Count: TypeAlias = Callable[[str], int]


@dataclass(frozen=True, slots=True, kw_only=True)
class Cut:
    """Where a dialogue is cut."""

    #: First message and the one behind the last, from 0; all of an even number of messages.
    pieces: tuple[tuple[int, int], ...]
    #: First messages of pairs that are longer than a piece may be.
    too_long: tuple[int, ...] = ()
    #: First messages of last pairs that ``as_2023`` loses.
    lost: tuple[int, ...] = ()


def convert(
    files: Files, random: Random, *, count: Count | None = None, limit: int = LIMIT, as_2023: bool = True
) -> Iterator[Conversation | Rejected]:
    """The pieces of each dialogue in which a user and the assistant take turns; it draws nothing.

    ``count`` measures a text instead of the tokenizer among the files. Ids are ``sharegpt_{id}_{first message}``. A
    last message without an answer is left out.

    Table 1's 168,864 instances hang on three faults of the 2023 code, which ``as_2023=False`` mends: it loses a last
    pair that does not fit into the piece before it; it takes only the senders human and gpt, though its next step
    could read user and chatgpt; and it keeps empty messages. What either form leaves out is yielded as Rejected, one
    a pair or a piece.
    """
    count = count or _counter(files)
    for row in files.json_list(*FILES):
        if isinstance(row, Rejected):
            yield row
            continue
        try:
            name, turns = row.text("id"), row.rows("conversations")
            texts = [turn.text("value") for turn in turns]
            senders = [turn.text("from") for turn in turns]
        except Fault as fault:
            yield fault.rejected
            continue
        made = cut([count(text) + AROUND for text in texts[: len(texts) // 2 * 2]], limit=limit, as_2023=as_2023)
        yield from _left_out(row, made, limit)
        for first, behind in made.pieces:
            try:
                said = _messages(row, senders[first:behind], texts[first:behind], first, as_2023=as_2023)
            except Fault as fault:
                yield fault.rejected
            else:
                yield Conversation(dataset="sharegpt", id=f"sharegpt_{name}_{first}", messages=said)


def cut(lengths: Sequence[int], *, limit: int = LIMIT, as_2023: bool = True) -> Cut:
    """Cut a dialogue between pairs of messages into the fewest pieces in order that hold ``limit`` tokens each.

    ``lengths`` are the tokens of an even number of messages. A pair longer than the limit is left out and ends a
    piece. ``as_2023`` also leaves out a last pair that would be a piece of its own behind others: the code of that
    year wrote a piece down when the next one began, or when the last pair joined one.
    """
    pieces: list[tuple[int, int]] = []
    too_long: list[int] = []
    open_since, used = 0, 0
    for first in range(0, len(lengths), 2):
        pair = lengths[first] + lengths[first + 1]
        if used and used + pair > limit:
            pieces.append((open_since, first))
            open_since, used = first, 0
        if pair > limit:
            too_long.append(first)
            open_since = first + 2
        else:
            used += pair
    if used:
        pieces.append((open_since, len(lengths)))
    if as_2023 and pieces and len(lengths) > 2 and pieces[-1] == (len(lengths) - 2, len(lengths)):
        return Cut(pieces=tuple(pieces[:-1]), too_long=tuple(too_long), lost=(len(lengths) - 2,))
    return Cut(pieces=tuple(pieces), too_long=tuple(too_long))


def _messages(
    row: Row, senders: Sequence[str], texts: Sequence[str], first: int = 0, *, as_2023: bool = False
) -> tuple[Message, ...]:
    """A piece in our roles; raises Fault where user and assistant do not take turns, the user first, or one is empty.

    ``as_2023`` takes the senders human and gpt only, and empty messages. ``first`` counts the messages before.
    """
    said: list[Message] = []
    for place, (sender, text) in enumerate(zip(senders, texts, strict=True)):
        role, expected = SENDERS.get(sender), "assistant" if place % 2 else "user"
        if role != expected or (as_2023 and sender not in ("human", "gpt")):
            wanted = ("gpt" if place % 2 else "human") if as_2023 else expected
            raise row.fault(f"message {first + place + 1} is by {sender!r}, where {wanted!r} is expected")
        if not (text.strip() or as_2023):
            raise row.fault(f"message {first + place + 1}, by {sender!r}, is empty")
        said.append(Message(role=expected, content=text))
    return tuple(said)


def _left_out(row: Row, made: Cut, limit: int) -> Iterator[Rejected]:
    for first in made.too_long:
        reason = f"messages {first + 1} and {first + 2} alone have more than {limit:,} tokens"
        yield Rejected(where=row.where, reason=reason)
    for first in made.lost:
        reason = f"messages {first + 1} and {first + 2}, the last, do not fit into a piece; lost as in 2023"
        yield Rejected(where=row.where, reason=reason)
    if not (made.pieces or made.too_long):
        yield Rejected(where=row.where, reason="no message has an answer")


def _counter(files: Files) -> Count:
    """Counts tokens, those around a text included, with the tokenizer among the raw files."""
    from tokenizers import Tokenizer

    found = files.json(TOKENIZER)
    reason = found.reason if isinstance(found, Rejected) else ""
    try:
        tokenizer = Tokenizer.from_str("" if isinstance(found, Rejected) else json.dumps(dict(found)))
    except Exception as error:  # the Rust library raises nothing narrower
        raise DataError(
            f"{found.where}: {reason or error}; the dialogues are cut with LLaMA's tokenizer, so put its {TOKENIZER}"
            " beside them."
        ) from None
    tokenizer.no_truncation()
    return lambda text: len(tokenizer.encode(text))


_SHAREGPT = (
    "https://huggingface.co/datasets/anon8231489123/ShareGPT_Vicuna_unfiltered/resolve/"
    "736c3b26439b79914f5a7bfd44d242223634d752/HTML_cleaned_raw_dataset"
)
_LLAMA = "https://huggingface.co/huggyllama/llama-7b/resolve/4782ad278652c7c71b72204d462d6d01eaaf7549"

SOURCE = Source(
    name="sharegpt",
    title="ShareGPT",
    home="https://huggingface.co/datasets/anon8231489123/ShareGPT_Vicuna_unfiltered",
    licence="Apache-2.0 as published; the users who shared the dialogues were not asked",
    published=(
        Published(
            path=f"sharegpt/{FILES[0]}",
            url=f"{_SHAREGPT}/{FILES[0]}",
            sha256="183c744455c6be491dba42ffee41afdae06d1d79adbcd86b7fef30d2a3206f86",
        ),
        Published(path=f"sharegpt/{FILES[1]}", url=f"{_SHAREGPT}/{FILES[1]}"),
        Published(path=f"sharegpt/{TOKENIZER}", url=f"{_LLAMA}/{TOKENIZER}"),
    ),
    convert=convert,
)
