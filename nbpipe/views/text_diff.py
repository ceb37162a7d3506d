"""Short unified diffs of component texts."""

from __future__ import annotations

from difflib import unified_diff

from nbpipe.model import KeyComponent
from nbpipe.views.terminal_text import fit, harmless

# Lines beyond this are not compared, because the time grows quadratically.
_COMPARED_LINES = 2_000


def component_diff(
    was: KeyComponent | None, now: KeyComponent | None, *, max_lines: int = 60, columns: int = 160
) -> tuple[str, ...]:
    """Return the lines in which two versions of a component differ, each at most ``columns`` wide.

    Empty if there is no text to compare or nothing differs. Lines beyond ``max_lines`` are counted, not shown.
    """
    before, after = _lines(was), _lines(now)
    if before == after:
        return ()
    compared = (before[:_COMPARED_LINES], after[:_COMPARED_LINES])
    changed = list(unified_diff(*compared, "before", "now", lineterm="", n=2))
    shown = [fit(line, columns) for line in changed[:max_lines]]
    omitted = len(changed) - len(shown)
    beyond = max(len(before), len(after)) > _COMPARED_LINES
    return (
        *shown,
        *([f"… and {omitted} more line{'s' if omitted > 1 else ''}"] if omitted else []),
        *([f"… lines after {_COMPARED_LINES} are not compared"] if beyond else []),
    )


def _lines(component: KeyComponent | None) -> list[str]:
    return [] if component is None else [harmless(line.expandtabs(4)) for line in component.text.splitlines()]
