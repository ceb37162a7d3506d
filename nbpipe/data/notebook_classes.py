"""The identity of a notebook's classes and functions across the kernels of its steps.

Each step's kernel defines them again in ``__main__``. A pickle by reference would need them everywhere, and a pickle by
value creates a second class, unequal for ``isinstance`` and ``==``, and functions with separate constants. cloudpickle
recognises a class by a random id; here the id is a mark derived from the name and the definition, so that equal
definitions are one class and equal values have equal bytes. Functions and constants have such marks as well (see
:mod:`nbpipe.data.pickles`).
"""

from __future__ import annotations

import sys
from collections.abc import Iterator, Mapping, MutableMapping
from types import FunctionType
from typing import Any
from weakref import WeakKeyDictionary

# The objects defined here by mark; the marks of functions; and the digests that loaded functions came with.
MARKED: dict[str, Any] = {}
MARKS: MutableMapping[FunctionType, str] = WeakKeyDictionary()
DIGESTS: MutableMapping[FunctionType, Mapping[str, str]] = WeakKeyDictionary()
_LATEST: list[tuple[Mapping[str, Any], Mapping[str, str]]] = []


def share_classes(namespace: Mapping[str, Any], definitions: Mapping[str, str]) -> None:
    """Identify the definitions in ``namespace`` with those of the same name and digest in other kernels.

    ``definitions`` maps the names of shared definitions to their digests. Without cloudpickle, classes are skipped.
    """
    defined = {name: namespace[name] for name in definitions if name in namespace}
    _LATEST[:] = [(namespace, definitions)]
    MARKED.update({mark(name, definitions[name]): value for name, value in defined.items()})
    classes: dict[str, type] = {}
    for name, value in defined.items():
        for within, part in _parts(name, value):
            identity = mark(within, definitions[name])
            if isinstance(part, FunctionType):
                MARKED[identity], MARKS[part] = part, identity
            else:
                classes[identity] = part
    tracker = _tracker() if classes else None
    if tracker is None:
        return
    by_class, by_id, lock = tracker
    with lock:
        for identity, class_ in classes.items():
            by_class[class_] = identity
            by_id[identity] = class_


def mark(name: str, digest: str) -> str:
    """Return the mark of a definition, which is the same in all kernels."""
    return f"{name}-{digest}"


def digests_of(function: FunctionType) -> Mapping[str, str]:
    """Return the digests of the definitions that a function may read, by name."""
    here = next((identity for namespace, identity in _LATEST if namespace is function.__globals__), {})
    return DIGESTS.get(function, here)


def tracked(identity: str) -> type | None:
    """Return the class with this mark or id, if this process has one."""
    tracker = _tracker()
    return None if tracker is None else tracker[1].get(identity)


def _parts(name: str, value: Any) -> Iterator[tuple[str, Any]]:
    """Yield a defined function or class, and those within it, by qualified name."""
    if isinstance(value, FunctionType):
        yield name, value
    elif isinstance(value, type) and value.__module__ == "__main__":
        yield name, value
        for within, part in tuple(vars(value).items()):
            function = getattr(part, "__func__", part)
            if getattr(function, "__qualname__", "") == f"{value.__qualname__}.{within}":
                yield from _parts(f"{name}.{within}", function)


def _tracker() -> tuple[Any, Any, Any] | None:
    """Return cloudpickle's two private tables of classes and their lock; None if they cannot be found."""
    try:
        # Imported here: a kernel needs it only if the notebook defines classes.
        import cloudpickle.cloudpickle as theirs
    except ImportError:
        return None
    names = ("_DYNAMIC_CLASS_TRACKER_BY_CLASS", "_DYNAMIC_CLASS_TRACKER_BY_ID", "_DYNAMIC_CLASS_TRACKER_LOCK")
    tables = [getattr(theirs, name, None) for name in names]
    return None if None in tables else (tables[0], tables[1], tables[2])


def main_namespace() -> Mapping[str, Any]:
    """Return the namespace in which a kernel runs its cells."""
    return vars(sys.modules["__main__"])
