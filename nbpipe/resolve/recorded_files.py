"""Which files steps have read and written without declaring them, as earlier runs of their present code recorded."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path

from nbpipe.data.observations import relative_path
from nbpipe.model import ExecutionRecord, FileUse, ObservationKind
from nbpipe.planning.plan import Planner


def recorded_uses(
    records: Mapping[str, ExecutionRecord], planner: Planner, base: Path
) -> dict[str, tuple[FileUse, ...]]:
    """Return the files by step; what a step did before its code was edited does not count."""
    uses: dict[str, tuple[FileUse, ...]] = {}
    for step in planner.graph.pipeline.steps:
        record = records.get(step.name)
        if record is not None and planner.has_code_of(step.name, record.components):
            uses[step.name] = tuple(FileUse(path, writes, step.place) for path, writes in _files(record, base))
    return uses


def _files(record: ExecutionRecord, base: Path) -> Iterator[tuple[str, bool]]:
    written = [relative_path(name, base) for name in record.written]
    for path in written:
        # A folder was only made for the files in it.
        if not any(other.startswith(path + "/") for other in written):
            yield path, True
    for item in record.observed:
        if item.kind is ObservationKind.READ:
            yield relative_path(item.name, base), False
        elif item.kind is ObservationKind.LISTED:
            yield relative_path(item.name, base) + "/", False
