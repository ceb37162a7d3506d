"""The execution of runs in this process: a driver carries one out, and other threads may add steps to it."""

from __future__ import annotations

import secrets
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from functools import cache, partial
from pathlib import Path

from nbpipe.compute.executor import Executor
from nbpipe.compute.target_executors import TargetExecutors
from nbpipe.entry_points import load_entry_point
from nbpipe.model import Artifact, PipelineWarning, RunRecord, Status
from nbpipe.planning.run_state import RunState
from nbpipe.resolve.git import git_state
from nbpipe.resolve.resolved_request import PipelineRequest, ResolvedRequest
from nbpipe.run.archive_files import ResultArchiveWriter
from nbpipe.run.attempt_control import AttemptControl
from nbpipe.run.cancellation import CancellationPoller, watch_signals
from nbpipe.run.carried_run import CarriedRun
from nbpipe.run.driver import Driver
from nbpipe.run.job_factory import AttemptJobFactory, DeliversToStores
from nbpipe.run.process_identity import this_owner
from nbpipe.run.reports import RunReport
from nbpipe.run.requested_steps import RequestedSteps
from nbpipe.run.run_watcher import RunUpdate
from nbpipe.run.safe_objects import find_lost, is_gone
from nbpipe.run.submission import RunOptions, new_run_id
from nbpipe.workspace.context import WorkspaceContext
from nbpipe.workspace.plans import PinnedRequest
from nbpipe.workspace.run_watch import watch_run
from nbpipe.workspace.workspace import Workspace

# Loaded by its name: most outputs stay where they are.
_DELIVERY = "nbpipe.run.store_delivery:open_delivery"


Executors = Callable[[], Executor]
Watch = Callable[[RunUpdate], None]


@dataclass(slots=True)
class ActiveRun:
    """A run that this process carries out; other threads may add steps to it."""

    record: RunRecord
    driver: Driver
    steps: int
    warnings: tuple[PipelineWarning, ...]
    _increments: _Increments
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def extend(
        self, request: PipelineRequest, name: str, gesture: int = 0, environ: Mapping[str, str] | None = None
    ) -> bool:
        """Add steps to the run, with the steps they need; return False if it is over. Raise the notebook's errors.

        ``name`` is the id of the request in the run's log; ``environ`` are the environment variables of the steps.
        """
        if self.is_over:
            return False
        pinned = self._increments.pin(request, environ)
        increment = self._increments.of(request, pinned, name, gesture, environ)
        with self._lock:
            self.warnings = tuple(dict.fromkeys((*self.warnings, *pinned.warnings)))
        return self.driver.intake.add(increment)

    @property
    def is_over(self) -> bool:
        """Return whether the run takes no more steps."""
        return self.driver.intake.is_over

    def hold(self) -> None:
        """Keep the run open for more steps."""
        self.driver.intake.hold()

    def release(self) -> None:
        """Let the run end as soon as nothing is left to do."""
        self.driver.intake.release()


def execute_run(
    workspace: Workspace,
    request: PipelineRequest,
    options: RunOptions,
    watch: Watch | None = None,
    executors: Executors | None = None,
    *,
    began: Callable[[ActiveRun], None] = lambda _active: None,
    cancelled: Callable[[], bool] = lambda: False,
) -> RunReport:
    """Carry out a run to its end. Failures of steps are in the report; only OutOfReach is raised.

    An executor from ``executors`` stays open; by default one is created for this run and closed. ``watch`` is
    called with the changes in the run's log, in this thread; ``cancelled`` returns whether to stop.
    """
    begin = time.monotonic()
    context = workspace.context
    versions: dict[str, int] = {}
    pinned = workspace.plans.pin(request, versions=versions)
    context.claim_output_store()
    record = _begin(context, request, pinned, options)
    own_executors: list[Executor] = []
    archive = ResultArchiveWriter(context.layout, replace(pinned.pipeline, id=record.pipeline), request.base)
    driver = _driver(context, record, archive, options, executors or (lambda: _own_executor(own_executors)))
    status = Status.LOST
    try:
        began(_start(workspace, driver, request, pinned, options=options, versions=versions))
        if watch is not None:
            watcher = watch_run(workspace, record.id)
            driver.carried.watch = lambda: watch(watcher.look())
        status = _carry_out(context, driver, cancelled)
    finally:
        for executor in own_executors:
            executor.close()
        context.history.runs.end(record.id, status, context.clock())
    done = context.history.runs.get(record.id) or record
    archive.keep_ending(done)
    driver.carried.watch()
    ended, executions = workspace.runs.located(done)
    return RunReport(ended, tuple(executions), time.monotonic() - begin, pinned.warnings)


def _start(
    workspace: Workspace,
    driver: Driver,
    request: PipelineRequest,
    pinned: PinnedRequest,
    *,
    options: RunOptions,
    versions: dict[str, int],
) -> ActiveRun:
    increments = _Increments(workspace, driver.carried.run, driver, options, versions)
    driver.intake.add(increments.of(request, pinned, driver.carried.run.id, 0))
    record = workspace.layout.located_run(driver.carried.run)
    return ActiveRun(record, driver, len(pinned.resolved.selected), pinned.warnings, increments)


def _carry_out(context: WorkspaceContext, driver: Driver, cancelled: Callable[[], bool]) -> Status:
    with watch_signals() as interrupted:
        driver.interrupted = lambda: interrupted() or cancelled()
        driver.requested = CancellationPoller(lambda: context.history.runs.cancel_requests(driver.carried.run.id))
        return driver.carry_out()


def _begin(
    context: WorkspaceContext, request: PipelineRequest, pinned: PinnedRequest, options: RunOptions
) -> RunRecord:
    run = options.run or new_run_id(context.clock())
    git = git_state(request.base)
    record = context.history.runs.begin(
        run=run, pipeline=pinned.pipeline, experiment=options.experiment or Path(request.notebook).stem,
        parameters=pinned.resolved.values, tags=options.tags, git=git, owner=this_owner(run), now=context.clock(),
    )  # fmt: skip
    # From now on nothing is deleted that this run finds.
    pinned.planner.past.renew()
    return record


def _driver(
    context: WorkspaceContext,
    run: RunRecord,
    archive: ResultArchiveWriter,
    options: RunOptions,
    executors: Executors,
) -> Driver:
    state = RunState(run.id, options.keep_going, options.attach)
    carried = CarriedRun(run, context.history, state, context.clock)
    carried.find_lost = partial(find_lost, context.history, context.materializer, context.clock)
    carried.is_gone = partial(is_gone, context.materializer)
    return Driver(carried, AttemptControl(carried, archive, executors, lambda: secrets.token_hex(8)))


@dataclass(frozen=True, slots=True)
class _Increments:
    """Creates increments of a run from requests; ``versions`` are those of datasets that its inputs are bound to."""

    workspace: Workspace
    record: RunRecord
    driver: Driver
    options: RunOptions
    versions: dict[str, int]

    def pin(self, request: PipelineRequest, environ: Mapping[str, str] | None) -> PinnedRequest:
        return self.workspace.plans.pin(request, environ, self.versions)

    def of(
        self,
        request: PipelineRequest,
        pinned: PinnedRequest,
        name: str,
        gesture: int,
        environ: Mapping[str, str] | None = None,
    ) -> RequestedSteps:
        resolved = pinned.resolved
        requested = frozenset(request.steps) or resolved.selected
        jobs = self._jobs(resolved, environ or self.workspace.context.environ)
        return RequestedSteps(pinned.planner, jobs, resolved.selected, requested, name, gesture)

    def _jobs(self, resolved: ResolvedRequest, environ: Mapping[str, str]) -> AttemptJobFactory:
        context, record = self.workspace.context, self.record
        date = time.strftime("%Y-%m-%d", time.localtime(record.started))
        code = resolved.graph.pipeline.code
        steps = [step for step in resolved.graph.pipeline.steps if step.name in resolved.selected]
        imports = tuple(dict.fromkeys(name for step in steps for name in code[step.name].imports))
        return AttemptJobFactory(
            record.id,
            date,
            context.layout,
            resolved,
            context.digests,
            context.materializer,
            environ,
            self._deliveries(environ),
            record.experiment,
            imports,
            self._newest_outputs,
        )

    def _deliveries(self, environ: Mapping[str, str]) -> Callable[[], DeliversToStores]:
        """Return a function that returns what delivers outputs to datastores, made when it is first called."""
        context, run = self.workspace.context, self.record.id
        return cache(
            lambda: load_entry_point(_DELIVERY)(
                run, context.layout, environ, context.history.deliveries, context.materializer
            )
        )

    def _newest_outputs(self, step: str) -> tuple[Artifact, ...]:
        """Return the outputs of a step's newest result in this pipeline; none if it has none."""
        newest = self.workspace.context.history.results.newest_result(self.record.pipeline, step)
        return newest.artifacts if newest is not None else ()


def _own_executor(opened: list[Executor]) -> Executor:
    executor = TargetExecutors()
    opened.append(executor)
    return executor
