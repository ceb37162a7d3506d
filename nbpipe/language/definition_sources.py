"""The definitions and parameters of a step as separate texts, so that a stored value can bring those that it needs."""

from __future__ import annotations

import ast
from collections.abc import Iterable, Mapping
from functools import lru_cache
from typing import Any

from nbpipe.errors import Refused, SourceLocation
from nbpipe.language.ipython_syntax import parse_cell
from nbpipe.language.name_analysis import name_usage
from nbpipe.language.python_literals import to_python
from nbpipe.model import Definition, DefinitionSource, StepCode

_FUTURE = "from __future__ import annotations"


def definition_sources(code: StepCode, values: Mapping[str, Any]) -> tuple[DefinitionSource, ...]:
    """Return what a step's definitions may refer to: its parameters with their values, and all its definitions."""
    prefix = f"{_FUTURE}\n" if any(item.source == _FUTURE for item in code.definitions) else ""
    parameters = (DefinitionSource((name,), f"{name} = {to_python(values[name])}") for name in code.parameters)
    return (*parameters, *(_source(item, prefix) for item in code.definitions if item.names))


@lru_cache(maxsize=4096)
def _source(item: Definition, prefix: str) -> DefinitionSource:
    """Return a definition without comments and layout, which must not change the bytes of values."""
    if item.is_import:
        return DefinitionSource(item.names, item.source)
    try:
        body = parse_cell(item.source, SourceLocation(item.cell)).body
    except (Refused, RecursionError):
        return DefinitionSource(item.names, prefix + item.source)
    needs = tuple(sorted(_needs(body).difference(item.names)))
    try:
        text = "\n".join(ast.unparse(statement) for statement in body)
    except (ValueError, RecursionError):
        # Python 3.11 cannot write every f-string.
        text = item.source
    return DefinitionSource(item.names, prefix + text, needs)


def _needs(body: Iterable[ast.stmt]) -> frozenset[str]:
    used = name_usage(body)
    return used.early | used.later | used.annotations | used.unsure
