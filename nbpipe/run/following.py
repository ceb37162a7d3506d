"""A run as it goes, for whoever watches it: read from history and the attempts' files, whoever carries it."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from nbpipe.data.events import Tail
from nbpipe.errors import HistoryOutOfReach
from nbpipe.history.store import History
from nbpipe.model import RunRecord, Status, StepEvent, StepRecord


@dataclass(frozen=True, slots=True)
class News:
    """What has changed since the last look: steps' new states, and what running steps have told."""

    run: RunRecord | None
    steps: tuple[StepRecord, ...]
    told: Mapping[str, Sequence[StepEvent]]

    @property
    def anything(self) -> bool:
        """Say whether there is any news."""
        return bool(self.steps or self.told)


@dataclass(slots=True)
class Following:
    """Follows one run; ``run`` and ``steps`` hold what the last look has found."""

    history: History
    id: str
    run: RunRecord | None = None
    steps: dict[str, StepRecord] = field(default_factory=dict)
    _marks: dict[str, tuple[object, ...]] = field(default_factory=dict)
    _tails: dict[str, tuple[int, Tail]] = field(default_factory=dict)

    def look(self) -> News:
        """Get what has changed; HistoryOutOfReach when the run's history was deleted."""
        if not self.history.is_in_place():
            raise HistoryOutOfReach("the workspace was deleted while the run went on", "Run the cell again.")
        # Read before the steps: a run that has ended has all of them written.
        status = self.history.run_status(self.id)
        if status is not None and (self.run is None or status is not self.run.status):
            self.run = self.history.run(self.id)
        marks = self.history.step_marks(self.id)
        changed = [step for step, mark in marks.items() if self._marks.get(step) != mark]
        self._marks = marks
        records = self.history.steps_named(self.id, changed) if changed else []
        for record in records:
            self.steps[record.step] = record
        told = {step: events for step in self._tailed(records) if (events := self._tails[step][1].read())}
        for record in records:
            if record.status.terminal:
                self._tails.pop(record.step, None)
        return News(self.run, tuple(records), told)

    def cancel(self, step: str) -> None:
        """Ask whoever carries the run to stop one of its steps, or with no name all of it."""
        if step:
            self.history.ask_cancel_step(self.id, step, time.time())
        else:
            self.history.ask_cancel(self.id, time.time())

    def in_order(self) -> tuple[StepRecord, ...]:
        """Get the steps in notebook order."""
        return tuple(sorted(self.steps.values(), key=lambda record: record.position))

    def _tailed(self, changed: Sequence[StepRecord]) -> list[str]:
        """Get the steps whose attempts may have something to tell, with a tail on the newest attempt of each."""
        for record in changed:
            if record.status not in (Status.RUNNING, Status.SUCCEEDED, Status.FAILED, Status.CANCELLED):
                continue
            known = self._tails.get(record.step)
            if record.attempts and (known is None or known[0] != record.attempts):
                rows = self.history.attempts(self.id, record.step)
                if rows:
                    self._tails[record.step] = (record.attempts, Tail(Path(rows[-1].directory)))
        return list(self._tails)
