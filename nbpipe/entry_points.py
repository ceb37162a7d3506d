"""Names of functions in entry-point form, ``MODULE:FUNCTION``: a module is loaded when its function is called."""

from __future__ import annotations

from collections.abc import Callable
from importlib import import_module
from typing import Any


def load_entry_point(name: str) -> Callable[..., Any]:
    """Return the function that ``MODULE:FUNCTION`` names."""
    module, _, function = name.partition(":")
    entry_point: Callable[..., Any] = getattr(import_module(module), function)
    return entry_point
