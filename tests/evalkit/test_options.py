"""Options are the parameters of a plugin's function."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any, Literal, Optional

import pytest

from evalkit import EvalkitError, options
from evalkit.errors import PluginError, UnknownName

if TYPE_CHECKING:
    from decimal import Decimal


def tuned(  # type: ignore[no-untyped-def]
    needed: str,
    *,
    count: int = 1,
    share: float = 0.0,
    fast: bool = False,
    name: str = "x",
    rules: Literal["paper", "v1"] = "paper",
    shots: Literal[0, 5] = 0,
    size: int | Literal["auto"] = "auto",
    template: str | None = None,
    depth: Optional[int] = None,  # noqa: UP045  (third parties write it so)
    free=None,
) -> None:
    """Something that can be tuned."""


def bound(**given: str) -> dict[str, Any]:
    return options.bind(tuned, given, owner="the benchmark 'x'")


@pytest.mark.parametrize(
    ("option", "text", "value"),
    [
        ("count", "12", 12),
        ("share", "0.25", 0.25),
        ("share", "1", 1.0),
        ("fast", "true", True),
        ("fast", "No", False),
        ("name", "12", "12"),
        ("name", "none", "none"),
        ("name", "", ""),
        ("rules", "v1", "v1"),
        ("shots", "5", 5),
        ("size", "auto", "auto"),
        ("size", "8", 8),
        ("template", "tulu", "tulu"),
        ("template", "none", None),
        ("template", "None", None),
        ("depth", "3", 3),
        ("depth", "none", None),
        ("free", "anything", "anything"),
    ],
)
def test_a_text_becomes_the_value_its_annotation_says(option: str, text: str, value: object) -> None:
    found = bound(**{option: text})
    assert found == {option: value}
    assert type(found[option]) is type(value)


@pytest.mark.parametrize(
    ("option", "text", "expected"),
    [
        ("count", "twelve", "a whole number"),
        ("count", "1.5", "a whole number"),
        ("share", "much", "a number"),
        ("fast", "maybe", "true or false"),
        ("rules", "v3", "paper or v1"),
        ("shots", "3", "0 or 5"),
        ("size", "big", "a whole number or auto"),
        ("depth", "deep", "a whole number or none"),
    ],
)
def test_a_bad_value_is_refused_saying_what_is_expected(option: str, text: str, expected: str) -> None:
    with pytest.raises(EvalkitError) as caught:
        bound(**{option: text})
    assert str(caught.value) == f"Option {option}={text}: expected {expected}."


def test_an_unknown_option_names_the_nearest_and_lists_all() -> None:
    with pytest.raises(UnknownName) as caught:
        bound(cuont="1")
    assert str(caught.value) == (
        "No option of the benchmark 'x' is named 'cuont'. Did you mean 'count'? "
        "It has: count, depth, fast, free, name, rules, share, shots, size, template."
    )


def test_a_parameter_without_default_is_no_option() -> None:
    assert "needed" not in options.known(tuned)


def test_a_key_may_be_spelt_with_dashes() -> None:
    def make(*, chat_template: str | None = None) -> None: ...

    assert options.bind(make, {"chat-template": "a.jinja"}, owner="x") == {"chat_template": "a.jinja"}


def test_an_option_named_at_its_default_changes_nothing() -> None:
    assert options.changed(tuned, bound(count="1", share="0.5")) == {"share": 0.5}


def test_an_annotation_that_only_type_checkers_see_is_named() -> None:
    def make(*, price: Decimal | None = None) -> None: ...

    with pytest.raises(PluginError, match=re.escape("make cannot be read (name 'Decimal' is not defined): import it")):
        options.bind(make, {"price": "1"}, owner="x")


def test_what_a_function_leaves_to_another_is_passed_on_as_it_was_typed() -> None:
    def around(name: str, *, workers: int = 1, **others: str) -> None:
        """Something around something else."""

    found = options.bind(around, {"workers": "2", "count": "3", "batch-size": "auto"}, owner="it")
    assert found == {"workers": 2, "count": "3", "batch_size": "auto"}
    assert options.changed(around, {**found, "workers": 1}) == {"count": "3", "batch_size": "auto"}
    assert list(options.known(around)) == ["workers"]
