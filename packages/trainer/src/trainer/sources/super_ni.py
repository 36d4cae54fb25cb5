"""Super-NaturalInstructions: 96,913 instances of the training tasks of its cross-lingual split.

Raw, an archive of the repository, read as it is: ``splits/xlingual/train_tasks.txt`` names one task a line, each a
file ``tasks/<name>.json`` with ``Definition`` (a list; a string before release 2), ``Positive Examples`` (``input`` and
``output``) and ``Instances`` (``id``, ``input``, and ``output``, a list of right answers; a string before release 2).

Rules, as in the 2023 code: tasks named ``_mmmlu_``, which hold questions of MMLU, are left out before their files
are looked for; of 80 instances drawn from a task 60 are shown without examples, in a drawn template, and 20 behind
two positive examples of the task, drawn for each of them (a task that has no more shows those it has, in order). A task
of fewer than 80 instances gives them all, none with examples. The first definition and the first answer count. Fixed
here: a definition or an answer that is a string is taken whole, where the 2023 code takes its first letter.

The archive is made by GitHub when it is asked for: the commit fixes what is in it, but its bytes may change when
GitHub changes how it packs, and no SHA-256 can be pinned; the first fetch records one. The 2023 scripts fetch the head
of ``master``, whichever it was that day.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from random import Random

from trainer.conversation import Conversation, Message, Rejected
from trainer.raw.rows import Fault, Files, Row, conversations
from trainer.sources import Published, Source
from trainer.sources.templates import templated

_COMMIT = "ae457ac40dafe0cd3dcd1370f0a29da54f33df4a"
_TASKS = "splits/xlingual/train_tasks.txt"
#: Instances of a task without and with examples.
ZERO_SHOT, FEW_SHOT = 60, 20


def convert(files: Files, random: Random) -> Iterator[Conversation | Rejected]:
    """The drawn instances of every task, in the order of the list of tasks."""
    return sample(files, random, ZERO_SHOT, FEW_SHOT)


def sample(files: Files, random: Random, zero_shot: int, few_shot: int) -> Iterator[Conversation | Rejected]:
    """As ``convert``, with these numbers of instances of a task."""
    for line in files.lines(_TASKS):
        if isinstance(line, Rejected):
            yield line
        elif (name := line.text("line").strip()) and "_mmmlu_" not in name:
            task = files.json(f"tasks/{name}.json")
            yield from [task] if isinstance(task, Rejected) else _task(task, random, zero_shot, few_shot)


def _task(task: Row, random: Random, zero_shot: int, few_shot: int) -> Iterator[Conversation | Rejected]:
    try:
        definition = _first(task, "Definition")
        instances = list(task.each("Instances"))
        drawn = len(instances) >= zero_shot + few_shot
        shots = [_solved(shot) for shot in task.rows("Positive Examples")] if drawn else []
    except Fault as fault:
        yield fault.rejected
        return
    if drawn:
        instances = random.sample(instances, k=zero_shot + few_shot)
    bare = instances[:zero_shot] if drawn else instances
    yield from conversations(bare, lambda row: _alone(definition, row, random))
    yield from conversations(instances[len(bare) :], lambda row: _behind(definition, shots, row, random))


def _alone(definition: str, row: Row, random: Random) -> Iterable[Conversation]:
    yield templated(
        row,
        random,
        dataset="super_ni",
        id=_id(row),
        instruction=definition,
        input=row.text("input"),
        output=_first(row, "output"),
    )


def _behind(definition: str, shots: list[str], row: Row, random: Random) -> Iterable[Conversation]:
    before = [definition.strip(), *(random.sample(shots, k=2) if len(shots) > 2 else shots)]
    output = _first(row, "output").strip()
    if not output:
        raise row.fault("the output is empty")
    prompt = "\n\n".join([*before, f"Input:\n{row.text('input').strip()}\nOutput:\n"])
    messages = (Message(role="user", content=prompt), Message(role="assistant", content=output))
    yield Conversation(dataset="super_ni", id=_id(row), messages=messages)


def _solved(shot: Row) -> str:
    return f"Input:\n{shot.text('input').strip()}\nOutput:\n{shot.text('output').strip()}"


def _id(row: Row) -> str:
    return f"super_ni_{row.text('id')}"


def _first(row: Row, name: str) -> str:
    """A text, or the first of a list of texts."""
    if isinstance(row[name], str):
        return row.text(name)
    texts = row.texts(name)
    if not texts:
        raise row.fault(f"field {name!r} is an empty list")
    return texts[0]


SOURCE = Source(
    name="super_ni",
    title="SuperNI",
    home="https://github.com/allenai/natural-instructions",
    licence="Apache-2.0; each task's own in its 'Instance License'",
    published=(
        Published(
            path="super_ni/natural-instructions.zip",
            url=f"https://codeload.github.com/allenai/natural-instructions/zip/{_COMMIT}",
        ),
    ),
    convert=convert,
)
