"""What a notebook defines, kept the same from one step's kernel to the next.

A step's kernel defines it anew in ``__main__``, so a pickle by reference would need it everywhere, and one by value
makes a second class that ``isinstance`` and ``==`` do not know, and functions with constants of their own.
cloudpickle recognises a class by an id that it draws at random; here the id is a mark that follows from the name and
the definition, so equal definitions are one class and equal values are equal bytes. Functions and constants have such
marks as well (see :mod:`nbpipe.data.pickles`).
"""

from __future__ import annotations

import sys
from collections.abc import Iterator, Mapping, MutableMapping
from types import FunctionType
from typing import Any
from weakref import WeakKeyDictionary

# What is defined here, by mark; the marks of functions; and of loaded ones the digests that they came with.
MARKED: dict[str, Any] = {}
MARKS: MutableMapping[FunctionType, str] = WeakKeyDictionary()
DIGESTS: MutableMapping[FunctionType, Mapping[str, str]] = WeakKeyDictionary()
_LATEST: list[tuple[Mapping[str, Any], Mapping[str, str]]] = []


def share_classes(namespace: Mapping[str, Any], definitions: Mapping[str, str]) -> None:
    """Have what ``namespace`` defines taken for what has the same name and definition in other kernels.

    ``definitions`` gives the digest of each shared definition by name. Classes are left alone where cloudpickle is
    missing.
    """
    made = {name: namespace[name] for name in definitions if name in namespace}
    _LATEST[:] = [(namespace, definitions)]
    MARKED.update({mark(name, definitions[name]): value for name, value in made.items()})
    classes: dict[str, type] = {}
    for name, value in made.items():
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
        for identity, found in classes.items():
            by_class[found] = identity
            by_id[identity] = found


def mark(name: str, digest: str) -> str:
    """Return what stands for a definition in all kernels."""
    return f"{name}-{digest}"


def digests_of(function: FunctionType) -> Mapping[str, str]:
    """Return the digests of the definitions that a function may read, by name."""
    here = next((identity for namespace, identity in _LATEST if namespace is function.__globals__), {})
    return DIGESTS.get(function, here)


def tracked(identity: str) -> type | None:
    """Return the class of that mark or id, if this process has one."""
    tracker = _tracker()
    return None if tracker is None else tracker[1].get(identity)


def _parts(name: str, value: Any) -> Iterator[tuple[str, Any]]:
    """Return the functions and classes that a definition made, itself and those within it, by qualified name."""
    if isinstance(value, FunctionType):
        yield name, value
    elif isinstance(value, type) and value.__module__ == "__main__":
        yield name, value
        for within, part in tuple(vars(value).items()):
            function = getattr(part, "__func__", part)
            if getattr(function, "__qualname__", "") == f"{value.__qualname__}.{within}":
                yield from _parts(f"{name}.{within}", function)


def _tracker() -> tuple[Any, Any, Any] | None:
    """Return cloudpickle's two tables of classes and their lock; private to it, so they may be elsewhere some day."""
    try:
        # Imported here: a kernel needs it only when a class of the notebook's own is around.
        import cloudpickle.cloudpickle as theirs
    except ImportError:
        return None
    names = ("_DYNAMIC_CLASS_TRACKER_BY_CLASS", "_DYNAMIC_CLASS_TRACKER_BY_ID", "_DYNAMIC_CLASS_TRACKER_LOCK")
    found = [getattr(theirs, name, None) for name in names]
    return None if None in found else (found[0], found[1], found[2])


def main_namespace() -> Mapping[str, Any]:
    """Return the namespace in which a kernel runs its cells."""
    return vars(sys.modules["__main__"])
