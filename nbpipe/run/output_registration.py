"""Registers the outputs of a run's executions as versions of datasets: those of commits, and of reused results."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from nbpipe.history.attempts import in_datasets
from nbpipe.model import Artifact, ExecutionRecord, ResultOrigin
from nbpipe.model.datasets import DatasetDraft
from nbpipe.run.archive_files import ResultArchiveWriter
from nbpipe.run.carried_run import CarriedRun
from nbpipe.run.execution_state import ExecutionState
from nbpipe.run.registrations import origin_of, output_drafts


@dataclass(frozen=True, slots=True)
class OutputRegistration:
    """Registers outputs of a run as their steps declare."""

    carried: CarriedRun
    archive: ResultArchiveWriter

    def drafts(
        self, state: ExecutionState, artifacts: Iterable[Artifact], result: ResultOrigin | None = None
    ) -> dict[str, DatasetDraft]:
        """Return what a step's outputs are to be registered as, by output; ``result`` is where reused ones are from."""
        register = state.increment.planner.graph.steps[state.step].options.register
        if not register:
            return {}
        return output_drafts(register, artifacts, origin_of(state, self.carried.table, result, self.carried.clock()))

    def committed(self, state: ExecutionState) -> ExecutionRecord:
        """Return the record of an execution whose commit has registered outputs, after its versions are archived."""
        (record,) = self.carried.history.executions.get([state.id])
        self.archive.keep_versions(self.carried.history, record)
        return record

    def of_reused(self, state: ExecutionState, record: ExecutionRecord) -> ExecutionRecord:
        """Return the record of a reused result whose outputs name their versions, made now if there are none."""
        drafts = self.drafts(state, record.artifacts, record.origin)
        if not drafts:
            return record
        named = {output: str(self.carried.history.datasets.register(draft)) for output, draft in drafts.items()}
        record = in_datasets(record, named)
        self.archive.keep_versions(self.carried.history, record)
        return record
