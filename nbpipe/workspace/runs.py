"""The runs of a workspace: executing, submitting, watching, cancelling and querying them."""

from __future__ import annotations

import dataclasses
import secrets
import threading
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from nbpipe.compute.targets import default_target, executor_of
from nbpipe.errors import BadUsage, ClusterOutOfReach
from nbpipe.history.runs import RunFilter
from nbpipe.language.source_text import nearest
from nbpipe.model import AttemptRecord, ExecutionRecord, Metric, PipelineWarning, RunRecord, Status
from nbpipe.planning.run_state import RunState
from nbpipe.resolve.git import git_state
from nbpipe.resolve.resolved_request import PipelineRequest, ResolvedRequest
from nbpipe.run.archive_files import ResultArchiveWriter
from nbpipe.run.cancellation import CancellationPoller, watch_signals
from nbpipe.run.driver import Driver
from nbpipe.run.executor import Executor
from nbpipe.run.increment import RunIncrement
from nbpipe.run.job_factory import AttemptJobFactory
from nbpipe.run.process_identity import this_owner
from nbpipe.run.reports import RunReport
from nbpipe.run.run_watcher import RunUpdate, RunWatcher
from nbpipe.run.submission import RunOptions, new_run_id
from nbpipe.workspace.catalog import Catalog
from nbpipe.workspace.context import WorkspaceContext
from nbpipe.workspace.plans import PinnedRequest, Plans

Executors = Callable[[], Executor]
Watch = Callable[[RunUpdate], None]

CANCEL_SECONDS = 30.0
_PAUSE = 0.1


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


@dataclass(slots=True)
class Runs:
    """The runs of one workspace."""

    context: WorkspaceContext
    catalog: Catalog
    plans: Plans

    def run(
        self,
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
        pinned = self.plans.pin(request)
        record = self._begin(request, pinned, options)
        own_executors: list[Executor] = []
        driver = self._driver(record, request, pinned, options, executors or (lambda: _own_executor(own_executors)))
        status = Status.LOST
        try:
            began(self._start(driver, request, pinned, options))
            if watch is not None:
                watcher = self.watch(record.id)
                driver.watch = lambda: watch(watcher.look())
            status = self._carry_out(driver, cancelled)
        finally:
            for executor in own_executors:
                executor.close()
            self.context.history.runs.end(record.id, status, self.context.clock())
        done = self.context.history.runs.get(record.id) or record
        driver.archive.keep_ending(done)
        driver.watch()
        ended, executions = self._located(done)
        return RunReport(ended, tuple(executions), time.monotonic() - begin, pinned.warnings)

    def _start(self, driver: Driver, request: PipelineRequest, pinned: PinnedRequest, options: RunOptions) -> ActiveRun:
        increments = _Increments(self, driver.run, driver, options)
        driver.intake.add(increments.of(request, pinned, driver.run.id, 0))
        record = self.context.layout.located_run(driver.run)
        return ActiveRun(record, driver, len(pinned.resolved.selected), pinned.warnings, increments)

    def _carry_out(self, driver: Driver, cancelled: Callable[[], bool]) -> Status:
        with watch_signals() as interrupted:
            driver.interrupted = lambda: interrupted() or cancelled()
            driver.requested = CancellationPoller(lambda: self.context.history.runs.cancel_requests(driver.run.id))
            return driver.carry_out()

    def cancel(self, notebook: str, patience: float = CANCEL_SECONDS) -> list[RunRecord]:
        """Cancel all active runs of a notebook, and wait until they have ended.

        Raise BadUsage if there is none, ClusterOutOfReach if one does not end.
        """
        history = self.context.history
        live = history.runs.live(self.catalog.pipeline(notebook).pipeline.id)
        if not live:
            raise BadUsage(f"no run of {Path(notebook).name} is active")
        for run in live:
            history.runs.ask_cancel(run.id, self.context.clock())
        deadline = time.monotonic() + patience
        while any(not run.status.terminal for run in live):
            if time.monotonic() > deadline:
                numbers = ", ".join(str(run.number) for run in live if not run.status.terminal)
                raise ClusterOutOfReach(f"run {numbers} was asked to stop and has not ended yet", "Try again later.")
            time.sleep(_PAUSE)
            self.context.recover()
            live = [history.runs.get(run.id) or run for run in live]
        return [self.context.layout.located_run(run) for run in live]

    def watch(self, run: str) -> RunWatcher:
        """Return a watcher of a run, whichever process carries it out."""
        return RunWatcher(self.context.history, self.context.layout, run)

    def live(self, notebook: str) -> list[RunRecord]:
        """Return the active runs of a notebook, oldest first."""
        self.context.recover()
        runs = self.context.history.runs.live(self.catalog.pipeline(notebook).pipeline.id)
        return [self.context.layout.located_run(run) for run in runs]

    def newest(self, notebook: str) -> tuple[RunRecord, list[ExecutionRecord]] | None:
        """Return the newest run of a notebook, if there is one."""
        run = self.context.history.runs.last(self.catalog.pipeline(notebook).pipeline.id)
        return None if run is None else self._located(run)

    def last(self, notebook: str) -> tuple[RunRecord, list[ExecutionRecord]]:
        """Return the newest run of a notebook; raise BadUsage when there is none."""
        newest = self.newest(notebook)
        if newest is None:
            raise BadUsage(
                f"{Path(notebook).name} has not been run in this workspace", f"Run it: nbpipe run {notebook}"
            )
        return newest

    def latest(self, notebook: str, run: str = "") -> tuple[RunRecord, list[ExecutionRecord]]:
        """Return a notebook's newest run, or the named one, with the latest executions of steps that are not in it.

        Raise BadUsage if the notebook has not been run.
        """
        record, executions = self.show(run) if run else self.last(notebook)
        names = self.catalog.pipeline(notebook).pipeline.steps - {each.step for each in executions}
        if names:
            newest = self.context.history.executions.newest(record.pipeline)
            executions += [self.context.layout.located(newest[step]) for step in names & newest.keys()]
        return record, sorted(executions, key=lambda each: (each.position, each.step))

    def show(self, reference: str) -> tuple[RunRecord, list[ExecutionRecord]]:
        """Return a run by number, id or the beginning of its id."""
        run = self.context.history.runs.get(reference)
        if run is None:
            raise BadUsage(f"there is no run `{reference}` in {self.context.layout.root}", "`nbpipe runs` lists them.")
        return self._located(run)

    def recorded(self, reference: str) -> tuple[RunRecord, list[ExecutionRecord], list[Metric]]:
        """Return a run with its executions and their metrics."""
        run, executions = self.show(reference)
        return run, executions, self.metrics(run.id, executions)

    def find(self, run_filter: RunFilter, limit: int = 50) -> list[RunRecord]:
        """Return the runs that match a filter, newest first."""
        runs = self.context.history.runs.newest(limit=limit, wanted=run_filter)
        return [self.context.layout.located_run(run) for run in runs]

    def executed_steps(self, runs: Iterable[str]) -> dict[str, list[str]]:
        """Return the names of the steps that were executed in each of these runs, in notebook order."""
        return self.context.history.executions.tried_in(list(runs))

    def execution(self, run: str, step: str) -> ExecutionRecord | None:
        """Return a step's current execution in a run; None if there is none."""
        execution = self.context.history.executions.of_step(run, step)
        return None if execution is None else self.context.layout.located(execution)

    def attempts(self, run: str, step: str) -> list[AttemptRecord]:
        """Return the attempts of a step's current execution in a run, first to last."""
        execution = self.context.history.executions.of_step(run, step)
        return [] if execution is None else self.context.history.attempts.of_execution(execution.id)

    def metrics(self, run: str, executions: Iterable[ExecutionRecord] | None = None) -> list[Metric]:
        """Return the metrics of a run's steps in order; for a reused step, those of its original attempt.

        For a step with several attempts, the metrics of its newest attempt come first, followed by those with names
        that only earlier attempts logged, marked with their attempt.
        """
        history = self.context.history
        recorded = history.executions.of_run(run) if executions is None else list(executions)
        logged: dict[str, list[Metric]] = {}
        for source in dict.fromkeys([run, *(each.origin.run if each.origin else each.run for each in recorded)]):
            for metric in history.log.metrics(source):
                logged.setdefault(metric.attempt, []).append(metric)
        attempts: dict[str, list[AttemptRecord]] = {}
        for each in dict.fromkeys(each.run for each in recorded) if logged else ():
            for attempt in history.attempts.of_run(each):
                attempts.setdefault(attempt.execution, []).append(attempt)
        metrics: list[Metric] = []
        for execution in recorded:
            if execution.origin:
                metrics += _of_step(execution, logged.get(execution.origin.attempt, []))
            else:
                metrics += _of_step(execution, _newest_metrics(attempts.get(execution.id, []), logged))
        return metrics

    def numbers(self, runs: Iterable[str]) -> dict[str, int]:
        """Return the numbers of runs by their ids."""
        return self.context.history.runs.numbers(list(runs))

    def origin_numbers(self, executions: Iterable[ExecutionRecord]) -> dict[str, int]:
        """Return the numbers of the runs whose results these executions reused."""
        return self.numbers(execution.origin.run for execution in executions if execution.origin)

    def require_step(self, notebook: str, step: str) -> tuple[RunRecord, ExecutionRecord]:
        """Return a step's newest execution, with its run; raise BadUsage if there is none."""
        newest, _ = self.last(notebook)
        execution = self.context.history.executions.newest_of_step(newest.pipeline, step)
        run = self.context.history.runs.get(execution.run) if execution else None
        if execution is None or run is None:
            names = sorted(self.context.history.executions.newest(newest.pipeline))
            message = f"no run of {Path(notebook).name} has a step `{step}`"
            raise BadUsage(message, nearest(step, names) or f"There are: {', '.join(names)}.")
        return self.context.layout.located_run(run), self.context.layout.located(execution)

    def _located(self, run: RunRecord) -> tuple[RunRecord, list[ExecutionRecord]]:
        layout = self.context.layout
        executions = self.context.history.executions.of_run(run.id)
        return layout.located_run(run), [layout.located(execution) for execution in executions]

    def _begin(self, request: PipelineRequest, pinned: PinnedRequest, options: RunOptions) -> RunRecord:
        now = self.context.clock()
        run = options.run or new_run_id(now)
        return self.context.history.runs.begin(
            run=run, pipeline=pinned.pipeline, experiment=options.experiment or Path(request.notebook).stem,
            parameters=pinned.resolved.values, tags=options.tags, git=git_state(request.base), owner=this_owner(run),
            now=now,
        )  # fmt: skip

    def _driver(
        self, run: RunRecord, request: PipelineRequest, pinned: PinnedRequest, options: RunOptions, executors: Executors
    ) -> Driver:
        return Driver(
            run=run,
            history=self.context.history,
            archive=ResultArchiveWriter(self.context.layout, replace(pinned.pipeline, id=run.pipeline), request.base),
            executors=executors,
            clock=self.context.clock,
            new_id=lambda: secrets.token_hex(8),
            state=RunState(run.id, options.keep_going, options.attach),
            attach=options.attach,
        )


@dataclass(frozen=True, slots=True)
class _Increments:
    """Creates increments of a run from requests."""

    runs: Runs
    record: RunRecord
    driver: Driver
    options: RunOptions

    def pin(self, request: PipelineRequest, environ: Mapping[str, str] | None) -> PinnedRequest:
        return self.runs.plans.pin(request, environ)

    def of(
        self,
        request: PipelineRequest,
        pinned: PinnedRequest,
        name: str,
        gesture: int,
        environ: Mapping[str, str] | None = None,
    ) -> RunIncrement:
        resolved = pinned.resolved
        requested = frozenset(request.steps) or resolved.selected
        jobs = self._jobs(resolved, environ or self.runs.context.environ)
        return RunIncrement(pinned.planner, jobs, resolved.selected, requested, name, gesture)

    def _jobs(self, resolved: ResolvedRequest, environ: Mapping[str, str]) -> AttemptJobFactory:
        context, record = self.runs.context, self.record
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
            record.experiment,
            imports,
        )


def _newest_metrics(attempts: Sequence[AttemptRecord], logged: Mapping[str, list[Metric]]) -> list[Metric]:
    """Return the metrics of the last attempt, then those of earlier attempts that no later one has logged."""
    metrics: list[Metric] = []
    names: set[str] = set()
    for attempt in reversed(attempts):
        fresh = [metric for metric in logged.get(attempt.id, ()) if metric.name not in names]
        names |= {metric.name for metric in fresh}
        earlier = attempt.number if attempt is not attempts[-1] else None
        metrics += [dataclasses.replace(metric, earlier_attempt=earlier) for metric in fresh] if earlier else fresh
    return metrics


def _of_step(execution: ExecutionRecord, metrics: Iterable[Metric]) -> list[Metric]:
    """Return metrics as those of an execution, which may have reused the result of another run."""
    owner = execution.run, execution.step
    return [
        metric
        if (metric.run, metric.step) == owner
        else dataclasses.replace(metric, run=execution.run, step=execution.step)
        for metric in metrics
    ]


def _own_executor(opened: list[Executor]) -> Executor:
    executor = executor_of(default_target())
    opened.append(executor)
    return executor
