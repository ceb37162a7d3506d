"""Where a step runs, and what it occupies there, in words."""

from __future__ import annotations

from nbpipe.model.amounts import size_text
from nbpipe.model.compute import DEFAULT_TARGET, Placement


def placement_words(placement: Placement | None) -> tuple[str, ...]:
    """Return e.g. ``gpu (1 GPU, 8 GB)``; nothing for a step that needs one core of the default target."""
    if placement is None:
        return ()
    needs, amounts = placement.needs, []
    if needs.cpu > 1:
        amounts.append(f"{needs.cpu} cores")
    if needs.gpu:
        amounts.append(f"{needs.gpu} GPU{'s' if needs.gpu > 1 else ''}")
    if needs.memory:
        amounts.append(size_text(needs.memory))
    if not amounts and placement.target.name == DEFAULT_TARGET:
        return ()
    return (f"{placement.target.name} ({', '.join(amounts)})" if amounts else placement.target.name,)
