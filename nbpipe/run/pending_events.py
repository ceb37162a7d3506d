"""The events of running attempts on their way from the attempts' directories to the run's log."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from nbpipe.data.event_file import PieceReader, metrics_of
from nbpipe.history.attempts import LogEntry
from nbpipe.model import OutputWritten
from nbpipe.run.execution_state import ExecutionState


@dataclass(slots=True)
class PendingEvents:
    """Entries for the run's log that have not been written yet."""

    _entries: list[LogEntry] = field(default_factory=list)

    @staticmethod
    def reader(directory: str) -> PieceReader:
        """Return a reader of the events of the attempt in this directory."""
        return PieceReader(Path(directory))

    def take(self, state: ExecutionState, upto: int | None) -> None:
        """Take an attempt's events up to a piece, or all of them; metrics become entries of their own."""
        attempt = state.attempt
        if attempt is None or state.pieces is None:
            return
        events = state.pieces.read(attempt.pieces, upto)
        if not events:
            return
        last = events[-1].number
        self._entries += metrics_of(events, attempt.run, state.step, attempt.id)
        self._entries.append(OutputWritten(attempt.id, attempt.pieces + 1, last))
        state.attempt = replace(attempt, pieces=last)

    def add(self, entry: LogEntry) -> None:
        """Add an entry."""
        self._entries.append(entry)

    def drain(self) -> Sequence[LogEntry]:
        """Return the entries since the last call."""
        entries, self._entries = self._entries, []
        return entries
