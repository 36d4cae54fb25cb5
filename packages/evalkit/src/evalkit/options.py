"""``key=value`` options: the parameters of a plugin's own function are the options it has."""

from __future__ import annotations

import inspect
import types
from collections.abc import Callable, Mapping
from typing import Any, Literal, Union, get_args, get_origin

from evalkit.errors import EvalkitError, PluginError, UnknownName


def known(function: Callable[..., Any]) -> dict[str, inspect.Parameter]:
    """The options of a function: its parameters that have a default."""
    try:
        parameters = inspect.signature(function, eval_str=True).parameters
    except NameError as error:
        where = f"{function.__module__}.{function.__qualname__}"
        raise PluginError(
            f"An annotation of {where} cannot be read ({error}): import it outside TYPE_CHECKING."
        ) from None
    return {name: one for name, one in parameters.items() if one.default is not inspect.Parameter.empty}


def takes_any(function: Callable[..., Any]) -> bool:
    """Whether a function has a ``**parameter`` for options that it does not name."""
    return any(one.kind is one.VAR_KEYWORD for one in inspect.signature(function).parameters.values())


def bind(function: Callable[..., Any], given: Mapping[str, str], *, owner: str) -> dict[str, Any]:
    """The keyword arguments that the given texts stand for; raises UnknownName or EvalkitError.

    A function with a ``**parameter`` is also given what it does not name itself, as the texts they are.
    """
    options = known(function)
    arguments: dict[str, Any] = {}
    for key, text in given.items():
        name = key.replace("-", "_")
        if name not in options and takes_any(function):
            arguments[name] = text
            continue
        if name not in options:
            raise UnknownName(f"option of {owner}", key, options, listed="It has")
        arguments[name] = _read(text, options[name].annotation, key=key)
    return arguments


def changed(function: Callable[..., Any], bound: Mapping[str, Any]) -> dict[str, Any]:
    """The bound options that are not at their default: naming a default changes nothing."""
    options = known(function)
    return {name: value for name, value in bound.items() if name not in options or value != options[name].default}


def _read(text: str, annotation: Any, *, key: str) -> Any:
    kinds = get_args(annotation) if get_origin(annotation) in (Union, types.UnionType) else (annotation,)
    for kind in sorted(kinds, key=lambda kind: kind is str):  # any text is a str: the others come first
        try:
            return _convert(text, kind)
        except ValueError:
            continue
    expected = " or ".join(_describe(kind) for kind in kinds)
    raise EvalkitError(f"Option {key}={text}: expected {expected}.")


def _convert(text: str, kind: Any) -> Any:
    if get_origin(kind) is Literal:
        named = {str(value): value for value in get_args(kind)}
        if text not in named:
            raise ValueError
        return named[text]
    if kind is bool:
        truth = {"true": True, "1": True, "yes": True, "false": False, "0": False, "no": False}
        if text.lower() not in truth:
            raise ValueError
        return truth[text.lower()]
    if kind is types.NoneType:
        if text.lower() == "none":
            return None
        raise ValueError
    if kind in (int, float):
        return kind(text)
    return text


def _describe(kind: Any) -> str:
    if get_origin(kind) is Literal:
        return " or ".join(map(str, get_args(kind)))
    if kind is types.NoneType:
        return "none"
    return {int: "a whole number", float: "a number", bool: "true or false"}.get(kind, "text")
