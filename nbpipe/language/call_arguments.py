"""The arguments of calls, with displays after ``*`` and ``**`` taken apart, and the functions among them."""

from __future__ import annotations

import ast
from collections.abc import Iterator


def positional_arguments(call: ast.Call) -> list[ast.expr]:
    """Return the positional arguments; ``*name`` stays as it is."""
    if not any(isinstance(each, ast.Starred) for each in call.args):
        return call.args
    return [part for each in call.args for part in _unpacked(each)]


def named_arguments(call: ast.Call) -> list[tuple[str, ast.expr]]:
    """Return the arguments that are given by name; the name is empty for what ``**name`` hands over."""
    return [pair for each in call.keywords for pair in _named(each.arg or "", each.value)]


def bound_method(node: ast.AST) -> ast.Attribute | None:
    """Return a method that is not called, also as ``getattr(x, "name")`` or ``attrgetter("name")(x)``, or None."""
    if isinstance(node, ast.Attribute):
        return node
    if not isinstance(node, ast.Call) or not node.args:
        return None
    if isinstance(node.func, ast.Attribute) and node.func.attr == "__getattribute__":
        name = _text(node.args[0])
        return ast.copy_location(ast.Attribute(node.func.value, name, ast.Load()), node) if name else None
    name = _attribute_got(node.func)
    if isinstance(node.func, ast.Name) and node.func.id == "getattr" and node.args[1:]:
        name = _text(node.args[1])
    return ast.copy_location(ast.Attribute(node.args[0], name, ast.Load()), node) if name else None


def _attribute_got(function: ast.expr) -> str:
    """Return the name in ``attrgetter("name")``; empty for other expressions."""
    is_getter = isinstance(function, ast.Call) and _last(function.func) == "attrgetter" and len(function.args) == 1
    return _text(function.args[0]) if is_getter else ""  # type: ignore[attr-defined]  # it is a call


def partial_function(node: ast.AST) -> ast.expr | None:
    """Return the function that ``partial(function, …)`` calls; None for other expressions."""
    return node.args[0] if isinstance(node, ast.Call) and _last(node.func) == "partial" and node.args else None


def is_getter(node: ast.AST) -> bool:
    """Return whether an expression is ``itemgetter(key)`` or ``attrgetter(name)``."""
    return isinstance(node, ast.Call) and _last(node.func) in ("itemgetter", "attrgetter")


def called_method(node: ast.AST) -> str:
    """Return the name in ``methodcaller("name", …)``; empty for other expressions."""
    is_one = isinstance(node, ast.Call) and _last(node.func) == "methodcaller" and node.args
    return _text(node.args[0]) if is_one else ""  # type: ignore[attr-defined]  # it is a call


def _unpacked(node: ast.expr) -> list[ast.expr]:
    inner = node.value if isinstance(node, ast.Starred) else None
    if not isinstance(inner, ast.List | ast.Tuple):
        return [node]
    return [part for each in inner.elts for part in _unpacked(each)]


def _named(name: str, value: ast.expr) -> Iterator[tuple[str, ast.expr]]:
    if name or not isinstance(value, ast.Dict | ast.Call):
        yield name, value
    elif isinstance(value, ast.Dict):
        for key, item in zip(value.keys, value.values, strict=True):
            yield from _named(_text(key) if key is not None else "", item)
    elif isinstance(value.func, ast.Name) and value.func.id == "dict":
        for each in value.keywords:
            yield from _named(each.arg or "", each.value)
    else:
        yield name, value


def _last(node: ast.expr) -> str:
    return node.attr if isinstance(node, ast.Attribute) else node.id if isinstance(node, ast.Name) else ""


def _text(node: ast.expr) -> str:
    return node.value if isinstance(node, ast.Constant) and isinstance(node.value, str) else ""
