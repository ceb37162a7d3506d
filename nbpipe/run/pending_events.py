"""What running attempts have told, taken from their directories into the run's log."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from nbpipe.data.event_file import PieceReader, metrics_of
from nbpipe.history.attempts import Told
from nbpipe.model import OutputWritten
from nbpipe.run.execution_state import ExecutionState


@dataclass(slots=True)
class PendingEvents:
    """Entries for the run's log that are not written yet."""

    _told: list[Told] = field(default_factory=list)

    @staticmethod
    def reader(directory: str) -> PieceReader:
        """Return a reader of what the attempt in this directory tells."""
        return PieceReader(Path(directory))

    def take(self, state: ExecutionState, upto: int | None) -> None:
        """Take what an attempt has told up to a piece, or all of it; its numbers become entries of their own."""
        attempt = state.attempt
        if attempt is None or state.pieces is None:
            return
        events = state.pieces.read(attempt.pieces, upto)
        if not events:
            return
        last = events[-1].number
        self._told += metrics_of(events, attempt.run, state.step, attempt.id)
        self._told.append(OutputWritten(attempt.id, attempt.pieces + 1, last))
        state.attempt = replace(attempt, pieces=last)

    def add(self, entry: Told) -> None:
        """Take an entry that is complete."""
        self._told.append(entry)

    def drain(self, _run: str) -> Sequence[Told]:
        """Return the entries that have come since the last time."""
        told, self._told = self._told, []
        return told
