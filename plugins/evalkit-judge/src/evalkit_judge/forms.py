"""The forms in which a judge is asked: the words of the prompt, and how its reply is read."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import chain, repeat
from typing import Literal

from evalkit import Example, Shots, Source
from evalkit_judge import replies
from evalkit_judge.pairs import Pair, Shown

Preset = Literal["pair", "paper", "alpaca-eval", "scores"]

#: Fills a prompt of several pairs that has too few; what is said of it is not read.
_FILLER = Shown(pair=Pair(id="", instruction="What is 1 + 1?", said="2", reference="3"), flipped=False)
_OWN_WORDS = "the judge's prompt: words of our own, in the form of the published ones, which were not given"
_PLACE = re.compile(r"\{(instruction|input|output_1|output_2)\}")
_CHATML = re.compile(r"<\|im_(?:start\|>(?:system|user)|end\|>)\n?")


@dataclass(frozen=True, slots=True, kw_only=True)
class Form:
    """One form: ``{instruction}``, ``{input}``, ``{output_1}`` and ``{output_2}`` stand in the text once a pair."""

    #: The published texts: without, and where that is another one, with inputs. Empty for words of our own.
    files: tuple[str, ...] = ()
    #: What stands in for them where they are not given.
    own: tuple[str, ...]
    pairs_per_prompt: int = 1
    #: Longest reply, in tokens.
    max_tokens: int
    #: Whether each pair is shown in both orders unless the user says otherwise.
    both: bool = True
    #: Reads the letters of (reply, pairs in it).
    read: Callable[[str, int], tuple[str, ...] | None]


def texts(form: Form) -> Callable[[Source, int, int], Shots]:
    """Find the published texts of a form, or take our own: as shots, so that a run is bound to what they say."""

    def find(source: Source, wanted: int, seed: int) -> Shots:
        if not form.files:
            return Shots()
        there = all(source.find(name) for name in form.files)
        found = [source.text(source.find(name)[0]) for name in form.files] if there else form.own
        templates = (Example(id=str(number), question=text, target="") for number, text in enumerate(found))
        return Shots(by_subset={"": tuple(templates)}, origin="published" if there else _OWN_WORDS)

    return find


def prompt(form: Form, shots: Shots, shown: Sequence[Shown]) -> str:
    """The prompt for some pairs; those that fill it up come last."""
    templates = [shot.question for shot in shots.by_subset.get("", ())] or list(form.own)
    template = templates[-1] if any(one.pair.input for one in shown) else templates[0]
    whole = list(shown) + [_FILLER] * (form.pairs_per_prompt - len(shown))
    values = {
        "instruction": (one.pair.instruction.strip() if "{input}" in template else _asked(one) for one in whole),
        "input": (one.pair.input for one in whole),
        "output_1": (one.outputs[0] for one in whole),
        "output_2": (one.outputs[1] for one in whole),
    }
    filled = {name: chain(some, repeat("")) for name, some in values.items()}
    # A system's and a user's turn become one: a request has no system turn.
    return _PLACE.sub(lambda place: next(filled[place[1]]), _CHATML.sub("", template)).strip()


def _asked(one: Shown) -> str:
    return one.pair.question.strip()


def _alone(read: Callable[[str], str | None]) -> Callable[[str, int], tuple[str, ...] | None]:
    def letters(text: str, count: int) -> tuple[str, ...] | None:
        found = read(text)
        return None if found is None else (found,)

    return letters


def _filled_up(text: str, count: int) -> tuple[str, ...] | None:
    """The letters of the pairs that were meant: a whole prompt's worth must be there, or none counts."""
    found = replies.letters(text, _SEVERAL)
    return None if found is None else found[:count]


_SEVERAL = 5

#: The lines that begin with ``###`` are a form that other programs read: the README shows it.
_PAIR = """\
Two assistants were given the same instruction. Compare their outputs and decide which of them a careful reader would \
rather have received: the one that does what was asked, is correct, and is clearly written. Neither the order of the \
outputs nor their length is a merit in itself.

### Instruction
{instruction}

### Output (a)
{output_1}

### Output (b)
{output_2}

### Verdict
Which output is better? Reply with Output (a) or Output (b) and nothing else."""

_ONE_OF_SEVERAL = """

## Example {number}

### Instruction {number}:
{{instruction}}{input}

### Output (a) for example {number}:
{{output_1}}

### Output (b) for example {number}:
{{output_2}}"""


def _several(*, inputs: bool) -> str:
    """Words of our own for a prompt of several pairs."""
    head = (
        "Five pairs of outputs follow, each to an instruction of its own. For every pair choose the output that a "
        "careful reader would rather have received: helpful, natural and correct."
    )
    tail = (
        "\n\n## Preferences\nWrite five lines, one a pair and in their order, each either Output (a) or Output (b), "
        "and nothing else."
    )
    more = "\n\n### Input {number}:\n{{input}}" if inputs else ""
    numbers = range(1, _SEVERAL + 1)
    return head + "".join(_ONE_OF_SEVERAL.format(number=one, input=more.format(number=one)) for one in numbers) + tail


_RANKING = '''\
Rank two models by how good their answers to an instruction are, as most people would rank them.

The instruction:
{
    "instruction": """{instruction}""",
}

The answers:
[
    {
        "model": "model_1",
        "answer": """{output_1}"""
    },
    {
        "model": "model_2",
        "answer": """{output_2}"""
    }
]

Reply with a list of the form [{'model': 'model_1', 'rank': <1 or 2>}, {'model': 'model_2', 'rank': <1 or 2>}], where \
1 is the better rank, and with nothing else.'''

_SCORES = """\
Two assistants answered the same question. Give each answer a score from 1 to 10 for how helpful, relevant, accurate \
and detailed it is.

[Question]
{instruction}

[Assistant 1]
{output_1}

[Assistant 2]
{output_2}

[Scores]
Write two numbers and a blank between them in the first line, the score of Assistant 1 first. Explain them below. The \
order in which the answers stand is no reason for a score."""

FORMS: dict[Preset, Form] = {
    "pair": Form(own=(_PAIR,), max_tokens=250, read=_alone(replies.letter)),
    "paper": Form(
        files=("alpacafarm_chatml_b5_without_inputs.txt", "alpacafarm_chatml_b5_with_inputs.txt"),
        own=(_several(inputs=False), _several(inputs=True)),
        pairs_per_prompt=_SEVERAL,
        max_tokens=250,
        both=False,
        read=_filled_up,
    ),
    "alpaca-eval": Form(files=("alpaca_eval.txt",), own=(_RANKING,), max_tokens=100, read=_alone(replies.ranked)),
    "scores": Form(own=(_SCORES,), max_tokens=1024, read=_alone(replies.scored)),
}
