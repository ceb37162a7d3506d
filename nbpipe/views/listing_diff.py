"""Differences between component texts that are lists, such as the files of a folder or the versions of packages."""

from __future__ import annotations

from nbpipe.model import ComponentKind, KeyComponent
from nbpipe.views.terminal_text import fit, one_line

_SHORT = 8
_LISTING = frozenset({ComponentKind.INPUT, ComponentKind.HASH, ComponentKind.PACKAGES})


def is_listing(component: KeyComponent | None) -> bool:
    """Return whether a component's text is a list: each line has a name, a tab and its value."""
    return component is not None and bool(component.text) and component.kind in _LISTING


def members_diff(was: KeyComponent, now: KeyComponent, *, max_lines: int = 60, columns: int = 160) -> tuple[str, ...]:
    """Return a line for each item that is new (+), gone (-) or changed (~); those beyond ``max_lines`` are counted."""
    before, after = _members(was), _members(now)
    lines = []
    for name in sorted(before.keys() | after.keys()):
        old, new = before.get(name), after.get(name)
        if old == new:
            continue
        if old is None or new is None:
            lines.append(f"{'+' if old is None else '-'} {name} ({new if old is None else old})")
        else:
            lines.append(f"~ {name} ({old} → {new})")
    shown = [fit(one_line(line), columns) for line in lines[:max_lines]]
    omitted = len(lines) - len(shown)
    return (*shown, *([f"… and {omitted} more"] if omitted else []))


def _members(component: KeyComponent) -> dict[str, str]:
    members = {}
    for line in component.text.splitlines():
        name, *fields = line.split("\t")
        members[name] = ", ".join(_field_text(part) for part in fields)
    return members


def _field_text(part: str) -> str:
    if part.startswith("blake3:"):
        return part.partition(":")[2][:_SHORT]
    return f"{int(part):,} bytes" if part.isdecimal() else part
