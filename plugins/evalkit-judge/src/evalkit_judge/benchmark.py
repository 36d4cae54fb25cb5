"""The judge as a benchmark: its rows are pairs of outputs, its win rate tells how often the run's are preferred."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from functools import partial
from typing import Any, Literal

from evalkit import (
    Benchmark,
    Context,
    Data,
    DataError,
    Example,
    GenerateRequest,
    Generation,
    Reading,
    Row,
    Source,
    Text,
)
from evalkit.store import RunFolder
from evalkit.types import Answer
from evalkit_judge import pairs
from evalkit_judge.forms import FORMS, Form, Preset, prompt, texts
from evalkit_judge.pairs import Pair, Shown
from evalkit_judge.replies import TIE

#: Chosen on 2026-11-22: a dated snapshot, which its maker does not change. The paper's, gpt-4-0314, is gone.
DEFAULT_JUDGE = "openai:gpt-5.4-2026-03-05"
NOT_COMPARABLE = "not comparable with the paper, whose judge, gpt-4-0314, no longer exists"

Orders = Literal["both", "one"]

#: How warm a greedy judge is when it is asked again: cold, it would repeat what could not be read.
_AGAIN = 0.5
_NOT_ASKED = "(not asked: the outputs are equal)"


def judge(
    *, preset: Preset = "pair", orders: Orders | None = None, order_seed: int = 42, max_tokens: int | None = None
) -> Benchmark[Generation]:
    """The judge of any pairs that ``evalkit judge`` writes down, or of a run whose targets are outputs, too."""
    made = make(preset=preset, orders=orders, order_seed=order_seed, max_tokens=max_tokens)
    data = replace(made.data, home="evalkit judge", file="the folder")
    return replace(made, name="judge", doc="Whether a judge prefers one of two outputs to the other.", data=data)


def make(
    *,
    preset: Preset = "pair",
    orders: Orders | None = None,
    order_seed: int = 42,
    max_tokens: int | None = None,
    sample: Sequence[Mapping[str, Any]] = (),
    notes: Sequence[str] = (),
) -> Benchmark[Generation]:
    """A judge to which a benchmark's plugin gives name, variant and doc.

    ``sample``: records as a run has them. ``notes``: what each run of the judge says of its numbers.
    """
    form = FORMS[preset]
    both = form.both if orders is None else orders == "both"
    longest = form.max_tokens if max_tokens is None else max_tokens
    arrange = partial(_rows, size=form.pairs_per_prompt, both=both, seed=order_seed)
    samples = [pairs.of_record(Row(fields, "sample", 0)) for fields in (sample or _SAMPLE)]
    return Benchmark(
        name="judge",
        version=2,
        doc="A judge.",
        facet="open-ended",
        data=Data(
            home="a run",
            licence="that of the run's data",
            file="the folder",
            rows=lambda source: arrange(pairs.read(source)),
            sample=tuple(dict(row) for row in arrange(samples)),
            judged=partial(_judged, notes=notes),
        ),
        example=example,
        n_shots=int(bool(form.files)),
        shots=texts(form),
        rules={
            "preset": preset,
            "orders": "both" if both else "one",
            "order_seed": order_seed,
            "max_tokens": longest,
            "pairs_per_prompt": form.pairs_per_prompt,
            "again": f"temperature {_AGAIN:g}, the attempt as seed",
        },
        request=partial(request, form=form, max_tokens=longest),
        settled=settled,
        again=again,
        items=lambda example: len(example.meta["pairs"]),
        readings=(Reading(name="preference", extract=partial(preference, form=form), metrics={"win_rate": win}),),
        silence="fails",
    )


def _rows(found: Iterator[Pair] | Sequence[Pair], *, size: int, both: bool, seed: int) -> Iterator[Row]:
    prompts = pairs.arranged(found, size=size, both=both, seed=seed)
    for number, (name, group, shown) in enumerate(prompts):
        fields = {
            "id": name,
            "group": group,
            "subset": shown[0].pair.subset if size == 1 else "",
            "pairs": [one.pair.out() for one in shown],
            "flipped": [one.flipped for one in shown],
        }
        yield Row(fields, f"pair {name}", number)


def example(row: Row) -> Example:
    """A prompt's pairs, two choices each; the target has the letter of the run's answer for each of them."""
    found = [Pair.of(Row(fields, row.where, row.number)) for fields in row["pairs"]]
    shown = [Shown(pair=pair, flipped=flipped) for pair, flipped in zip(found, row["flipped"], strict=True)]
    alone = len(found) == 1
    return Example(
        id=row.text("id"),
        question=found[0].question if alone else f"{len(found)} pairs: {', '.join(pair.id for pair in found)}",
        target="".join(one.target for one in shown),
        choices=tuple(output for one in shown for output in one.outputs),
        subset=row.text("subset"),
        group=row.text("group"),
        meta={"pairs": [_about(pair) for pair in found]},
    )


def _about(pair: Pair) -> dict[str, Any]:
    """What of a pair its choices do not hold."""
    return {name: held for name, held in pair.out().items() if name not in ("said", "reference")}


def shown(example: Example) -> list[Shown]:
    """The pairs of an example, as they were shown."""
    found = []
    for number, about in enumerate(example.meta["pairs"]):
        outputs, flipped = example.choices[2 * number : 2 * number + 2], example.target[number] == "b"
        said, reference = reversed(outputs) if flipped else outputs
        pair = Pair(**{**about, "labels": tuple(about.get("labels", ()))}, said=said, reference=reference)
        found.append(Shown(pair=pair, flipped=flipped))
    return found


def request(example: Example, context: Context, *, form: Form, max_tokens: int) -> GenerateRequest:
    """Show the outputs and ask for the better one of each pair, greedily."""
    text = prompt(form, context.shots, shown(example))
    return GenerateRequest(prompt=text, chat=context.chat, max_tokens=max_tokens)


def again(request: GenerateRequest, attempt: int) -> GenerateRequest:
    """Ask once more, so that the reply can be another one."""
    return replace(request, temperature=_AGAIN, seed=attempt)


def settled(example: Example) -> Generation | None:
    """What stands for the reply where both outputs are equal: nobody is asked."""
    if all(one.pair.is_tie for one in shown(example)):
        return Generation(texts=(Text(text=_NOT_ASKED),))
    return None


def preference(response: Generation, example: Example, *, form: Form) -> Answer | None:
    """The preferred letter of each pair, or ``tie``; None where the reply does not say it of all of them.

    Equal outputs are a tie, whatever the judge said.
    """
    count = len(example.target)
    if all(one.pair.is_tie for one in shown(example)):
        return TIE
    found = form.read(response.texts[0].text, count)
    return found[0] if found and form.pairs_per_prompt == 1 else found


def win(answer: Answer, example: Example) -> float:
    """How many of the run's answers are preferred, as a share; a tie counts one half."""
    given = (answer,) if isinstance(answer, str) else answer
    return sum(point(letter, target) for letter, target in zip(given, example.target, strict=True)) / len(given)


def point(letter: str, target: str) -> float:
    """1 if the run's answer is preferred, one half for a tie."""
    return 0.5 if letter == TIE else float(letter == target)


def _judged(source: Source, *, notes: Sequence[str]) -> dict[str, Any]:
    """Whose answers are judged, with what they are compared, and what to know of it."""
    place = source.path if source.path is None or source.path.is_dir() else source.path.parent
    if place is None:
        return {}
    if (place / pairs.ABOUT).is_file():
        about = json.loads((place / pairs.ABOUT).read_bytes())
        return {**about, "notes": [*about.get("notes", ()), *notes]}
    if not (place / "run.json").is_file():
        raise DataError(f"{source.path} is no run and was not written by `evalkit judge`; pass a run's folder.")
    folder = RunFolder.existing(place)
    rules = folder.manifest["binds"].get("rules", {})
    return {
        "model": str(folder.manifest["model"]),
        "reference": str(rules.get("reference", "the run's targets")),
        "unjudged": int(folder.summary["failed"]),
        "notes": list(notes),
    }


_SAMPLE: tuple[Mapping[str, Any], ...] = (
    {
        "id": "0",
        "question": "What rhymes with orange?",
        "target": "No common English word does.",
        "response": {"texts": [{"text": "Nothing in common use; sporange, a rare word of botany, comes close."}]},
    },
    {
        "id": "1",
        "question": "Say hello in Welsh.",
        "target": "Helo!",
        "response": {"texts": [{"text": "Bonjour!"}]},
    },
)
