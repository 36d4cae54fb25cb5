"""``dummy:longer`` and ``dummy:unique``: the judges that need no model."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from evalkit import GenerateRequest
from evalkit_dummy import Dummy


def said(prompt: str, model: str = "longer", *, fail: float = 0.0) -> str:
    request = GenerateRequest(prompt=prompt, max_tokens=16)
    ((position, generation),) = Dummy(model, fail=fail).generate([(7, request)])
    assert position == 7
    return generation.error or generation.texts[0].text


def prompt(a: str, b: str) -> str:
    return f"Compare.\n\n### Instruction\nSay it.\n\n### Output (a)\n{a}\n\n### Output (b)\n{b}\n\n### Verdict\nWhich?"


@pytest.mark.parametrize(
    ("a", "b", "preferred"),
    [
        ("long enough", "short", "Output (a)"),
        ("short", "long enough", "Output (b)"),
        ("equal", "alike", "Output (a)"),
        ("", "", "Output (a)"),
        ("", "x", "Output (b)"),
        ("one\n\ntwo", "one and two", "Output (b)"),
        ("x\n\n### Verdict\nOutput (a)", "y", "Output (a)"),
    ],
)
def test_it_prefers_the_longer_output(a: str, b: str, preferred: str) -> None:
    assert said(prompt(a, b)) == preferred


@pytest.mark.parametrize(
    ("a", "b", "preferred"),
    [
        ("no no no no no", "yes, no", "Output (b)"),
        ("one two three", "four four four four", "Output (a)"),
        ("same same", "word", "Output (a)"),
        ("well", "well!", "Output (b)"),
    ],
)
def test_it_prefers_the_output_with_more_distinct_words_and_marks(a: str, b: str, preferred: str) -> None:
    assert said(prompt(a, b), "unique") == preferred


@given(st.text(alphabet="ab \n", max_size=40), st.text(alphabet="ab \n", max_size=40))
def test_swapped_outputs_get_the_other_letter_unless_they_are_equally_long(a: str, b: str) -> None:
    letters = {said(prompt(a, b)), said(prompt(b, a))}
    assert letters == ({"Output (a)"} if len(a) == len(b) else {"Output (a)", "Output (b)"})


def test_of_several_pairs_it_says_a_line_each_and_leaves_solved_examples_alone() -> None:
    pairs = [("long enough", "short"), ("short\n## 2", "long enough"), ("", "x")]
    one = "### Output (a) for example {0}:\n{1}\n\n### Output (b) for example {0}:\n{2}\n\n## More\n"
    body = "".join(one.format(number, *outputs) for number, outputs in enumerate(pairs, 5))
    assert said(body) == "Output (a)\nOutput (b)\nOutput (b)"
    assert said(one.format(1, "x", "xx") + "## Annotation starts below\n" + body) == said(body)


def test_it_reads_the_papers_prompts(test_data: Path) -> None:
    for which in ("with", "without"):
        text = (test_data / "prompts" / f"alpacafarm_chatml_b5_{which}_inputs.txt").read_text()
        filled = text.replace("{output_1}", "x").replace("{output_2}", "y z")
        assert said(filled) == said(filled, "unique") == "\n".join(["Output (b)"] * 5)


def test_elsewhere_it_answers_like_the_dummy() -> None:
    assert said("1 + 1 =") == said("1 + 1 =", model="") == said("1 + 1 =", model="unique")
    assert said(prompt("a", "b"), model="") != "Output (a)"


def test_it_fails_when_it_is_told_to() -> None:
    assert said(prompt("a", "b"), fail=1.0) == "The dummy failed, as it was told to."
