"""The changes in a run that its history does not have yet: they are written together, in one transaction."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace

from nbpipe.history.attempts import RunChanges
from nbpipe.history.store import History
from nbpipe.model import AttemptRecord, ExecutionRecord
from nbpipe.run.execution_state import ExecutionState
from nbpipe.run.pending_events import PendingEvents


@dataclass(slots=True)
class PendingChanges:
    """The changed executions and attempts of a run, and the entries for its log.

    ``is_log_longer`` says that a commit has added entries since the last call of :meth:`write`.
    """

    history: History
    run: str
    events: PendingEvents = field(default_factory=PendingEvents)
    is_log_longer: bool = False
    _executions: dict[str, ExecutionRecord] = field(default_factory=dict)
    _superseded: list[str] = field(default_factory=list)
    _attempts: dict[str, AttemptRecord] = field(default_factory=dict)

    def put(self, state: ExecutionState, record: ExecutionRecord) -> None:
        """Give an execution a new record."""
        state.record = self._executions[state.id] = record

    def put_attempt(self, state: ExecutionState, record: AttemptRecord) -> None:
        """Give an execution a new attempt, or its attempt a new record."""
        state.attempt = self._attempts[record.id] = record

    def supersede(self, state: ExecutionState) -> None:
        """Note that a newer execution of the step has replaced this one."""
        # The record of an ended execution has no components here; they are in the history.
        state.record = replace(state.record, current=False)
        self._superseded.append(state.id)

    def note(self, notes: Mapping[str, str], now: float) -> None:
        """Add notes to executions that have ended: their statuses stay, and what they read is no longer there."""
        # The states of ended executions are not whole, and may not have been written yet.
        self.is_log_longer = self.write(now)
        for record in self.history.executions.get(list(notes)):
            self._executions[record.id] = replace(record, notes=(*record.notes, notes[record.id]))

    def write(self, now: float) -> bool:
        """Write the changes; return whether the run's log has new entries."""
        changes = RunChanges(
            list(self._executions.values()), tuple(self._superseded), list(self._attempts.values()), self.events.drain()
        )
        if changes:
            self.history.attempts.record(self.run, changes, now)
            self._executions.clear()
            self._superseded.clear()
            self._attempts.clear()
        is_longer, self.is_log_longer = bool(changes) or self.is_log_longer, False
        return is_longer
