"""The run of the step cells in a kernel without a front end: each cell adds its steps and waits for them."""

from __future__ import annotations

import queue
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace

from nbpipe.compute.executor import Executor
from nbpipe.errors import OutOfReach
from nbpipe.model import ExecutionRecord, PipelineWarning, RunRecord, run_outcome
from nbpipe.resolve.resolved_request import PipelineRequest
from nbpipe.run.cancellation import watch_signals
from nbpipe.run.reports import RunReport
from nbpipe.run.run_watcher import RunUpdate
from nbpipe.run.submission import RunOptions, new_run_id
from nbpipe.workspace import Workspace
from nbpipe.workspace.run_execution import ActiveRun, execute_run

_SIGNAL_SECONDS = 0.05
_CLOSE_SECONDS = 10.0


@dataclass(eq=False, slots=True)
class CellRun:
    """A run in a thread of this process, which takes the steps of further cells until it is finished.

    It goes on while no cell waits for it, so that it can be cancelled from elsewhere at any time.
    """

    workspace: Workspace
    executors: Callable[[], Executor]
    _updates: queue.SimpleQueue[RunUpdate | None] = field(default_factory=queue.SimpleQueue)
    _begun: threading.Event = field(default_factory=threading.Event)
    _cancelled: threading.Event = field(default_factory=threading.Event)
    _thread: threading.Thread | None = None
    _active: ActiveRun | None = None
    _error: BaseException | None = None
    _warned: set[PipelineWarning] = field(default_factory=set)
    _executions: dict[str, ExecutionRecord] = field(default_factory=dict)
    _stands: dict[str, Mapping[str, str]] = field(default_factory=dict)

    def begin(self, request: PipelineRequest) -> str:
        """Begin the run with its first steps, and return the id of the request; raise what prevents that."""
        name = new_run_id(time.time())
        arguments = (request, RunOptions(run=name))
        self._thread = threading.Thread(target=self._carry_out, args=arguments, name="nbpipe-cells", daemon=True)
        self._thread.start()
        self._begun.wait()
        if self._active is None and self._error is not None:
            raise self._error
        return name

    def extend(self, request: PipelineRequest) -> str | None:
        """Add steps to the run, and return the id of the request; None if the run is over."""
        if self._active is None or self._cancelled.is_set():
            return None
        name = new_run_id(time.time())
        self._active.hold()
        return name if self._active.extend(request, name) else None

    def wait(self, request: str, watch: Callable[[RunUpdate], None]) -> RunReport:
        """Wait until the steps of a request have ended, and return them; raise OutOfReach if the run broke off.

        ``watch`` is called with the changes in the run's log, in this thread. An interrupt cancels the run.
        """
        begin = time.monotonic()
        with watch_signals() as interrupted:
            while not self._has_ended(request):
                if interrupted():
                    self._cancelled.set()
                try:
                    update = self._updates.get(timeout=_SIGNAL_SECONDS)
                except queue.Empty:
                    continue
                if update is None:
                    self._raise_why_over()
                else:
                    self._take(update)
                    watch(update)
        return self._report(request, time.monotonic() - begin)

    @property
    def record(self) -> RunRecord:
        """Return the run's record; raise ValueError before it has begun."""
        if self._active is None:
            raise ValueError("the run has not begun")
        return self._active.record

    def take_warnings(self) -> tuple[PipelineWarning, ...]:
        """Return the warnings about the notebook that were not returned before."""
        warnings = self._active.warnings if self._active is not None else ()
        fresh = tuple(warning for warning in warnings if warning not in self._warned)
        self._warned.update(fresh)
        return fresh

    def release(self) -> None:
        """Let the run end as soon as nothing is left to do."""
        if self._active is not None:
            self._active.release()

    def finish(self) -> None:
        """Wait until the run has ended: a cell that still waits for a step is gone, so that step is cancelled."""
        if not all(execution.status.terminal for execution in self._executions.values()):
            self._cancelled.set()
        self.release()
        if self._thread is not None:
            self._thread.join(_CLOSE_SECONDS)

    def _carry_out(self, request: PipelineRequest, options: RunOptions) -> None:
        try:
            execute_run(
                self.workspace, request, options, self._updates.put, self.executors, began=self._began,
                cancelled=self._cancelled.is_set,
            )  # fmt: skip
        except BaseException as error:  # noqa: BLE001  # raised again in the thread that waits
            self._error = error
        finally:
            self._begun.set()
            self._updates.put(None)

    def _began(self, active: ActiveRun) -> None:
        active.hold()
        self._active = active
        self._begun.set()

    def _take(self, update: RunUpdate) -> None:
        self._executions.update({execution.id: execution for execution in update.executions})
        self._stands.update(update.requests)

    def _has_ended(self, request: str) -> bool:
        stands = self._stands.get(request)
        return stands is not None and all(self._executions[each].status.terminal for each in stands.values())

    def _raise_why_over(self) -> None:
        # The next one that waits must learn it too.
        self._updates.put(None)
        raise self._error or OutOfReach("the run ended without this step", "Run the cell again.")

    def _report(self, request: str, seconds: float) -> RunReport:
        steps = sorted(
            (self._executions[each] for each in self._stands[request].values()), key=lambda each: each.position
        )
        status = run_outcome(step.status for step in steps)
        return RunReport(replace(self.record, status=status), tuple(steps), seconds)
