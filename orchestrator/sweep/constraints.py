"""Constraint expressions over a trial's leaves, such as `model.channels % model.groups == 0`:
parsed once, evaluated without `eval`.
"""

from __future__ import annotations

import ast
import operator
from collections.abc import Callable, Mapping
from functools import cache
from typing import Any

_ARITHMETIC: dict[type[ast.operator], Callable[[Any, Any], Any]] = {
    ast.Add: operator.add,
    ast.Sub: operator.sub,
    ast.Mult: operator.mul,
    ast.Div: operator.truediv,
    ast.FloorDiv: operator.floordiv,
    ast.Mod: operator.mod,
}
_COMPARISONS: dict[type[ast.cmpop], Callable[[Any, Any], Any]] = {
    ast.Eq: operator.eq,
    ast.NotEq: operator.ne,
    ast.Lt: operator.lt,
    ast.LtE: operator.le,
    ast.Gt: operator.gt,
    ast.GtE: operator.ge,
}
_UNARY: dict[type[ast.unaryop], Callable[[Any], Any]] = {
    ast.Not: operator.not_,
    ast.USub: operator.neg,
    ast.UAdd: operator.pos,
}


def leaf_names(expression: str) -> list[str]:
    """Dotted names the expression reads, in order; ValueError
    where it is not of the allowed form.
    """
    try:
        tree = _parse(expression)
    except SyntaxError as error:
        raise ValueError(
            f"must be an expression such as model.channels % model.groups == 0: {error.msg}"
        ) from error
    names: list[str] = []
    _read(tree, names)
    return names


@cache
def _parse(expression: str) -> ast.expr:
    return ast.parse(expression.strip(), mode="eval").body


def _read(node: ast.expr, names: list[str]) -> None:
    """Collect names below `node`, refusing whatever `_value` does not know."""
    match node:
        case ast.Attribute() | ast.Name():
            names.append(_dotted(node))
        case ast.Constant(value=int() | float() | str() | bool()):
            pass
        case ast.BinOp() if type(node.op) in _ARITHMETIC:
            _read(node.left, names)
            _read(node.right, names)
        case ast.UnaryOp() if type(node.op) in _UNARY:
            _read(node.operand, names)
        case ast.BoolOp():
            for part in node.values:
                _read(part, names)
        case ast.Compare() if all(type(op) in _COMPARISONS for op in node.ops):
            for part in (node.left, *node.comparators):
                _read(part, names)
        case _:
            allowed = "names, numbers, text, + - * / // %, comparisons, and, or, not"
            raise ValueError(f"must be made of {allowed}, but holds {ast.unparse(node)}")


def holds(expression: str, leaves: Mapping[str, Any]) -> bool:
    """Whether the expression is true for these leaves; ValueError where it has no value (text <
    number, division by zero).
    """
    try:
        return bool(_value(_parse(expression), leaves))
    except (TypeError, ZeroDivisionError) as error:
        values = ", ".join(f"{name}={leaves[name]!r}" for name in leaf_names(expression))
        raise ValueError(f"has no value for {values}: {error}") from error


def _value(node: ast.expr, leaves: Mapping[str, Any]) -> Any:
    match node:
        case ast.Attribute() | ast.Name():
            return leaves[_dotted(node)]
        case ast.Constant():
            return node.value
        case ast.BinOp():
            return _ARITHMETIC[type(node.op)](_value(node.left, leaves), _value(node.right, leaves))
        case ast.UnaryOp():
            return _UNARY[type(node.op)](_value(node.operand, leaves))
        case ast.BoolOp():
            parts = (_value(part, leaves) for part in node.values)
            return all(parts) if isinstance(node.op, ast.And) else any(parts)
        case ast.Compare():
            left = _value(node.left, leaves)
            for op, comparator in zip(node.ops, node.comparators, strict=True):
                right = _value(comparator, leaves)
                if not _COMPARISONS[type(op)](left, right):
                    return False
                left = right
            return True
    raise AssertionError(f"leaf_names lets {ast.dump(node)} pass")


def _dotted(node: ast.expr) -> str:
    """`model.groups` for the attribute `groups` of the name `model`."""
    if isinstance(node, ast.Attribute):
        return f"{_dotted(node.value)}.{node.attr}"
    if isinstance(node, ast.Name):
        return node.id
    raise ValueError(f"must name leaves such as model.groups, but holds {ast.unparse(node)}")
