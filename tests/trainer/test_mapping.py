"""Anybody's own files become conversations by saying which field holds what."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from random import Random
from typing import Any

import pytest

from trainer.conversation import Conversation, Rejected
from trainer.errors import UnknownName
from trainer.raw.rows import Files
from trainer.sources import Source
from trainer.sources.mapping import mapped

TURNS = [{"role": "user", "content": "u"}, {"role": "assistant", "content": "a"}]


def made(source: Source, path: Path, *rows: Any) -> list[Any]:
    """What a source makes of rows: id and turns, or the rejection in words."""
    (path / "own.jsonl").write_text("".join(f"{json.dumps(row)}\n" for row in rows))
    found = source.convert(Files(path), Random(1))
    return [str(one) if isinstance(one, Rejected) else (one.id, said(one)) for one in found]


def said(conversation: Conversation) -> list[tuple[str, str]]:
    return [(message.role, message.content) for message in conversation.messages]


@pytest.mark.parametrize(
    ("form", "row", "turns"),
    [
        ("alpaca", {"instruction": "i ", "input": " x", "output": "o"}, [("user", "i\n\nx"), ("assistant", "o")]),
        ("alpaca", {"instruction": "i", "input": None, "output": "o"}, [("user", "i"), ("assistant", "o")]),
        ("alpaca", {"instruction": "i", "output": "o"}, [("user", "i"), ("assistant", "o")]),
        ("completion", {"prompt": "p ", "completion": " c"}, [("user", "p "), ("assistant", " c")]),
        ("messages", {"messages": TURNS}, [("user", "u"), ("assistant", "a")]),
        (
            "sharegpt",
            {"conversations": [{"from": who, "value": who} for who in ("system", "human", "gpt", "Human", "bot")]},
            [("system", "system"), ("user", "human"), ("assistant", "gpt"), ("user", "Human"), ("assistant", "bot")],
        ),
    ],
)
def test_each_form_is_read(form: str, row: Mapping[str, Any], turns: list[Any], tmp_path: Path) -> None:
    assert made(mapped("own", form, {}), tmp_path, row) == [("own_0", turns)]


@pytest.mark.parametrize(
    ("form", "fields", "row"),
    [
        ("alpaca", {"instruction": "question", "output": "answer"}, {"question": "u", "answer": "a"}),
        ("completion", {"prompt": "q", "completion": "r"}, {"q": "u", "r": "a"}),
        ("messages", {"messages": "chat", "role": "who"}, {"chat": [{"who": t["role"], **t} for t in TURNS]}),
        (
            "sharegpt",
            {"conversations": "turns", "from": "by", "value": "says"},
            {"turns": [{"by": "user", "says": "u"}, {"by": "model", "says": "a"}]},
        ),
    ],
)
def test_fields_may_have_other_names(form: str, fields: dict[str, str], row: dict[str, Any], tmp_path: Path) -> None:
    source = mapped("own", form, fields)
    assert made(source, tmp_path, row) == [("own_0", [("user", "u"), ("assistant", "a")])]


def test_a_rows_own_id_is_kept(tmp_path: Path) -> None:
    rows = [{"id": id, "prompt": "p", "completion": "c"} for id in ("x", 7, "", None)]
    assert [id for id, _ in made(mapped("own", "completion", {}), tmp_path, *rows)] == ["x", "7", "own_2", "own_3"]


@pytest.mark.parametrize(
    ("form", "row", "reason"),
    [
        ("alpaca", {"instruction": "i"}, "field 'output' is missing (there are: instruction)"),
        ("alpaca", {"instruction": "i", "output": ""}, "the output is empty"),
        ("alpaca", {"instruction": " ", "output": "o"}, "the prompt is empty"),
        ("completion", {"prompt": 1, "completion": "c"}, "field 'prompt' should be text, but is 1"),
        ("messages", {"messages": []}, "the assistant says nothing"),
        ("messages", {"messages": TURNS[:1]}, "the assistant says nothing"),
        ("messages", {"messages": "text"}, "field 'messages' should be a list, but is \"text\""),
        (
            "messages",
            {"messages": [*TURNS, {"role": "assistant", "content": " "}]},
            "turn 3, the assistant's, is empty",
        ),
        ("messages", {"messages": [*TURNS, 5]}, "field 'messages[2]' should be an object, but is 5"),
        (
            "messages",
            {"messages": [{"role": "assistant", "content": None}]},
            "field 'messages[0].content' should be text, but is null",
        ),
        (
            "sharegpt",
            {"conversations": [{"from": "bing", "value": "b"}]},
            "turn 1 is said by 'bing'; known are system, user, human, prompter, assistant, gpt, chatgpt, model, bot",
        ),
    ],
)
def test_a_row_that_does_not_fit_is_rejected_with_its_line(form: str, row: Any, reason: str, tmp_path: Path) -> None:
    good = {
        "alpaca": {"instruction": "i", "output": "o"},
        "completion": {"prompt": "p", "completion": "c"},
        "messages": {"messages": TURNS},
        "sharegpt": {"conversations": [{"from": "gpt", "value": "a"}]},
    }[form]
    first, bad, last = made(mapped("own", form, {}), tmp_path, good, row, good)
    assert bad == f"own.jsonl:2: {reason}."
    assert (first[0], last[0]) == ("own_0", "own_2")


def test_an_unknown_form_names_the_nearest() -> None:
    with pytest.raises(UnknownName, match=r"No mapping is named 'mesages'\. Did you mean 'messages'"):
        mapped("own", "mesages", {})


def test_an_unknown_field_names_those_of_the_form() -> None:
    with pytest.raises(UnknownName, match=r"No field of the mapping 'alpaca' is named 'answer'\. Known: input, ins"):
        mapped("own", "alpaca", {"answer": "output"})
