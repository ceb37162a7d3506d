"""Which steps are refused because of errors, and what of a request is left without them."""

from __future__ import annotations

import dataclasses
from collections.abc import Collection, Sequence

from nbpipe.errors import Refused
from nbpipe.resolve.resolved_request import PipelineRequest, declared, unfed


def refused_steps(request: PipelineRequest, errors: Sequence[Refused]) -> dict[str, str]:
    """Return the requested steps that errors concern, in the notebook's order, each with the reason in words.

    A step is refused for an error of its own, for a name or an input that only an erroneous cell may define, and for a
    step that it needs. Steps whose declarations cannot be read are among them.
    """
    _, graph, relevant, _ = declared(request)
    refused = {error.place.step: "has an error" for error in errors if error.place.step is not None}
    for name, doubtful in request.reading.doubtful.items():
        refused.setdefault(name, f"reads `{doubtful[0]}`, which only a cell with an error may define")
    for name in relevant:
        missing = unfed(graph, name)
        if missing:
            refused.setdefault(name, f"needs `{missing}`, which only a cell with an error may declare")
    for name in graph.order:
        needed = [need for need in graph.pipeline.needs[name] if need in refused]
        if needed:
            refused.setdefault(name, f"needs `{needed[0]}`, which is refused")
    cells = {error.place.step: error.place.cell or 0 for error in errors if error.place.step is not None}
    cells |= {step.name: step.place.cell or 0 for step in request.reading.steps}
    known = [name for name in refused if name in relevant or name not in graph.steps]
    return {name: refused[name] for name in sorted(known, key=lambda name: cells[name])}


def without(request: PipelineRequest, refused: Collection[str]) -> PipelineRequest | None:
    """Return the request without refused steps; None if nothing is left, or nothing would be left out."""
    _, graph, relevant, _ = declared(request)
    rest = tuple(name for name in graph.steps if name in relevant and name not in refused)
    if not rest or (request.steps and len(rest) == len(relevant)):
        return None
    return dataclasses.replace(request, steps=rest)
