"""The parameters cell: names, types, defaults, allowed values and help; and parameter values passed from outside."""

from __future__ import annotations

import ast
import dataclasses
import json
import math
from collections.abc import Iterable, Mapping
from typing import Any

from nbpipe.errors import BadParameter, Refused, SourceLocation, refuse
from nbpipe.language.ipython_syntax import parse_plain, too_deep
from nbpipe.language.python_literals import find_foreign, find_too_large
from nbpipe.language.source_text import comments_of, nearest
from nbpipe.model import Cell, Parameter

KINDS = {"bool": bool, "int": int, "float": float, "str": str, "list": list, "dict": dict}
_TRUE, _FALSE = ("true", "1", "yes", "on"), ("false", "0", "no", "off")
_RESERVED = "_nbpipe"
_DATA_HINT = "Make it a dataset or a file, and declare that as an input."


def read_parameters(cell: Cell) -> tuple[Parameter, ...]:
    """Read a parameters cell; every line must assign one literal to one name."""
    comments = comments_of(cell.source)
    parameters: dict[str, Parameter] = {}
    errors: list[Refused] = []
    for statement in _parse(cell).body:
        try:
            comment = comments.get(statement.end_lineno or 0, "").lstrip("# ").strip()
            parameter = _parameter(statement, cell, comment)
        except BadParameter as error:
            errors.append(error)
            continue
        except RecursionError:
            errors.append(too_deep(_at(cell, statement)))
            continue
        parameters[parameter.name] = parameter
    refuse(errors)
    return tuple(parameters.values())


def read_injected(cell: Cell) -> dict[str, Any]:
    """Read the cell that papermill injects: the values that were passed from outside."""
    values: dict[str, Any] = {}
    for statement in _parse(cell).body:
        name = _target(statement)
        if name is None or not isinstance(statement, ast.Assign | ast.AnnAssign) or statement.value is None:
            raise BadParameter(
                "the injected parameters contain more than assignments",
                "Leave the cell as papermill wrote it, or remove its tag.", _at(cell, statement),
            )  # fmt: skip
        values[name] = _injected_value(statement.value, cell)
    return values


def bound_names(source: str) -> frozenset[str]:
    """Return the names that a cell of plain assignments binds; empty for any other cell."""
    try:
        body = parse_plain(source).body
    except SyntaxError:
        return frozenset()
    names = [_target(statement) for statement in body]
    return frozenset(name for name in names if name) if names and all(names) else frozenset()


_NO_PARAMETERS = (
    "There is no parameters cell: begin one with `#| parameters`, or tag it `parameters` in a saved notebook."
)


def settle_parameters(
    parameters: Iterable[Parameter], texts: Mapping[str, str], values: Mapping[str, Any]
) -> dict[str, Any]:
    """Return each parameter's value: the one passed as text (``-p``) or as a value, else the default."""
    by_name = {parameter.name: parameter for parameter in parameters}
    errors: list[Refused] = []
    for name in {**texts, **values}:
        if name not in by_name:
            hint = nearest(name, by_name) or (f"There are: {', '.join(by_name)}." if by_name else _NO_PARAMETERS)
            errors.append(BadParameter(f"there is no parameter `{name}`", hint))
    settled: dict[str, Any] = {}
    for name, parameter in by_name.items():
        try:
            value = from_text(parameter, texts[name]) if name in texts else values.get(name, parameter.default)
            settled[name] = check_value(parameter, value)
        except BadParameter as error:
            errors.append(error)
    refuse(errors)
    return settled


def from_text(parameter: Parameter, text: str) -> Any:
    """Convert a value from the command line to the parameter's declared type."""
    if parameter.optional and text in ("None", "null"):
        return None
    try:
        return _READERS[parameter.kind](text)
    except (ValueError, RecursionError):
        raise BadParameter(
            f"`{parameter.name}` is {_a(parameter.kind)}, and {text[:80]!r} is not one",
            f"Write it like its default: {_shown(parameter.default)}", parameter.place,
        ) from None  # fmt: skip


def check_value(parameter: Parameter, value: Any) -> Any:
    """Return the value if it is valid for the parameter; an int becomes a float where one is declared."""
    settled = _checked(parameter, value)
    _deliverable(parameter.name, settled, parameter.place)
    return settled


def _checked(parameter: Parameter, value: Any) -> Any:
    if parameter.kind == "float" and type(value) is int:
        value = _promoted(parameter, value)
    allowed = value is None and parameter.optional
    if not allowed and parameter.kind != "any" and type(value) is not KINDS[parameter.kind]:
        raise BadParameter(
            f"`{parameter.name}` is {_a(parameter.kind)}, and {_shown(value)} is {_a(type(value).__name__)}",
            "Write such a default, or declare another type." if value is parameter.default
            else f"Its default is {_shown(parameter.default)}.",
            parameter.place,
        )  # fmt: skip
    if (
        not allowed
        and parameter.choices
        and not any(value == choice and type(value) is type(choice) for choice in parameter.choices)
    ):
        raise BadParameter(
            f"`{parameter.name}` cannot be {_shown(value)}",
            f"Allowed: {', '.join(map(_shown, parameter.choices))}.",
            parameter.place,
        )
    return value if allowed or parameter.item is None else _items(parameter, parameter.item, value)


def _items(parameter: Parameter, item: Parameter, value: Any) -> Any:
    """Return a list or a dict with each item checked against its declared type."""
    if isinstance(value, list):
        return [_checked_item(parameter, item, value, at) for at in range(len(value))]
    return {key: _checked_item(parameter, item, value, key) for key in value}


def _checked_item(parameter: Parameter, item: Parameter, value: Any, at: Any) -> Any:
    """Check one item as a parameter named after its position."""
    default = value[at] if value is parameter.default else parameter.default
    named = dataclasses.replace(item, name=f"{parameter.name}[{_shown(at)}]", default=default, place=parameter.place)
    return _checked(named, value[at])


def _promoted(parameter: Parameter, value: int) -> float:
    try:
        promoted = float(value)
    except OverflowError:
        promoted = float("nan")
    if promoted != value:
        raise BadParameter(f"`{parameter.name}` is a float, which cannot hold {value} exactly", "", parameter.place)
    return promoted


def _deliverable(name: str, value: Any, place: SourceLocation) -> None:
    foreign = find_foreign(value, name)
    if foreign:
        raise BadParameter(
            f"{foreign}, which cannot be delivered exactly",
            "A parameter is None, bool, int, float, str, list or dict with text keys.", place,
        )  # fmt: skip
    large = find_too_large(value, name)
    if large:
        raise BadParameter(large, _DATA_HINT, place)


def _at(cell: Cell, node: ast.AST) -> SourceLocation:
    return SourceLocation(cell.number, getattr(node, "lineno", None), getattr(node, "col_offset", 0) + 1)


def _parse(cell: Cell) -> ast.Module:
    try:
        return parse_plain(cell.source)
    except SyntaxError as error:
        place = SourceLocation(cell.number, error.lineno, error.offset)
        hint = "A parameters cell holds assignments of literals alone: NAME = LITERAL or NAME: TYPE = LITERAL."
        raise BadParameter(f"the parameters cell is not valid Python: {error.msg}", hint, place) from None


def _target(statement: ast.stmt) -> str | None:
    if isinstance(statement, ast.Assign) and len(statement.targets) == 1 and isinstance(statement.targets[0], ast.Name):
        return statement.targets[0].id
    if isinstance(statement, ast.AnnAssign) and isinstance(statement.target, ast.Name) and statement.value:
        return statement.target.id
    return None


def _parameter(statement: ast.stmt, cell: Cell, comment: str) -> Parameter:
    name, place = _target(statement), _at(cell, statement)
    value = statement.value if isinstance(statement, ast.Assign | ast.AnnAssign) else None
    if name is None or value is None:
        raise BadParameter(
            "a line of the parameters cell does not assign a value to a name",
            "Each line is NAME = LITERAL or NAME: TYPE = LITERAL; move anything else to another cell.", place,
        )  # fmt: skip
    if name == _RESERVED:
        raise BadParameter(f"`{name}` is reserved by nbpipe", "Choose another name.", place)
    try:
        default = ast.literal_eval(value)
    except (ValueError, TypeError, SyntaxError, RecursionError, MemoryError):
        raise BadParameter(
            f"the default of `{name}` is not a literal: {ast.unparse(value)[:80]}",
            "Write the value itself; compute with it in a step.", place,
        ) from None  # fmt: skip
    annotation = statement.annotation if isinstance(statement, ast.AnnAssign) else None
    declared = _declared(annotation, name, place) if annotation else _inferred(default)
    optional = declared.optional or default is None
    parameter = dataclasses.replace(declared, name=name, default=default, optional=optional, help=comment, place=place)
    return dataclasses.replace(parameter, default=check_value(parameter, default))


def _inferred(default: Any) -> Parameter:
    kind = type(default).__name__
    return Parameter("", kind if kind in KINDS else "any", None)


def _declared(node: ast.expr, name: str, place: SourceLocation) -> Parameter:
    """Read an annotation: a type, ``list[…]``, ``dict[str, …]``, ``Literal[…]``, ``Optional[…]`` or ``… | None``."""
    if isinstance(node, ast.Constant) and isinstance(node.value, str):
        node = _quoted_type(node, node.value)
    if isinstance(node, ast.BinOp) and isinstance(node.op, ast.BitOr):
        sides = [side for side in (node.left, node.right) if not _is_none(side)]
        if len(sides) == 1:
            return dataclasses.replace(_declared(sides[0], name, place), optional=True)
    head = node.value if isinstance(node, ast.Subscript) else node
    type_name = head.attr if isinstance(head, ast.Attribute) else head.id if isinstance(head, ast.Name) else ""
    if isinstance(node, ast.Subscript) and type_name == "Literal":
        return _literal(node, name, place)
    if isinstance(node, ast.Subscript) and type_name == "Optional":
        return dataclasses.replace(_declared(node.slice, name, place), optional=True)
    kind = type_name.lower() if type_name in ("List", "Dict") else "any" if type_name == "Any" else type_name
    if kind not in KINDS and kind != "any":
        raise BadParameter(
            f"`{name}` has the type {ast.unparse(node)}, which no parameter can have",
            nearest(type_name, KINDS) or f"The types are {', '.join(KINDS)}, Literal[…] and … | None.", place,
        )  # fmt: skip
    return Parameter("", kind, None, item=_declared_item(node, kind, name, place))


def _declared_item(node: ast.expr, kind: str, name: str, place: SourceLocation) -> Parameter | None:
    """Return the declared type of a list's items or a dict's values; None for a type that no parameter can have."""
    inside = node.slice if isinstance(node, ast.Subscript) else None
    if kind == "dict" and isinstance(inside, ast.Tuple) and len(inside.elts) == 2:
        inside = inside.elts[1]
    elif kind != "list":
        return None
    try:
        return _declared(inside, name, place) if inside is not None else None
    except BadParameter:
        return None


def _quoted_type(node: ast.expr, text: str) -> ast.expr:
    """Return the expression of a quoted annotation; the node itself if it is not one expression."""
    try:
        statement = parse_plain(text.strip()).body
    except SyntaxError:
        return node
    return statement[0].value if len(statement) == 1 and isinstance(statement[0], ast.Expr) else node


def _literal(node: ast.Subscript, name: str, place: SourceLocation) -> Parameter:
    items = node.slice.elts if isinstance(node.slice, ast.Tuple) else [node.slice]
    try:
        choices = tuple(ast.literal_eval(item) for item in items)
    except (ValueError, TypeError):
        raise BadParameter(
            f"`{name}` has the type {ast.unparse(node)}, which lists more than literals",
            "For example: mode: Literal['fast', 'full'] = 'fast'", place,
        ) from None  # fmt: skip
    kinds = {type(choice).__name__ for choice in choices if choice is not None}
    kind = kinds.pop() if len(kinds) == 1 else "any"
    return Parameter("", kind, None, None in choices, choices)


def _is_none(node: ast.expr) -> bool:
    return isinstance(node, ast.Constant) and node.value is None


def _injected_value(node: ast.expr, cell: Cell) -> Any:
    try:
        return _with_floats(node)
    except (ValueError, TypeError, RecursionError):
        raise BadParameter(
            f"an injected value is not a literal: {ast.unparse(node)[:80]}", "", _at(cell, node)
        ) from None


def _with_floats(node: ast.expr) -> Any:
    """Read a literal in which papermill writes ``float('nan')`` and ``float('inf')``, at any depth."""
    match node:
        case ast.Call(func=ast.Name(id="float"), args=[argument], keywords=[]):
            return float(ast.literal_eval(argument))
        case ast.List():
            return [_with_floats(item) for item in node.elts]
        case ast.Dict():
            keys = [ast.literal_eval(key) for key in node.keys if key is not None]
            return dict(zip(keys, map(_with_floats, node.values), strict=True))
    return ast.literal_eval(node)


def _bool(text: str) -> bool:
    if text.casefold() in _TRUE:
        return True
    if text.casefold() in _FALSE:
        return False
    raise ValueError(text)


def _int(text: str) -> int:
    return int(text.strip()) if "_" not in text else int("x")


def _float(text: str) -> float:
    """Read a float; raise ValueError for one that is too large, and return an int where a float would be inexact."""
    value = float(text) if "_" not in text else float("x")
    if math.isinf(value) and any(map(str.isdecimal, text)):
        raise ValueError(text)
    is_whole = text.strip().lstrip("+-").isdecimal()
    return int(text) if is_whole and int(text) != value else value


def _json(kind: type) -> Any:
    def read(text: str) -> Any:
        value = json.loads(text, parse_float=_float)
        if type(value) is not kind:
            raise ValueError(text)
        return value

    return read


def _any(text: str) -> Any:
    try:
        return json.loads(text, parse_float=_float)
    except ValueError:
        return text


_READERS: Mapping[str, Any] = {
    "bool": _bool, "int": _int, "float": _float, "str": str, "list": _json(list), "dict": _json(dict), "any": _any,
}  # fmt: skip


def _shown(value: Any) -> str:
    try:
        text = repr(value)
    except (ValueError, RecursionError):
        return f"a {type(value).__name__} too long to show"
    return text if len(text) <= 80 else text[:80] + "…"


def _a(kind: str) -> str:
    return f"an {kind}" if kind[0] in "aeiou" else f"a {kind}"
