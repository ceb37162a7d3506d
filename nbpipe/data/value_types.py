"""The types of values, found without importing their libraries. Shipped to steps' kernels beside ``formats``."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Mapping
from decimal import Decimal
from typing import Any

_KINDS: Mapping[str, tuple[str, ...]] = {
    "pandas": ("DataFrame", "Series"),
    "polars": ("DataFrame", "Series"),
    "pyarrow": ("Table", "RecordBatch"),
    "numpy": ("ndarray", "memmap"),
    "torch": ("Tensor",),
    "matplotlib.figure": ("Figure",),
}


class UnsupportedValue(Exception):
    """Why a format cannot store a value."""


def kind_of(value: Any) -> str:
    """Return ``library.Class`` for a type with its own format, else an empty text; subclasses have none."""
    for module, classes in _KINDS.items():
        # A value's library has been imported already.
        loaded = sys.modules.get(module)
        for name in classes:
            if loaded is not None and type(value) is getattr(loaded, name, None):
                return f"{module}.{name}"
    return ""


def type_name(value: Any) -> str:
    """Return the type's name as people write it, e.g. ``sklearn.Ridge``."""
    module = type(value).__module__
    return type(value).__qualname__ if module == "builtins" else f"{module.partition('.')[0]}.{type(value).__name__}"


def library(module: str) -> Any:
    """Import a library on use: a kernel's environment has only those that its own data need."""
    return importlib.import_module(module)


def same(left: Any, right: Any) -> bool:
    """Return whether two items are equal in type and value, NaN included."""
    if type(left) is not type(right):
        return False
    if isinstance(left, list | tuple):
        return len(left) == len(right) and all(map(same, left, right))
    if isinstance(left, dict):
        return list(left) == list(right) and all(same(left[key], right[key]) for key in left)
    if isinstance(left, Decimal):
        return bool(left.as_tuple() == right.as_tuple())
    if isinstance(left, float):
        # Not by ==: NaN differs from itself, and both zeros are equal.
        return left.hex() == float.hex(right)
    return left is right or bool(left == right)
