"""Mutants of a program: the same function with one operator, comparison, constant or answer changed.

The same program always has the same mutants, in the same order.
"""

from __future__ import annotations

import ast
import copy
import random
from itertools import zip_longest

_OPERATORS: dict[type[ast.operator], tuple[type[ast.operator], ...]] = {
    ast.Add: (ast.Sub,),
    ast.Sub: (ast.Add,),
    ast.Mult: (ast.Add,),
    ast.Div: (ast.FloorDiv,),
    ast.FloorDiv: (ast.Div,),
    ast.Mod: (ast.FloorDiv,),
    ast.Pow: (ast.Mult,),
    ast.BitAnd: (ast.BitOr,),
    ast.BitOr: (ast.BitXor,),
    ast.BitXor: (ast.BitAnd,),
}
_COMPARISONS: dict[type[ast.cmpop], tuple[type[ast.cmpop], ...]] = {
    ast.Eq: (ast.NotEq, ast.GtE),
    ast.NotEq: (ast.Eq, ast.Lt),
    ast.Lt: (ast.LtE, ast.Gt),
    ast.LtE: (ast.Lt, ast.Eq),
    ast.Gt: (ast.GtE, ast.Lt),
    ast.GtE: (ast.Gt, ast.Eq),
    ast.In: (ast.NotIn,),
    ast.NotIn: (ast.In,),
    ast.Is: (ast.IsNot,),
    ast.IsNot: (ast.Is,),
}
#: What an answer becomes: another type with the same content, or nothing.
_ANSWERS = (
    *("str({})", "repr({})", "float({})", "int({})", "bool({})", "complex({})", "tuple({})", "set({})", "list({})"),
    *("[{}]", "({},)", "({}, None)", "not ({})", "iter({})", "type('A', (), {{}})()", "None"),
)


def mutants(source: str, function: str, most: int) -> list[str]:
    """At most so many programs that differ from ``source`` within a function, drawn from all that can be made."""
    tree = ast.parse(source)
    (target,) = (node for node in tree.body if isinstance(node, ast.FunctionDef) and node.name == function)
    answers: list[tuple[int, int]] = []
    others: list[tuple[int, int]] = []
    for number, node in enumerate(ast.walk(target)):
        places = answers if isinstance(node, ast.Return) else others
        places += [(number, change) for change in range(len(_replacements(node, target)))]
    chance = random.Random(function)
    chance.shuffle(answers)
    chance.shuffle(others)
    seen = {ast.unparse(tree): None}
    for number, change in (place for pair in zip_longest(others, answers) for place in pair if place):
        if len(seen) > most:
            break
        seen.setdefault(_changed(tree, target, number, change))
    return list(seen)[1:]


def _changed(tree: ast.Module, target: ast.FunctionDef, number: int, change: int) -> str:
    other = copy.deepcopy(tree)
    function = other.body[tree.body.index(target)]
    assert isinstance(function, ast.FunctionDef)
    node = next(one for at, one in enumerate(ast.walk(function)) if at == number)
    _put(node, _replacements(node, function)[change])
    return ast.unparse(ast.fix_missing_locations(other))


def _put(node: ast.AST, fields: dict[str, object]) -> None:
    for name, value in fields.items():
        setattr(node, name, value)


def _replacements(node: ast.AST, function: ast.FunctionDef) -> list[dict[str, object]]:
    """Ways to change a node: each names the fields that it gets."""
    match node:
        case ast.BinOp(op=operator) | ast.AugAssign(op=operator):
            return [{"op": other()} for other in _OPERATORS.get(type(operator), ())]
        case ast.Compare(ops=[first, *rest]):
            return [{"ops": [other(), *rest]} for other in _COMPARISONS[type(first)]]
        case ast.BoolOp(op=joint):
            return [{"op": ast.Or() if isinstance(joint, ast.And) else ast.And()}]
        case ast.Constant(value=value) if not _is_docstring(node, function):
            return [{"value": other} for other in _constants(value)]
        case ast.Return(value=value) if value is not None:
            text = ast.unparse(value)
            return [{"value": ast.parse(form.format(text), mode="eval").body} for form in _ANSWERS]
        case _:
            return []


def _is_docstring(node: ast.Constant, function: ast.FunctionDef) -> bool:
    inside = (one for one in ast.walk(function) if isinstance(one, ast.Expr))
    return any(one.value is node for one in inside)


def _constants(value: object) -> list[object]:
    match value:
        case bool():
            return [not value]
        case int():
            return [value + 1, value - 1]
        case float():
            return [value + 0.5]
        case str():
            return ["" if value else "x"]
        case _:
            return []
