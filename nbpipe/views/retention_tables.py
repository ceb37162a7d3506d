"""What is kept and what is collected as tables: plain lines no wider than the terminal, and JSON objects."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from nbpipe.model.retention import CollectionSummary, KeptOutput
from nbpipe.views.terminal_text import one_line
from nbpipe.views.text_tables import Row, lines
from nbpipe.views.wording import size

_HEADER: Row = ("step", "run", "outputs", "size")
_WHY_HEADER: Row = ("output", "step", "run", "kept because")
_SHOWN = 20
_NOTHING = "nothing: it can be collected"
_DRY = "nothing was deleted: --apply does it"


def collection_lines(summary: CollectionSummary, columns: int) -> list[str]:
    """Return what is collected as plain lines."""
    notes = [f"{name} is left alone: {one_line(why)}" for name, why in summary.untouched.items()]
    if not (summary.results or summary.objects or summary.failed):
        return [*notes, "there is nothing to collect"]
    results = summary.results[:_SHOWN]
    rows = [(one_line(step), str(run), str(outputs), size(count)) for step, run, outputs, count in results]
    table = lines(_HEADER, rows, columns) if rows else []
    more = [f"and {len(summary.results) - _SHOWN} more"] if len(summary.results) > _SHOWN else []
    parts = [_counted(len(summary.results), "result")]
    parts += [f"{_counted(summary.objects, 'object')} with {size(summary.bytes)}"]
    parts += [f"the folders of {_counted(summary.failed, 'failed attempt')}"] if summary.failed else []
    verb = "collected" if summary.done else "to collect"
    ending = [_DRY] if not summary.done else [_waiting(summary.waiting)] if summary.waiting else []
    return [*table, *more, *notes, f"{verb}: {', '.join(parts)}", *ending]


def collection_object(summary: CollectionSummary) -> dict[str, Any]:
    """Return what is collected as a JSON object."""
    names = ("step", "run", "outputs", "bytes")
    return {
        "applied": summary.done,
        "results": [dict(zip(names, result, strict=True)) for result in summary.results],
        "objects": summary.objects,
        "bytes": summary.bytes,
        "failed": summary.failed,
        "untouched": dict(summary.untouched),
        "waiting": summary.waiting,
    }


def kept_lines(kept: Iterable[KeptOutput], columns: int) -> list[str]:
    """Return what keeps outputs as plain lines."""
    rows = [
        (
            one_line(each.output), one_line(each.step or ""), "" if each.run is None else str(each.run),
            one_line(each.why or _NOTHING),
        )
        for each in kept
    ]  # fmt: skip
    return lines(_WHY_HEADER, rows, columns)


def kept_object(kept: Iterable[KeptOutput]) -> dict[str, Any]:
    """Return what keeps outputs as a JSON object."""
    return {
        "outputs": [
            {"output": each.output, "digest": each.digest, "step": each.step, "run": each.run, "why": each.why}
            for each in kept
        ]
    }


def pin_line(number: int, *, pinned: bool) -> str:
    """Return that a run is pinned, or no longer, in one line."""
    return f"run {number} is pinned: its results are kept" if pinned else f"run {number} is no longer pinned"


def _waiting(objects: int) -> str:
    verb = "is" if objects == 1 else "are"
    why = "runs that go on may use them, or a dataset is being registered"
    return f"{_counted(objects, 'object')} of these {verb} deleted by a later collection: {why}"


def _counted(number: int, what: str) -> str:
    return f"{number} {what}{'' if number == 1 else 's'}"
