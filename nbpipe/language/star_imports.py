"""The names that ``from module import *`` binds, as far as they can be known without running code of a third party."""

from __future__ import annotations

import ast
import importlib
import sys
from collections.abc import Iterable
from functools import cache
from importlib.machinery import PathFinder, SourceFileLoader

from nbpipe.language.name_analysis import name_usage


def star_modules(statements: Iterable[ast.stmt]) -> list[str]:
    """Return the modules that are imported with a star anywhere in these statements; relative ones begin with a dot."""
    imports = (node for statement in statements for node in ast.walk(statement) if isinstance(node, ast.ImportFrom))
    return [
        "." * node.level + (node.module or "") for node in imports if any(alias.name == "*" for alias in node.names)
    ]


def exported_names(modules: Iterable[str]) -> frozenset[str] | None:
    """Return all names that star imports of these modules bind, or None if one of the modules cannot be read.

    Only modules of the standard library are read: others depend on the environment of the notebook's kernel.
    """
    names = [_exported(module) for module in modules]
    return None if None in names else frozenset[str]().union(*(exported for exported in names if exported is not None))


@cache
def _exported(module: str) -> frozenset[str] | None:
    if module.partition(".")[0] not in sys.stdlib_module_names:
        return None
    source = _source(module)
    if source is not None:
        return _names_in(source)
    if "." in module:
        return None
    # Written in C: there is no text to read, and importing it has no effect.
    loaded = importlib.import_module(module)
    public = (name for name in vars(loaded) if not name.startswith("_"))
    return frozenset(getattr(loaded, "__all__", public))


def _source(module: str) -> str | None:
    """Return a module's text, found without importing the packages that it is in; None if it has none.

    The standard library is a part of the running Python, as its built-in names are: the same for every notebook.
    """
    path: list[str] | None = None
    text: str | None = None
    parts = module.split(".")
    for end in range(1, len(parts) + 1):
        name = ".".join(parts[:end])
        spec = PathFinder.find_spec(name, path)
        if spec is None:
            return None
        path = list(spec.submodule_search_locations or ())
        text = spec.loader.get_source(name) if isinstance(spec.loader, SourceFileLoader) else None
    return text


def _names_in(source: str) -> frozenset[str] | None:
    """Return what a star import of a module with this text binds; None if that depends on more than its text."""
    body = ast.parse(source).body
    used = name_usage(body)
    if "__all__" not in used.binds:
        return None if used.stars else frozenset(name for name in used.binds if not name.startswith("_"))
    changes = [statement for statement in body if _names_all(statement)]
    if len(changes) != 1 or not isinstance(changes[0], ast.Assign):
        return None
    try:
        return frozenset(ast.literal_eval(changes[0].value))
    except (ValueError, TypeError):
        return None


def _names_all(statement: ast.stmt) -> bool:
    return any(isinstance(node, ast.Name) and node.id == "__all__" for node in ast.walk(statement))
