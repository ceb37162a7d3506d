"""Definitions that a decorator adds to a library's objects, as pandas does with accessors: found by their attribute."""

from __future__ import annotations

import ast
from collections.abc import Iterator

from nbpipe.language.callables import dotted_name

_ENDINGS = ("_accessor", "_namespace")


def registered_attributes(definition: ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef) -> Iterator[str]:
    """Yield the attributes under which a class or function is added: ``@register_dataframe_accessor("geo")``."""
    for decorator in definition.decorator_list:
        if not isinstance(decorator, ast.Call):
            continue
        name = dotted_name(decorator.func).rpartition(".")[2]
        given = [*decorator.args[:1], *(each.value for each in decorator.keywords if each.arg == "name")]
        if name.startswith("register_") and name.endswith(_ENDINGS):
            yield from (each.value for each in given if isinstance(each, ast.Constant) and isinstance(each.value, str))
