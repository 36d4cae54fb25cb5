"""What a judge's reply says: one letter for each pair, or nothing that can be read."""

from __future__ import annotations

import ast
import json
import re
from collections.abc import Mapping
from typing import Any

#: The outputs are equal, or the judge says that they are equally good.
TIE = "tie"

_CONCLUSION = re.compile(r"^[^\w\n]*(?:output )?\(?([ab])\)?[^\w\n]*$", re.IGNORECASE | re.MULTILINE)
_MENTION = re.compile(r"output \(([ab])\)", re.IGNORECASE)
#: As AlpacaFarm reads the five preferences of a reply: a line's beginning, and nothing is said of its end.
_LINE = re.compile(r"(?:^|\n)Output \(([ab])\)")
_LIST = re.compile(r"\[.*\]", re.DOTALL)
_NUMBER = r"(\d+(?:\.\d+)?)"
_FIRST_LINE = re.compile(rf"\s*{_NUMBER}\s*[,\s]\s*{_NUMBER}\s*(?:\n|$)")
_ASSISTANT = re.compile(rf"Assistant ([12]): +{_NUMBER}(?![\d.]*[\w(*/^=+-])(?! *[*/^=+-])")
_TUPLE = re.compile(rf"\({_NUMBER}, *{_NUMBER}\)")
#: The scale on which a judge scores.
_HIGHEST = 10.0


def letter(text: str) -> str | None:
    """The letter that stands in a line of its own, the last one; else the only one that is mentioned."""
    if concluded := _CONCLUSION.findall(text):
        return str(concluded[-1]).lower()
    mentioned = {found.lower() for found in _MENTION.findall(text)}
    return mentioned.pop() if len(mentioned) == 1 else None


def letters(text: str, count: int) -> tuple[str, ...] | None:
    """The letters at the beginning of lines; None unless there are just as many as pairs were shown."""
    found = tuple(_LINE.findall(text))
    return found if len(found) == count else None


def ranked(text: str) -> str | None:
    """The letter of the better rank in ``[{'model': 'model_1', 'rank': 2}, {'model': 'model_2', 'rank': 1}]``.

    The list may stand among other text, in any order, as Python or as JSON. Equal ranks are a tie; None where the list
    does not rank both models.
    """
    found = _LIST.search(text)
    ranks: dict[str, float] = {}
    for entry in _listed(found[0]) if found else ():
        try:
            ranks[str(entry["model"])] = float(entry["rank"])
        except (KeyError, TypeError, ValueError):
            return None
    if ranks.keys() != {"model_1", "model_2"}:
        return None
    return _better(ranks["model_2"], ranks["model_1"])


def scored(text: str) -> str | None:
    """The letter of the higher of two scores; equal ones are a tie."""
    found = scores(text)
    return None if found is None else _better(*found)


def scores(text: str) -> tuple[float, float] | None:
    """The scores of the first and the second output.

    They are the first line, two numbers and nothing else. A judge that wants to think first concludes with
    ``Assistant 1: 9`` and ``Assistant 2: 8``, or with ``(9, 8)``: the last of these counts. None for anything beyond
    the scale of 0 to 10.
    """
    if first := _FIRST_LINE.match(text):
        found = float(first[1]), float(first[2])
    else:
        last = {number: float(score) for number, score in _ASSISTANT.findall(text)}
        tuples = _TUPLE.findall(text.rstrip().rpartition("\n")[2])
        if last.keys() == {"1", "2"}:
            found = last["1"], last["2"]
        elif tuples:
            found = float(tuples[-1][0]), float(tuples[-1][1])
        else:
            return None
    return found if max(found) <= _HIGHEST else None


def _better(first: float, second: float) -> str:
    return TIE if first == second else "a" if first > second else "b"


def _listed(text: str) -> list[Mapping[str, Any]]:
    for parse in (json.loads, ast.literal_eval):
        try:
            value = parse(text)
        except (ValueError, SyntaxError, RecursionError, MemoryError):
            continue
        return value if isinstance(value, list) else []
    return []
