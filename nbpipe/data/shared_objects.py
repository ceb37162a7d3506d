"""Objects that several outputs of a step share: found before the outputs are stored. Shipped to steps' kernels.

Two values are kept together if a change of one can change the other: each of their pickles is complete, but gives the
objects that both hold a number, so that whoever loads both gets these objects once.
"""

from __future__ import annotations

import datetime as dt
import decimal
import enum
import gc
import logging
import re
import sys
import types
import weakref
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from itertools import combinations
from pathlib import PurePath
from typing import Any

from nbpipe.data.value_types import kind_of, type_name

_ATOMS = frozenset({type(None), bool, int, float, complex, str, bytes, type(...), type(NotImplemented), range, slice})
# Never changed in place, or not part of a value.
_SKIPPED = (
    type, types.ModuleType, types.BuiltinFunctionType, types.CodeType, types.GetSetDescriptorType, property,
    enum.Enum, re.Pattern, dt.date, dt.time, dt.timedelta, dt.tzinfo, decimal.Decimal, PurePath, logging.Logger,
    weakref.ref, types.GenericAlias,
)  # fmt: skip
_PASSED = (tuple, frozenset, types.FunctionType, types.MethodType)
_TABLES = frozenset({"pandas", "polars", "pyarrow"})
_LOOKED_AT = 300_000


# In a kernel of ordinary cells: the shared objects of the values that are loaded there, by the step that made them.
LOADED: dict[str, dict[int, Any]] = {}


@dataclass(slots=True)
class SharedObjects:
    """The objects that stored values share, by identity, with the number that each gets when it is first written."""

    shared: Mapping[int, Any]
    numbers: dict[int, int] = field(default_factory=dict)

    def number(self, value: Any) -> int | None:
        """Return the number of a shared object; None for any other."""
        if id(value) not in self.shared:
            return None
        return self.numbers.setdefault(id(value), len(self.numbers))


@dataclass(frozen=True, slots=True)
class Sharing:
    """Two outputs that share objects, listed by identity, or the memory of arrays that are not the same object."""

    first: str
    second: str
    objects: Mapping[int, Any]
    memory: bool


def sharings(values: Mapping[str, Any], ignored: Iterable[int]) -> tuple[Sharing, ...]:
    """Return which of these values share objects that can be changed; ``ignored`` are identities of code."""
    if len(values) < 2:
        return ()
    code = frozenset(ignored)
    within = {name: _changeable(value, code) for name, value in values.items()}
    sharings = []
    for first, second in combinations(values, 2):
        common = within[first].keys() & within[second].keys()
        memory = _share_memory(within[first], within[second])
        if common or memory:
            objects = {each: item for each, item in within[first].items() if each in common}
            sharings.append(Sharing(first, second, objects, memory))
    return tuple(sharings)


def divided(
    sharings: Iterable[Sharing], can_share: Callable[[str], bool]
) -> tuple[dict[str, SharedObjects], dict[str, str]]:
    """Return what outputs share that keep it, by output, and notes on the others that share something."""
    shared: dict[str, dict[int, Any]] = {}
    notes: dict[str, list[str]] = {}
    for sharing in sharings:
        together = can_share(sharing.first) and can_share(sharing.second)
        if together and sharing.objects:
            shared |= {name: {**shared.get(name, {}), **sharing.objects} for name in (sharing.first, sharing.second)}
        if sharing.memory or not together:
            notes.setdefault(sharing.second, []).append(_note(sharing))
    everything = SharedObjects({each: item for objects in shared.values() for each, item in objects.items()})
    return dict.fromkeys(shared, everything), {name: "; ".join(listed) for name, listed in notes.items()}


def _note(sharing: Sharing) -> str:
    kinds = sorted({type_name(item) for item in sharing.objects.values()})
    what = f"an object ({', '.join(kinds[:3])})" if kinds else "the memory of an array"
    cure = "declare both as `:cloudpickle`, or output" if kinds and not sharing.memory else "output"
    return (
        f"outputs `{sharing.first}` and `{sharing.second}` share {what}, but are stored separately: in a step that"
        f" takes both, changing one does not change the other; {cure} one object that holds both"
    )


def _changeable(value: Any, code: frozenset[int]) -> dict[int, Any]:
    """Return the objects in a value that can be changed in place, by identity; of a huge value only the first."""
    objects: dict[int, Any] = {}
    seen: set[int] = set()
    todo = [value]
    while todo and len(seen) < _LOOKED_AT:
        item = todo.pop()
        kind = type(item)
        if id(item) in seen or id(item) in code or kind in _ATOMS or issubclass(kind, _SKIPPED):
            continue
        seen.add(id(item))
        root = str(kind.__module__).partition(".")[0]
        if not issubclass(kind, _PASSED) and _can_change(item, root):
            objects[id(item)] = item
        todo += [part for part in _parts(item, root) if type(part) not in _ATOMS]
    return objects


def _can_change(item: Any, root: str) -> bool:
    if root in _TABLES:
        return kind_of(item).startswith("pandas.")
    numpy = sys.modules.get("numpy")
    return root != "numpy" or numpy is None or not isinstance(item, numpy.dtype | numpy.generic)


def _parts(item: Any, root: str) -> Iterable[Any]:
    if isinstance(item, types.FunctionType):
        # Not its globals, which are everything.
        return [*(item.__closure__ or ()), item.__defaults__, item.__kwdefaults__, item.__dict__]
    if root in _TABLES:
        return ()
    if root == "numpy" and kind_of(item):
        parts: list[Any] = item.ravel().tolist() if item.dtype.hasobject else []
        return parts
    below = gc.get_referents(item)
    # The data of a figure are for drawing.
    return [part for part in below if not _is_array(part)] if root == "matplotlib" else below


def _share_memory(first: Mapping[int, Any], second: Mapping[int, Any]) -> bool:
    """Return whether each has an array of its own that overlaps one of the other."""
    numpy = sys.modules.get("numpy")
    owners: dict[int, list[Any]] = {}
    for array in _arrays(first, second):
        owners.setdefault(_owner(array), []).append(array)
    return numpy is not None and any(
        numpy.may_share_memory(one, two) for two in _arrays(second, first) for one in owners.get(_owner(two), ())
    )


def _arrays(within: Mapping[int, Any], other: Mapping[int, Any]) -> list[Any]:
    return [item for identity, item in within.items() if identity not in other and _is_array(item)]


def _is_array(item: Any) -> bool:
    return kind_of(item).startswith("numpy.") if type(item).__module__ == "numpy" else False


def _owner(array: Any) -> int:
    """Return the identity of the object whose memory an array uses."""
    while (base := getattr(array, "base", None)) is not None:
        array = base
    return id(array)
