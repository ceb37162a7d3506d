"""What packages do to the process while they are imported: environment variables and warning filters.

A package that is loaded ahead does it in the zygote, where it is recorded and undone. A kernel does it again when its
step imports the package, as if that had loaded it.
"""

from __future__ import annotations

import os
import sys
import warnings
from collections import defaultdict
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from types import FrameType
from typing import Any

Package = Callable[[FrameType], str]
"""Returns the package for which a frame's code runs."""


class _RecordedVariables(dict[Any, Any]):
    """The encoded environment variables behind ``os.environ``, which records who reads and who changes them.

    The type of ``os.environ`` itself must stay: IPython registers a printer for it.
    """

    def __init__(self, content: dict[Any, Any], read: set[str], changed: Callable[[str], None]) -> None:
        super().__init__(content)
        self._read = read
        self._changed = changed

    def __getitem__(self, key: Any) -> Any:
        self._read.add(_decoded(key))
        return super().__getitem__(key)

    def __iter__(self) -> Iterator[Any]:
        self._read.update(map(_decoded, super().__iter__()))
        return super().__iter__()

    def __setitem__(self, key: Any, value: Any) -> None:
        super().__setitem__(key, value)
        self._changed(_decoded(key))

    def __delitem__(self, key: Any) -> None:
        super().__delitem__(key)
        self._changed(_decoded(key))


@dataclass(slots=True)
class ImportEffects:
    """The effects of all packages that were imported while :meth:`recorded` was active."""

    read: set[str] = field(default_factory=set)
    _steps: dict[str, list[Callable[[], None]]] = field(default_factory=lambda: defaultdict(list))

    @contextmanager
    def recorded(self, package: Package) -> Iterator[None]:
        """Record the variables that are read and, by package, what else is done; undo that at the end."""
        environment, filters = dict(os.environ), list(warnings.filters)
        added: dict[tuple[Any, ...], tuple[str, bool]] = {}
        behind: Any = os.environ
        variables, adding = behind._data, _filter_module()._add_filter  # noqa: SLF001  # no public name tells of changes

        def changed(name: str) -> None:
            value, before = os.environ.get(name), environment.get(name)
            self._steps[package(sys._getframe(2))].append(partial(_set, name, before, value))  # noqa: SLF001  # who calls

        def add_filter(*item: Any, append: bool) -> None:
            adding(*item, append=append)
            added[item] = package(sys._getframe(1)), append  # noqa: SLF001  # as above

        behind._data = _RecordedVariables(variables, self.read, changed)  # noqa: SLF001  # as above
        _filter_module()._add_filter = add_filter  # noqa: SLF001  # as above
        try:
            yield
        finally:
            _filter_module()._add_filter = adding  # noqa: SLF001  # as above
            behind._data = dict(behind._data)  # noqa: SLF001  # as above
            for name in {*os.environ, *environment}:
                _set(name, os.environ.get(name), environment.get(name))
            # Those that a library has set for a moment are gone.
            for item in (item for item in reversed(warnings.filters) if item in added and item not in filters):
                by, append = added[item]
                self._steps[by].append(partial(adding, *item, append=append))
            warnings.filters[:] = filters  # type: ignore[index]  # a list, whatever its stub says

    def repeat_all(self) -> None:
        """Do once what all imports so far have done."""
        for package in tuple(self._steps):
            self.repeat(package)

    def repeat(self, package: str) -> None:
        """Do once what importing a package does, but change no variable that has been changed since."""
        for effect in self._steps.pop(package, ()):
            effect()


def _filter_module() -> Any:
    """Return the module whose function adds all filters: another one than ``warnings`` in newer Pythons."""
    return sys.modules[warnings.filterwarnings.__module__]


def _set(name: str, before: str | None, value: str | None) -> None:
    if os.environ.get(name) != before:
        return
    if value is None:
        os.environ.pop(name, None)
    else:
        os.environ[name] = value


def _decoded(key: Any) -> str:
    return os.fsdecode(key) if isinstance(key, bytes) else str(key)
