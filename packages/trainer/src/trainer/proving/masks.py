"""Proof that what a batch asks a model to predict is what the assistant says and its EOS, and nothing else."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from trainer.planning.plan import Micro
from trainer.preparation.prepared import Prepared
from trainer.proving.claim import Claim
from trainer.rendering import tulu1
from trainer.rendering.rendered import Reason, Rendered
from trainer.training import batch, model

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from trainer.rendering.tokenizer import Tokenizer
    from trainer.training.settings import Settings

#: Examples that are looked at, spread over the data.
EXAMPLES = 1000
_SAID = (Reason.ASSISTANT, Reason.EOS)


def prove(settings: Settings, *, examples: int = EXAMPLES) -> Iterator[Claim]:
    """Read back what batches of a recipe's data ask for; raises ModelError where model and data do not fit.

    Texts are compared where the template is Tülu's, whose markers tell in the decoded text of a whole example who says
    what. `trainer data check` compares with the conversations themselves, in any template.
    """
    prepared = Prepared.open(Path(settings.data))
    tokenizer = model.check(settings.model, prepared)
    name = prepared.manifest["made_of"]["template"]["name"]
    places = np.linspace(0, len(prepared) - 1, min(examples, len(prepared))).astype(int).tolist()
    wrong = sum(_differing(prepared, index) for index in places)
    count = f"{len(places):,} examples"
    yield Claim(text=f"Targets of batches that are not the learnt tokens of {count}", found=wrong, bound=0)
    if name == tulu1.NAME:  # whose mask learns more by design
        return
    others = sum(_others(prepared[index]) for index in places)
    yield Claim(text=f"Tokens of markers, users or systems that {count} learn", found=others, bound=0)
    if name == "tulu":
        texts = [_texts(prepared[index], tokenizer) for index in places]
        told = [one for one in texts if one is not None]
        silent = f" ({len(texts) - len(told)} examples have markers in messages)" if len(told) < len(texts) else ""
        pieces, differing = (sum(column) for column in zip(*told, strict=True)) if told else (0, 0)
        what = f"Learnt texts that are not what the assistant says and EOS, of {pieces:,}{silent}"
        yield Claim(text=what, found=differing, bound=0)


def _differing(prepared: Prepared, index: int) -> int:
    """How many targets are too many, too few or others, of an example that stands in a row twice."""
    rendered = prepared[index]
    size = len(rendered.ids)
    made = batch.make(Micro(rows=((index, index),), width=2 * size), prepared, {index: 1.0})
    counted = made.weights.numpy() > 0
    asked, targets = made.places.numpy()[counted] + 1, made.targets.numpy()[counted]
    learnt = np.flatnonzero(rendered.supervised[1:]) + 1  # nothing predicts the first token of a document
    wanted = np.concatenate([learnt, size + learnt])
    if len(asked) != len(wanted):
        return abs(len(asked) - len(wanted))
    return int(((asked != wanted) | (targets != np.tile(rendered.ids[learnt], 2))).sum())


def _others(rendered: Rendered) -> int:
    return int((rendered.supervised & ~np.isin(rendered.reasons, _SAID)).sum())


class _Read(NamedTuple):
    pieces: int
    differing: int


def _texts(rendered: Rendered, tokenizer: Tokenizer) -> _Read | None:
    """The learnt pieces of an example, and how many are not the text between an assistant's marker and the next one.

    None where a message writes a marker itself, so that the text alone does not tell who says what.
    """
    ids = rendered.ids.tolist()
    text = tokenizer.decode(ids)
    bos = re.escape(tokenizer.decode(tokenizer.leading)) if tokenizer.leading else ""
    marks = [*re.finditer(rf"(?m)^(?:{bos} ?)?<\|(user|assistant|system)\|>\n", text)]
    if len(marks) != len(_edges(rendered.reasons == Reason.MARKER)):
        return None
    ends = [*(one.start() - 1 for one in marks[1:]), len(text)]
    said = [text[one.end() : end] for one, end in zip(marks, ends, strict=True) if one[1] == "assistant"]
    # Decoded with what is in front: some decoders drop the blank before the first word, some add one behind EOS.
    found = [
        tokenizer.decode(ids[:end]).removeprefix(tokenizer.decode(ids[:start]))
        for start, end in _edges(rendered.supervised)
    ]
    wanted = [one.rstrip(" ") for one in said if one]
    differing = sum(one.rstrip(" ") != other for one, other in zip(found, wanted, strict=False))
    return _Read(max(len(found), len(wanted)), differing + abs(len(found) - len(wanted)))


def _edges(flags: NDArray[np.bool_]) -> list[tuple[int, int]]:
    """The half-open ranges in which flags are set."""
    found = np.flatnonzero(np.diff(flags.astype(np.int8), prepend=0, append=0)).tolist()
    return list(zip(found[::2], found[1::2], strict=True))
