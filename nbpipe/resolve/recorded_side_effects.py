"""What steps have done beside making their outputs, as earlier runs of their present code recorded."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path

from nbpipe.data.observations import changed_input_note, changed_inputs, relative_path
from nbpipe.language.parsed_notebook import CHANGED_INPUT
from nbpipe.model import ExecutionRecord, FileUse, ObservationKind, PipelineWarning
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


def recorded_changes(records: Mapping[str, ExecutionRecord], planner: Planner) -> Iterator[PipelineWarning]:
    """Yield a warning for each input that a step has changed in place, unless the text of the step says so already."""
    reported = {warned.place for warned in planner.graph.pipeline.warnings if warned.code == CHANGED_INPUT}
    for step in planner.graph.pipeline.steps:
        record = records.get(step.name)
        names = changed_inputs(record.notes) if record is not None else []
        if record is None or not names or not planner.has_code_of(step.name, record.components):
            continue
        for item in step.inputs:
            if item.name in names and item.place not in reported and step.output(item.name) is None:
                hint = f"Declare `-o {item.name}` if other steps should see the change, or change a copy."
                yield PipelineWarning(CHANGED_INPUT, changed_input_note(item.name), hint, item.place)


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
