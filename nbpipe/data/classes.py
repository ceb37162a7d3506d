"""Classes that a notebook defines, kept the same class from one step's kernel to the next.

A step's kernel defines them anew in ``__main__``, so a pickle by reference would need them everywhere, and one by
value makes a second class that ``isinstance`` and ``==`` do not know. cloudpickle recognises a class by an id that
it draws at random; here the id follows from the definition, so equal definitions are one class and equal values are
equal bytes.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping
from typing import Any


def share_classes(namespace: Mapping[str, Any], definitions: Mapping[str, str]) -> None:
    """Have cloudpickle take classes in ``namespace`` for those of the same name and definition in other kernels.

    ``definitions`` gives the digest of each shared definition by name. Nothing is done where cloudpickle is missing.
    """
    classes = {name: namespace.get(name) for name in definitions}
    local = {name: made for name, made in classes.items() if isinstance(made, type) and made.__module__ == "__main__"}
    if not local:
        return
    tracker = _tracker()
    if tracker is None:
        return
    by_class, by_id, lock = tracker
    with lock:
        for name, made in local.items():
            told = f"{name}-{definitions[name]}"
            by_class[made] = told
            by_id[told] = made


def _tracker() -> tuple[Any, Any, Any] | None:
    """Get cloudpickle's two tables of classes and their lock; private to it, so they may be elsewhere some day."""
    try:
        # Imported here: a kernel needs it only when a class of the notebook's own is around.
        import cloudpickle.cloudpickle as theirs
    except ImportError:
        return None
    names = ("_DYNAMIC_CLASS_TRACKER_BY_CLASS", "_DYNAMIC_CLASS_TRACKER_BY_ID", "_DYNAMIC_CLASS_TRACKER_LOCK")
    found = [getattr(theirs, name, None) for name in names]
    return None if None in found else (found[0], found[1], found[2])


def main_namespace() -> Mapping[str, Any]:
    """Get the namespace in which a kernel runs its cells."""
    return vars(sys.modules["__main__"])
