"""Hooks that change a module when it is loaded, without loading it. Shipped to steps' kernels as source."""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping
from importlib.machinery import ModuleSpec
from types import ModuleType
from typing import Any

Change = Callable[[ModuleType], None]


class _Finder:
    """Finds modules like the finders after it, and changes them after their execution."""

    def __init__(self, changes: Mapping[str, Change]) -> None:
        self._changes = changes

    def find_spec(self, name: str, path: Any = None, target: Any = None) -> ModuleSpec | None:
        """Return a module's spec; None if it is not to be changed."""
        if name not in self._changes:
            return None
        others = (finder for finder in sys.meta_path if finder is not self)
        specs = (finder.find_spec(name, path, target) for finder in others if hasattr(finder, "find_spec"))
        spec = next((spec for spec in specs if spec is not None), None)
        if spec is not None and spec.loader is not None:
            vars(spec.loader)["exec_module"] = _executing(spec.loader.exec_module, self._changes[name])
        return spec


def when_loaded(changes: Mapping[str, Change]) -> None:
    """Change these modules: loaded ones now, others when they are loaded."""
    for name, change in changes.items():
        if name in sys.modules:
            change(sys.modules[name])
    sys.meta_path.insert(0, _Finder(changes))


def _executing(real: Change, change: Change) -> Change:
    def executing(module: ModuleType) -> None:
        real(module)
        change(module)

    return executing
