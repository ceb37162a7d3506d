"""The author's local modules in a step's kernel, as they were at submit. Shipped to steps' kernels as source."""

from __future__ import annotations

import importlib.abc
import linecache
import sys
from collections.abc import Mapping, Sequence
from importlib.machinery import ModuleSpec
from importlib.util import spec_from_file_location
from pathlib import Path
from typing import Any


class _Frozen(importlib.abc.FileLoader):
    """Loads one module from the source in the job, under its original file name.

    Data files beside it are not frozen: ``importlib.resources`` and ``pkgutil.get_data`` read them where they are.
    """

    def __init__(self, fullname: str, path: str, source: str, *, is_package: bool) -> None:
        super().__init__(fullname, path)
        self._source = source
        self._package = is_package

    def get_source(self, _fullname: str) -> str:
        """Return the frozen source."""
        return self._source

    def is_package(self, _fullname: str) -> bool:
        """Return whether the module has submodules."""
        return self._package


class _Finder(importlib.abc.MetaPathFinder):
    """Finds frozen modules before any on disk; parent folders without code are namespace packages."""

    def __init__(self, modules: Sequence[Mapping[str, Any]]) -> None:
        self._modules = {item["name"]: item for item in modules}
        self._spaces = dict(above for item in modules for above in _folders_above(item))

    def find_spec(self, fullname: str, _path: object, _target: object = None) -> ModuleSpec | None:
        """Return the spec of a frozen module, or None for any other."""
        item = self._modules.get(fullname)
        if item is not None:
            package = item["is_package"]
            loader = _Frozen(fullname, item["path"], item["source"], is_package=package)
            # Submodules that are not frozen, because their names are computed, are found on disk.
            places = [str(Path(item["path"]).parent)] if package else None
            return spec_from_file_location(fullname, item["path"], loader=loader, submodule_search_locations=places)
        if fullname in self._spaces:
            spec = ModuleSpec(fullname, None, is_package=True)
            spec.submodule_search_locations = [self._spaces[fullname]]
            return spec
        return None


def _folders_above(item: Mapping[str, Any]) -> list[tuple[str, str]]:
    """Return the parent packages of a module with their folders."""
    folder = Path(item["path"]).parent.parent if item["is_package"] else Path(item["path"]).parent
    above, name = [], item["name"].rpartition(".")[0]
    while name:
        above.append((name, str(folder)))
        name, folder = name.rpartition(".")[0], folder.parent
    return above


def serve(modules: Sequence[Mapping[str, Any]]) -> None:
    """Import these modules from their frozen sources from now on."""
    sys.meta_path[:] = [finder for finder in sys.meta_path if not isinstance(finder, _Finder)]
    sys.meta_path.insert(0, _Finder(modules))
    for item in modules:
        # Tracebacks should show the code that ran, not the file's current content.
        linecache.cache[item["path"]] = (
            len(item["source"]),
            None,
            item["source"].splitlines(keepends=True),
            item["path"],
        )
