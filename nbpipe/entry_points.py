"""Entry points: functions of nbpipe, loaded when they are called, and what other packages offer by a group's name."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from importlib import import_module
from typing import Any

FORMATS = "nbpipe.formats"
"""The group of formats for values."""


@dataclass(frozen=True, slots=True)
class OfferedEntryPoint:
    """What an installed package offers: ``target`` is ``MODULE[:OBJECT]``, ``package`` its name and version."""

    name: str
    target: str
    package: str

    @property
    def module(self) -> str:
        """Return the top-level module that has it."""
        return self.target.partition(":")[0].partition(".")[0]


def load_entry_point(name: str) -> Callable[..., Any]:
    """Return the function that ``MODULE:FUNCTION`` names."""
    module, _, function = name.partition(":")
    entry_point: Callable[..., Any] = getattr(import_module(module), function)
    return entry_point


def load_offered(entry: OfferedEntryPoint) -> Any:
    """Return the object that a package offers, or its module if it names no object; its package is imported."""
    module, _, attributes = entry.target.partition(":")
    found: Any = import_module(module)
    for name in filter(None, attributes.split(".")):
        found = getattr(found, name)
    return found


def offered(group: str) -> tuple[OfferedEntryPoint, ...]:
    """Return what the installed packages offer in a group, sorted; nothing of theirs is imported."""
    # Few commands need it, and it takes longer to load than the rest of nbpipe's first modules.
    from importlib import metadata

    found = {
        OfferedEntryPoint(each.name, each.value.partition("[")[0].strip(), f"{each.dist.name} {each.dist.version}")
        for each in metadata.entry_points(group=group)
        if each.dist is not None
    }
    return tuple(sorted(found, key=lambda each: (each.name, each.package, each.target)))
