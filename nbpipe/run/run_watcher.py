"""Watching a run through its log, whichever process carries it out."""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace

from nbpipe.data.event_file import PieceReader
from nbpipe.errors import HistoryOutOfReach
from nbpipe.history.store import History
from nbpipe.model import (
    AttemptChanged,
    AttemptRecord,
    ExecutionChanged,
    ExecutionRecord,
    MetricsLogged,
    OutputWritten,
    RunChanged,
    RunEvent,
    RunGrown,
    RunRecord,
    RunSnapshot,
    Status,
    StepEvent,
)
from nbpipe.resolve.workspace_layout import WorkspaceLayout


@dataclass(frozen=True, slots=True)
class NewAttemptEvents:
    """The events of an attempt since the last look."""

    step: str
    attempt: AttemptRecord
    events: tuple[StepEvent, ...]


@dataclass(frozen=True, slots=True)
class RunUpdate:
    """The changes in a run: changed executions, changed attempts, and new output of attempts.

    ``requests`` maps the id of each request that was added to the executions of its steps.
    ``run`` is the run's present record, None before it has begun. ``steps`` maps the execution of each attempt to the
    name of its step.
    """

    run: RunRecord | None
    executions: tuple[ExecutionRecord, ...] = ()
    attempts: tuple[AttemptRecord, ...] = ()
    attempt_outputs: tuple[NewAttemptEvents, ...] = ()
    status_changed: bool = False
    steps: Mapping[str, str] = field(default_factory=dict)
    requests: Mapping[str, Mapping[str, str]] = field(default_factory=dict)

    @property
    def named_attempts(self) -> list[tuple[str, AttemptRecord]]:
        """Return the attempts that have changed, each with the name of its step."""
        return [(self.steps[attempt.execution], attempt) for attempt in self.attempts]

    @property
    def outputs(self) -> list[tuple[str, AttemptRecord, tuple[StepEvent, ...]]]:
        """Return the new output of attempts, each with the name of its step."""
        return [(output.step, output.attempt, output.events) for output in self.attempt_outputs]

    @property
    def is_empty(self) -> bool:
        """Return whether there are no changes."""
        return not (self.executions or self.attempts or self.attempt_outputs or self.status_changed)

    @property
    def is_over(self) -> bool:
        """Return whether the run has ended."""
        return self.run is not None and self.run.status.terminal


@dataclass(slots=True)
class RunWatcher:
    """Watches a run from the beginning of its log; ``picture`` is the state according to the log so far."""

    history: History
    layout: WorkspaceLayout
    id: str
    picture: RunSnapshot = field(default_factory=RunSnapshot)
    run: RunRecord | None = None
    _readers: dict[str, PieceReader] = field(default_factory=dict)
    _located: dict[str, tuple[ExecutionRecord, ExecutionRecord]] = field(default_factory=dict)

    def look(self) -> RunUpdate:
        """Return the changes since the last look; raise HistoryOutOfReach if the run's history was deleted."""
        if not self.history.is_in_place():
            raise HistoryOutOfReach("the workspace was deleted while the run was active", "Run the cell again.")
        events: list[RunEvent] = []
        length = self.history.log.length(self.id)
        while self.picture.after < length and (batch := self.history.log.read(self.id, self.picture.after)):
            self.picture.take(batch)
            # The picture has a summary of the numbers, and the pieces have them for a card.
            events += [event for event in batch if not isinstance(event.fact, MetricsLogged)]
        if not events:
            return RunUpdate(self.run)
        return self._update(events)

    def current(self) -> tuple[ExecutionRecord, ...]:
        """Return the current execution of each step in notebook order."""
        return tuple(map(self._locate, self.picture.current()))

    def execution(self, step: str) -> ExecutionRecord | None:
        """Return a step's current execution."""
        execution = self.picture.execution(step)
        return None if execution is None else self._locate(execution)

    def execution_with(self, execution: str) -> ExecutionRecord | None:
        """Return the execution with this id."""
        record = self.picture.executions.get(execution)
        return None if record is None else self._locate(record)

    def _locate(self, record: ExecutionRecord) -> ExecutionRecord:
        # Once for each record: views ask for all steps at every update, and each path is looked at for links.
        known = self._located.get(record.id)
        if known is None or known[0] is not record:
            known = self._located[record.id] = (record, self.layout.located(record))
        return known[1]

    def cancel(self, execution: str) -> None:
        """Request the cancellation of an execution, or with an empty id of the whole run."""
        if execution:
            self.history.executions.ask_cancel(execution, time.time())
        else:
            self.history.runs.ask_cancel(self.id, time.time())

    def _update(self, events: Sequence[RunEvent]) -> RunUpdate:
        changed = [event.fact for event in events]
        status_changed = any(isinstance(fact, RunChanged) for fact in changed)
        if self.run is None:
            record = self.history.runs.get(self.id)
            self.run = None if record is None else self.layout.located_run(record)
        if self.run is not None:
            self.run = replace(self.run, status=self.picture.status or Status.RUNNING, ended=self.picture.ended)
        executions = dict.fromkeys(fact.execution.id for fact in changed if isinstance(fact, ExecutionChanged))
        attempts = dict.fromkeys(fact.attempt.id for fact in changed if isinstance(fact, AttemptChanged))
        written = [fact for fact in changed if isinstance(fact, OutputWritten)]
        return RunUpdate(
            self.run,
            tuple(self.layout.located(self.picture.executions[each]) for each in executions),
            tuple(self.picture.attempts[each] for each in attempts),
            tuple(output for fact in written if (output := self._read(fact)) is not None),
            status_changed,
            self._steps_of(attempts),
            {fact.request: fact.executions for fact in changed if isinstance(fact, RunGrown)},
        )

    def _steps_of(self, attempts: Iterable[str]) -> dict[str, str]:
        owners = dict.fromkeys(self.picture.attempts[each].execution for each in attempts)
        return {owner: self.picture.executions[owner].step for owner in owners}

    def _read(self, fact: OutputWritten) -> NewAttemptEvents | None:
        attempt = self.picture.attempts.get(fact.attempt)
        execution = self.picture.executions.get(attempt.execution) if attempt else None
        if attempt is None or execution is None:
            return None
        if attempt.id not in self._readers:
            self._readers[attempt.id] = PieceReader(self.layout.path(attempt.directory))
        events = self._readers[attempt.id].recorded(fact.first, fact.last)
        if attempt.status.terminal:
            self._readers.pop(attempt.id)
        return NewAttemptEvents(execution.step, attempt, tuple(events))
