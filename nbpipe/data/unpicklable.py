"""Where in a value the part is that cannot be pickled. Shipped to steps' kernels beside ``formats``."""

from __future__ import annotations

import re
from collections import deque
from collections.abc import Iterator
from typing import Any

_REFUSED = re.compile(r"cannot pickle '([\w.]+)'")
_LOOKED_AT = 10_000


def culprit(value: Any, name: str, error: BaseException) -> str:
    """Return the expression of the first part of the type that an error names, e.g. ``model.lock``; else nothing."""
    refused = _REFUSED.search(str(error.args[0]) if error.args else "")
    if refused is None:
        return ""
    todo, seen = deque([(name, value)]), set[int]()
    while todo and len(seen) < _LOOKED_AT:
        path, item = todo.popleft()
        if id(item) in seen:
            continue
        seen.add(id(item))
        kind = type(item)
        if refused[1] in (kind.__name__, f"{kind.__module__}.{kind.__qualname__}"):
            return path if item is not value else ""
        todo.extend(_parts(path, item))
    return ""


def _parts(path: str, item: Any) -> Iterator[tuple[str, Any]]:
    if isinstance(item, dict):
        yield from ((f"{path}[{key!r}]", part) for key, part in item.items() if type(key) in (str, int))
    elif isinstance(item, list | tuple | set | frozenset):
        place = "[{}]" if isinstance(item, list | tuple) else ""
        yield from ((f"{path}{place.format(index)}", part) for index, part in enumerate(item))
    elif not isinstance(item, type):
        state = getattr(item, "__dict__", None)
        slots = [
            slot for kind in type(item).__mro__ for slot in getattr(kind, "__slots__", ()) if isinstance(slot, str)
        ]
        yield from ((f"{path}.{key}", part) for key, part in state.items()) if isinstance(state, dict) else ()
        yield from ((f"{path}.{slot}", getattr(item, slot)) for slot in slots if hasattr(item, slot))
