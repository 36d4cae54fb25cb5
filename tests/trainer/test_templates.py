"""The instruction templates are those of the 2023 code, drawn as it draws them."""

from __future__ import annotations

import gzip
import json
from collections import Counter
from pathlib import Path
from random import Random
from typing import Any

import pytest

from trainer.raw.rows import Fault, Row
from trainer.sources.templates import WITH_INPUT, WITHOUT_INPUT, alike, draw

GROUPS = {"with_input": WITH_INPUT, "without_input": WITHOUT_INPUT}


@pytest.fixture(scope="module")
def recorded(test_data: Path) -> list[dict[str, Any]]:
    """Each template as the 2023 code rendered it, on one to five sets of texts."""
    with gzip.open(test_data / "oracles" / "open_instruct_v1" / "converters.jsonl.gz", "rt") as lines:
        return [row for row in map(json.loads, lines) if row["kind"] == "template"]


def test_every_template_renders_as_in_2023(recorded: list[dict[str, Any]]) -> None:
    for row in recorded:
        template = GROUPS[row["template_group"]][row["template_index"]]
        made = template.fill(row["instruction"], row["input"] or "", row["output"])
        assert (made, template.weight) == ((row["prompt"], row["completion"]), row["weight"])
    assert {(row["template_group"], row["template_index"]) for row in recorded} == {
        (group, place) for group in GROUPS for place in range(14)
    }


def test_braces_in_a_row_mean_nothing() -> None:
    assert WITH_INPUT[1].fill("Add {x}.", "{input} {instruction}", "{output}") == (
        "Add {x}.\n{input} {instruction}\n\n",
        "{output}",
    )


@pytest.mark.parametrize(("text", "group"), [("2 and 3", WITH_INPUT), (" \n", WITHOUT_INPUT)])
def test_templates_are_drawn_by_their_weights(text: str, group: tuple[Any, ...]) -> None:
    random, drawn = Random(1), 20_000
    counts = Counter(draw(random, text) for _ in range(drawn))
    assert set(counts) == set(group)
    assert sum(template.weight for template in group) == pytest.approx(1)
    # Five standard deviations of a binomial count.
    assert all(abs(counts[one] / drawn - one.weight) < 5 * (one.weight / drawn) ** 0.5 for one in group)


@pytest.mark.parametrize(
    ("fields", "reason"),
    [
        ({"instruction": "i", "input": "", "output": " \n"}, "the output is empty"),
        ({"instruction": " ", "input": None, "output": "o"}, "instruction and input are empty"),
    ],
)
def test_an_empty_row_is_rejected_after_its_draw(fields: dict[str, Any], reason: str) -> None:
    random = Random(7)
    with pytest.raises(Fault, match=f"^a.jsonl:3: {reason}.$"):
        list(alike(Row(fields, where="a.jsonl:3", number=2), random, dataset="d"))
    beside = Random(7)
    draw(beside, "")
    assert random.random() == beside.random()


def test_an_input_alone_asks_enough() -> None:
    row = Row({"instruction": "", "input": "x", "output": "o"}, where="a.jsonl:1", number=0)
    ((user, assistant),) = (one.messages for one in alike(row, Random(1), dataset="d"))
    assert ("x" in user.content, assistant.content) == (True, "o")
