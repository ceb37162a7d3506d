"""A run that this kernel watches, shared by all its cards and cells."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field

from nbpipe.magics.step_log import StepLog
from nbpipe.model import AttemptRecord, ExecutionRecord, RunRecord
from nbpipe.run.run_watcher import RunUpdate, RunWatcher
from nbpipe.views.card_state import StepActivity


@dataclass(eq=False, slots=True)
class WatchedRun:
    """The state of a run, and the output of the newest attempt of each execution; thread-safe.

    ``watcher`` only reads; ``canceller`` returns one that writes.
    """

    watcher: RunWatcher
    canceller: Callable[[], RunWatcher]
    _logs: dict[str, tuple[int, StepLog]] = field(default_factory=dict)
    _lock: threading.RLock = field(default_factory=threading.RLock)

    @property
    def id(self) -> str:
        """Return the run's id."""
        return self.watcher.id

    @property
    def run(self) -> RunRecord | None:
        """Return the run's record; None before the first look."""
        return self.watcher.run

    def look(self) -> RunUpdate:
        """Process the changes in the run's log, and return them."""
        with self._lock:
            update = self.watcher.look()
            for attempt in update.attempts:
                self._log_of(attempt)
            for output in update.attempt_outputs:
                log = self._log_of(output.attempt)
                if log is not None:
                    log.take(output.events)
            return update

    def current(self) -> tuple[ExecutionRecord, ...]:
        """Return the current execution of each step, in notebook order."""
        with self._lock:
            return self.watcher.current()

    def execution(self, step: str) -> ExecutionRecord | None:
        """Return a step's current execution; None if the run has none."""
        return self.watcher.execution(step)

    def execution_with(self, execution: str) -> ExecutionRecord | None:
        """Return the execution with this id."""
        return self.watcher.execution_with(execution)

    def stands_for(self, request: str) -> Mapping[str, str] | None:
        """Return the execution of each step of a request; None while the request is not in the log."""
        return self.watcher.picture.requests.get(request)

    def activity(self, executions: Iterable[ExecutionRecord]) -> dict[str, StepActivity]:
        """Return the output, progress and metrics of the newest attempts of these executions, by step."""
        with self._lock:
            logs = {execution.step: self._logs.get(execution.id) for execution in executions}
            return {step: entry[1].activity() for step, entry in logs.items() if entry is not None}

    def cancel(self, execution: str) -> None:
        """Request the cancellation of an execution, or with an empty id of the whole run."""
        self.canceller().cancel(execution)

    def _log_of(self, attempt: AttemptRecord) -> StepLog | None:
        """Return the log of an attempt, empty for a new one; None if a newer attempt of its execution has begun."""
        number, log = self._logs.get(attempt.execution, (0, StepLog()))
        if number > attempt.number:
            return None
        if number < attempt.number:
            log = StepLog()
            self._logs[attempt.execution] = attempt.number, log
        return log
