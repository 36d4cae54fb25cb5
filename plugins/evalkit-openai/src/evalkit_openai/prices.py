"""What tokens cost: a dated price list that the user can edit, and a budget that is never exceeded knowingly."""

from __future__ import annotations

import datetime
import json
import re
import tomllib
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from typing import Any

from evalkit.errors import ModelError

#: Behind a model's name, the date of a snapshot: ``gpt-4o-2024-08-06``.
_SNAPSHOT = re.compile(r"-\d{4}-?\d\d-?\d\d$")


@dataclass(frozen=True, slots=True, kw_only=True)
class Tokens:
    """The tokens of one reply, as the server counted them."""

    prompt: int = 0
    #: Those of the prompt that the server had in its cache.
    cached: int = 0
    #: Reasoning included.
    completion: int = 0

    def __add__(self, other: Tokens) -> Tokens:
        return Tokens(
            prompt=self.prompt + other.prompt,
            cached=self.cached + other.cached,
            completion=self.completion + other.completion,
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Price:
    """USD per million tokens."""

    input: float
    cached: float
    output: float
    #: When the list was drawn up.
    date: datetime.date

    def cost(self, tokens: Tokens) -> float:
        """What tokens cost, in USD."""
        fresh = tokens.prompt - tokens.cached
        return (fresh * self.input + tokens.cached * self.cached + tokens.completion * self.output) / 1e6


def find(model: str, file: str | None, today: datetime.date) -> Price | None:
    """The price of a model by the user's list, or by the one that is shipped; None where the list lacks it.

    A snapshot without a price of its own has its model's. Raises ModelError for a list that cannot be read.
    """
    text, name = _read(file)
    try:
        listed = json.loads(text) if name.endswith(".json") else tomllib.loads(text)
        date = _date(listed["date"])
        for wanted in dict.fromkeys((model, _SNAPSHOT.sub("", model))):
            valid = [
                (_date(entry.get("from", datetime.date.min)), entry)
                for entry in listed["price"]
                if entry["model"] == wanted
            ]
            valid = [(since, entry) for since, entry in valid if since <= today]
            if valid:
                entry = max(valid, key=lambda one: one[0])[1]
                amount, cached = float(entry["input"]), float(entry.get("cached", entry["input"]))
                return Price(input=amount, cached=cached, output=float(entry["output"]), date=date)
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise ModelError(
            f"The price list {name} cannot be read ({type(error).__name__}: {error}): it needs a date, and for each"
            " [[price]] a model, an input and an output in USD per million tokens."
        ) from None
    return None


def read_budget(text: str | None) -> float | None:
    """USD in ``5usd``, ``$5`` or ``5``; raises ModelError."""
    if text is None:
        return None
    found = re.fullmatch(r"\$?\s*(\d+(?:\.\d+)?)\s*(?:usd|\$)?", text.strip(), re.I)
    if not found or not float(found[1]):
        raise ModelError(f"budget={text}: expected an amount in US dollars, such as 5usd.")
    return float(found[1])


def dollars(amount: float) -> str:
    """``4.20 USD``; small amounts with more digits."""
    return f"{amount:.2f} USD" if amount >= 1 else f"{amount:.4f} USD"


def _read(file: str | None) -> tuple[str, str]:
    if file is None:
        return resources.files("evalkit_openai").joinpath("prices.toml").read_text(encoding="utf-8"), "prices.toml"
    try:
        return Path(file).read_text(encoding="utf-8"), file
    except (OSError, UnicodeError) as error:
        raise ModelError(f"The price list {file} cannot be read ({error}).") from None


def _date(value: Any) -> datetime.date:
    if isinstance(value, datetime.datetime):
        return value.date()
    return value if isinstance(value, datetime.date) else datetime.date.fromisoformat(str(value))
