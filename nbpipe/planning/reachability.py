"""What something needs, directly or through others."""

from __future__ import annotations

from collections.abc import Iterable, Mapping


def ancestors(name: str, needs: Mapping[str, Iterable[str]]) -> set[str]:
    """Return everything that ``name`` needs, directly or not."""
    reached: set[str] = set()
    todo = list(needs.get(name, ()))
    while todo:
        following = todo.pop()
        if following not in reached:
            reached.add(following)
            todo += needs.get(following, ())
    return reached
