"""The condition of ``when``: only comparisons of parameters with literals."""

from __future__ import annotations

import ast
import operator
from collections.abc import Callable, Mapping
from typing import Any

from nbpipe.errors import BadDirective, SourceLocation

_COMPARE: Mapping[type[ast.cmpop], Callable[[Any, Any], bool]] = {
    ast.Eq: operator.eq,
    ast.NotEq: operator.ne,
    ast.Lt: operator.lt,
    ast.LtE: operator.le,
    ast.Gt: operator.gt,
    ast.GtE: operator.ge,
    ast.Is: operator.is_,
    ast.IsNot: operator.is_not,
    ast.In: lambda left, right: left in right,
    ast.NotIn: lambda left, right: left not in right,
}

_EXAMPLE = "A condition compares parameters with literals: --when \"depth > 3 and mode == 'full'\""


def condition_names(text: str, place: SourceLocation) -> tuple[str, ...]:
    """Return the parameters that the condition reads; raise BadDirective if it is not such a comparison."""
    tree = _parse(text, place)
    for node in ast.walk(tree):
        if not isinstance(node, _ALLOWED):
            raise BadDirective(
                f"`{ast.unparse(node) if isinstance(node, ast.expr) else text}` cannot stand in `when`",
                _EXAMPLE, place,
            )  # fmt: skip
    return tuple(dict.fromkeys(node.id for node in ast.walk(tree) if isinstance(node, ast.Name)))


def holds(text: str, values: Mapping[str, Any], place: SourceLocation) -> bool:
    """Return whether the condition holds for these parameter values."""
    try:
        return bool(_value(_parse(text, place).body, values))
    except TypeError as error:
        raise BadDirective(f"`{text}` cannot be decided: {error}", _EXAMPLE, place) from None


_ALLOWED = (
    ast.Expression, ast.BoolOp, ast.boolop, ast.UnaryOp, ast.unaryop, ast.Compare, ast.cmpop, ast.Name, ast.Load,
    ast.Constant, ast.List, ast.Tuple, ast.Set,
)  # fmt: skip


def _parse(text: str, place: SourceLocation) -> ast.Expression:
    try:
        return ast.parse(text.strip(), mode="eval")
    except (SyntaxError, ValueError, RecursionError, MemoryError) as error:
        reason = error.msg if isinstance(error, SyntaxError) else str(error) or type(error).__name__
        raise BadDirective(f"`{text}` is not a condition: {reason}", _EXAMPLE, place) from None


def _value(node: ast.expr, values: Mapping[str, Any]) -> Any:
    match node:
        case ast.Constant():
            return node.value
        case ast.Name():
            return values[node.id]
        case ast.BoolOp(op=ast.And()):
            return all(_value(part, values) for part in node.values)
        case ast.BoolOp():
            return any(_value(part, values) for part in node.values)
        case ast.UnaryOp(op=ast.Not()):
            return not _value(node.operand, values)
        case ast.UnaryOp(op=ast.USub()):
            return -_value(node.operand, values)
        case ast.UnaryOp():
            return +_value(node.operand, values)
        case ast.List() | ast.Tuple() | ast.Set():
            return [_value(item, values) for item in node.elts]
        case ast.Compare():
            return _compare(node, values)
    raise TypeError(ast.unparse(node))


def _compare(node: ast.Compare, values: Mapping[str, Any]) -> bool:
    left = _value(node.left, values)
    for op, right_node in zip(node.ops, node.comparators, strict=True):
        right = _value(right_node, values)
        if not _COMPARE[type(op)](left, right):
            return False
        left = right
    return True
