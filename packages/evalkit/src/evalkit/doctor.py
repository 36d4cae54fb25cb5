"""What a dry run finds before any weights load: problems with their remedies, and what would be asked."""

from __future__ import annotations

import os
import re
import shutil
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import Any

from evalkit import codec
from evalkit.answer_checks import Letters, Stops
from evalkit.backend import Tokenizer
from evalkit.benchmark import Examinable
from evalkit.errors import EvalkitError
from evalkit.load import Loaded, Model, Wishes
from evalkit.prompt_checks import Bos, Check, Room, Sight, Template
from evalkit.types import Example, Finding, GenerateRequest, Request

#: Prompts that a dry run shows.
SHOWN = 2
#: Bytes that a token of an answer takes at most, on the average.
TOKEN_BYTES = 5
LEVELS = ("error", "warning", "note")
#: A word in the name of a model that is tuned to chat.
_TUNED = re.compile(r"(?<![a-z])(instruct|chat)(?![a-z])", re.IGNORECASE)


@dataclass(slots=True)
class Totals:
    """What a run would ask, counted."""

    prompts: int = 0
    #: Of all prompts, and of the longest; 0 where there is no tokenizer.
    tokens: int = 0
    longest: int = 0
    #: Tokens of the longest prompt with its answer.
    reach: int = 0
    #: Bytes that the journal takes at most.
    written: int = 0
    first: list[Sight] = field(default_factory=list)

    def see(self, sight: Sight) -> None:
        """Count a prompt, and keep it if it is to be shown."""
        self.prompts += 1
        self.written += _journal_bytes(sight)
        if len(self.first) < SHOWN:
            self.first.append(sight)
        if sight.ids is not None:
            self.tokens += len(sight.ids)
            self.longest = max(self.longest, len(sight.ids))
            self.reach = max(self.reach, len(sight.ids) + sight.answer)


@dataclass(frozen=True, slots=True, kw_only=True)
class Examination:
    """What a run would ask, and what is to be said of it, errors first."""

    loaded: Loaded
    totals: Totals
    findings: tuple[Finding, ...]


def examine(loaded: Loaded, wishes: Wishes, *, judge: Model | None = None) -> Examination:
    """Look at everything that is known of a run before it begins; every prompt is seen once, and few are kept.

    ``judge`` is asked about itself where it will judge the run. Raises EvalkitError where a request cannot be made.
    """
    tokenizer, totals = loaded.context.tokenizer, Totals()
    context, faults = _told(loaded.model.backend.context, None)
    checks: list[Check] = [
        Room(context),
        Template(),
        Bos(tokenizer),
        Stops(loaded.context.shots),
        Letters(tokenizer),
    ]
    for sight in _sights(loaded):
        totals.see(sight)
        for check in checks:
            check.see(sight)
    found = [*faults, *_data(loaded), *_shots(loaded), *_chat(loaded, wishes)]
    for check in checks:
        found += check.findings(totals.prompts)
    found += _model(loaded.model, min(totals.reach, context or totals.reach))
    found += _verifier(loaded.benchmark.verify, wishes)
    if judge is not None and loaded.benchmark.judged:
        found += _model(judge, 0, role=f"The judge {judge.label}: ")
    found += _folder(wishes.resume or wishes.out, totals.written)
    ordered = sorted(found, key=lambda one: LEVELS.index(one.level))
    return Examination(loaded=loaded, totals=totals, findings=tuple(ordered))


def fault(error: EvalkitError) -> Finding:
    """The finding that says what an error says."""
    return Finding(level="error", text=str(error))


def _sights(loaded: Loaded) -> Iterator[Sight]:
    tokenizer = loaded.context.tokenizer
    # Continuations are few, or each of its own; of one the last token is predicted and never read.
    count = lru_cache(maxsize=1024)(lambda text: tokenizer.count(text) - 1 if tokenizer is not None else 0)
    for number, (_, example, request) in enumerate(loaded.requests()):
        if isinstance(request, GenerateRequest):
            answer = request.max_tokens
        else:
            answer = max(map(count, request.continuations), default=0)
        yield _sight(example, request, tokenizer, answer, whole=number < SHOWN)


def _sight(example: Example, request: Request, tokenizer: Tokenizer | None, answer: int, *, whole: bool) -> Sight:
    """``whole`` renders plain prompts, too, for people; they differ by the BOS token only."""
    text = request.prompt + request.answer_prefix
    if tokenizer is not None and (whole or request.chat):
        text = tokenizer.render(request)
    return Sight(
        example=example,
        request=request,
        text=text,
        ids=None if tokenizer is None else tokenizer.prompt_ids(request),
        answer=answer,
    )


def _data(loaded: Loaded) -> Iterator[Finding]:
    data, total = loaded.benchmark.data, loaded.selection.total
    if loaded.is_sample:
        yield Finding(
            level="warning",
            text="The questions are made-up sample rows; their scores are no result.",
            remedy=f"Pass {data.file} from {data.home} to --data.",
        )
    elif data.n and total != data.n:
        yield Finding(
            level="warning",
            text=f"The data holds {total:,} questions; the published test set has {data.n:,}.",
            remedy=f"Pass {data.file} from {data.home} to --data; `evalkit data verify` tells which file differs.",
        )


def _shots(loaded: Loaded) -> Iterator[Finding]:
    shots = loaded.context.shots
    if shots.origin == "own" and not loaded.is_sample and any(shots.by_subset.values()):
        yield Finding(
            level="warning",
            text="The solved examples in the prompts are our own, since the published ones were not found: scores are "
            "not comparable with published ones.",
            remedy="Put the published ones beside the data, or pass them to --shots-data (`evalkit data list`).",
        )


def _chat(loaded: Loaded, wishes: Wishes) -> Iterator[Finding]:
    """Whether prompts go as chat or as plain text in the way that suits the model and the benchmark."""
    benchmark, model = loaded.benchmark, loaded.model
    templated, tokenizer = model.backend.has_chat_template, loaded.context.tokenizer
    name = model.name.rstrip("/").rpartition("/")[2]
    if benchmark.chat and templated and not loaded.context.chat:
        yield Finding(
            level="warning",
            text="Prompts go as plain text, although the model has a chat template.",
            remedy="Leave --chat off out, unless it is to be measured like a base model.",
        )
    elif benchmark.chat and wishes.chat == "auto" and tokenizer is not None and not templated and _TUNED.search(name):
        yield Finding(
            level="warning",
            text=f"The name {name} says that the model was tuned to chat, but it has no chat template: prompts go as "
            "plain text.",
            remedy="Give its template with --chat-template FILE|tulu, or say --chat off.",
        )
    elif not benchmark.chat and loaded.context.chat:
        yield Finding(
            level="note",
            text=f"{benchmark.setting} is meant to be asked as plain text, and goes as chat.",
            remedy="Leave --chat on out to compare with published scores.",
        )


def _model(model: Model, tokens: int, *, role: str = "") -> list[Finding]:
    told, faults = _told(lambda: model.backend.findings(tokens=tokens), ())
    return [Finding(level=one.level, text=role + one.text, remedy=one.remedy) for one in (*faults, *told)]


def _verifier(verifier: Any, wishes: Wishes) -> Iterator[Finding]:
    if verifier is None:
        return
    record, faults = _told(lambda: verifier.ready(unsafe_code=wishes.unsafe_code), {})
    yield from faults
    for note in record.get("notes", ()):
        yield Finding(level="warning", text=f"Of this run's numbers will be noted: {note}.")
    if not faults and isinstance(verifier, Examinable):
        told, faults = _told(verifier.findings, ())
        yield from (*told, *faults)


def _folder(out: Path, need: int) -> Iterator[Finding]:
    """Whether the run folder can be written; ``need`` is the most that its journal takes, in bytes."""
    there = next(path for path in (out.absolute(), *out.absolute().parents) if path.exists())
    if not there.is_dir() or not os.access(there, os.W_OK | os.X_OK):
        what = "may not be written" if there.is_dir() else "is a file"
        yield Finding(
            level="error",
            text=f"The run folder cannot be made in {out}: {there} {what}.",
            remedy="Choose another place with --out.",
        )
        return
    need, free = 3 * need, shutil.disk_usage(there).free  # the journal, the records and a draft of them
    if need > free:
        yield Finding(
            level="warning",
            text=f"The run folder may take {amount(need)} in {out}, where {amount(free)} are free.",
            remedy="Make room, or choose another place with --out; a run that a full disk stops can be repeated.",
        )


def _journal_bytes(sight: Sight) -> int:
    """The most that a line of the journal takes."""
    asked = len(codec.dumps(codec.flat(sight.example))) + len(codec.dumps(codec.flat(sight.request)))
    texts = sight.request.n * sight.request.max_tokens if isinstance(sight.request, GenerateRequest) else 0
    return asked + TOKEN_BYTES * texts + 200


def _told(tell: Callable[[], Any], otherwise: Any) -> tuple[Any, Sequence[Finding]]:
    """What is told, or in its place the finding that says why it cannot be."""
    try:
        return tell(), ()
    except EvalkitError as error:
        return otherwise, (fault(error),)


def amount(count: float) -> str:
    """Bytes for people: ``1.5 GB``."""
    units = iter(("bytes", "kB", "MB", "GB", "TB"))
    unit = next(units)
    while count >= 1000 and unit != "TB":
        count, unit = count / 1000, next(units)
    return f"{count:,.0f} {unit}" if unit == "bytes" or count >= 100 else f"{count:.1f} {unit}"
