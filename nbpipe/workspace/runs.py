"""The runs of a workspace: carried out, handed over, watched, cancelled, and looked at again."""

from __future__ import annotations

import dataclasses
import secrets
import threading
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
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
from nbpipe.run.driver import Driver, Executor
from nbpipe.run.increment import RunIncrement
from nbpipe.run.job_factory import AttemptJobFactory
from nbpipe.run.process_identity import this_owner
from nbpipe.run.reports import RunReport
from nbpipe.run.run_watcher import RunUpdate, RunWatcher
from nbpipe.run.submission import RunOptions, new_run_id
from nbpipe.workspace.catalog import Catalog
from nbpipe.workspace.context import WorkspaceContext
from nbpipe.workspace.plans import PinnedPlan, Plans

Executors = Callable[[], Executor]
Watch = Callable[[RunUpdate], None]

CANCEL_SECONDS = 30.0
_PAUSE = 0.1


@dataclass(slots=True)
class ActiveRun:
    """A run that is being carried out in this process; other threads may add steps to it."""

    record: RunRecord
    driver: Driver
    steps: int
    warnings: tuple[PipelineWarning, ...]
    _increments: _Increments

    def extend(
        self, request: PipelineRequest, name: str, gesture: int = 0, environ: Mapping[str, str] | None = None
    ) -> bool:
        """Add steps to the run, with what they need; return False when it is over. What is wrong is raised.

        ``name`` is the id under which the run's log tells which executions stand for them; ``environ`` are the
        environment variables that they see.
        """
        return not self.is_over and self.driver.extend(self._increments.make(request, name, gesture, environ))

    @property
    def is_over(self) -> bool:
        """Return whether the run takes no more steps."""
        return self.driver.is_over

    @property
    def held(self) -> threading.Event:
        """While this is set the run goes on though nothing is left to do in it: more may come."""
        return self.driver.held


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
        """Carry out a run to its end; a step's failure is in the report, only what is out of reach is raised.

        An executor that ``executors`` gives stays open; without it one is made for this run and closed. ``watch`` is
        told what is new in the run's log, in this thread; ``cancelled`` is asked whether to stop.
        """
        begin = time.monotonic()
        pinned = self.plans.pin(request)
        record = self._begin(request, pinned, options)
        made: list[Executor] = []
        driver = self._driver(record, request, pinned, options, executors or (lambda: _own_executor(made)))
        status = Status.LOST
        try:
            began(self._start(driver, request, pinned, options))
            if watch is not None:
                watcher = self.watch(record.id)
                driver.watch = lambda: watch(watcher.look())
            status = self._carry_out(driver, cancelled)
        finally:
            for executor in made:
                executor.close()
            self.context.history.runs.end(record.id, status, self.context.clock())
        done = self.context.history.runs.get(record.id) or record
        driver.archive.keep_ending(done)
        driver.watch()
        ended, executions = self._located(done)
        return RunReport(ended, tuple(executions), time.monotonic() - begin, pinned.warnings)

    def _start(self, driver: Driver, request: PipelineRequest, pinned: PinnedPlan, options: RunOptions) -> ActiveRun:
        increments = _Increments(self, driver.run, driver, options)
        driver.extend(increments.of(request, pinned, driver.run.id, 0))
        record = self.context.layout.located_run(driver.run)
        return ActiveRun(record, driver, len(pinned.situation.selected), pinned.warnings, increments)

    def _carry_out(self, driver: Driver, cancelled: Callable[[], bool]) -> Status:
        with watch_signals() as interrupted:
            driver.interrupted = lambda: interrupted() or cancelled()
            driver.requested = CancellationPoller(lambda: self.context.history.runs.cancel_requests(driver.run.id))
            return driver.carry_out()

    def cancel(self, notebook: str, patience: float = CANCEL_SECONDS) -> list[RunRecord]:
        """Cancel all active runs of a notebook, and return when they have ended.

        Raise BadUsage when there is none, ClusterOutOfReach when one does not end.
        """
        history = self.context.history
        live = history.runs.live(self.catalog.pipeline(notebook).pipeline.id)
        if not live:
            raise BadUsage(f"no run of {Path(notebook).name} is going on")
        for run in live:
            history.runs.ask_cancel(run.id, self.context.clock())
        ends = time.monotonic() + patience
        while any(not run.status.terminal for run in live):
            if time.monotonic() > ends:
                numbers = ", ".join(str(run.number) for run in live if not run.status.terminal)
                raise ClusterOutOfReach(f"run {numbers} was asked to stop and has not ended yet", "Look again later.")
            time.sleep(_PAUSE)
            self.context.recover()
            live = [history.runs.get(run.id) or run for run in live]
        return [self.context.layout.located_run(run) for run in live]

    def watch(self, run: str) -> RunWatcher:
        """Return a way to watch a run, whoever carries it."""
        return RunWatcher(self.context.history, self.context.layout, run)

    def live(self, notebook: str) -> list[RunRecord]:
        """Return the active runs of a notebook, oldest first."""
        self.context.recover()
        found = self.context.history.runs.live(self.catalog.pipeline(notebook).pipeline.id)
        return [self.context.layout.located_run(run) for run in found]

    def newest(self, notebook: str) -> tuple[RunRecord, list[ExecutionRecord]] | None:
        """Return the newest run of a notebook, if there is one."""
        run = self.context.history.runs.last(self.catalog.pipeline(notebook).pipeline.id)
        return None if run is None else self._located(run)

    def last(self, notebook: str) -> tuple[RunRecord, list[ExecutionRecord]]:
        """Return the newest run of a notebook; raise BadUsage when there is none."""
        found = self.newest(notebook)
        if found is None:
            raise BadUsage(
                f"{Path(notebook).name} has not been run in this workspace", f"Run it: nbpipe run {notebook}"
            )
        return found

    def latest(self, notebook: str, run: str = "") -> tuple[RunRecord, list[ExecutionRecord]]:
        """Return a notebook's newest run, or the one named, and the latest executions of the steps that it has not.

        Raise BadUsage when the notebook has not been run.
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
        """Return a run with its executions and the numbers that they logged."""
        run, executions = self.show(reference)
        return run, executions, self.metrics(run.id, executions)

    def find(self, wanted: RunFilter, limit: int = 50) -> list[RunRecord]:
        """Return the newest runs that are wanted, newest first."""
        found = self.context.history.runs.newest(limit=limit, wanted=wanted)
        return [self.context.layout.located_run(run) for run in found]

    def executed_steps(self, runs: Iterable[str]) -> dict[str, list[str]]:
        """Return the names of the steps that were executed in each of these runs, in notebook order."""
        return self.context.history.executions.tried_in(list(runs))

    def execution(self, run: str, step: str) -> ExecutionRecord | None:
        """Return a step's current execution in a run; None if the run does not have it, or has not begun."""
        found = self.context.history.executions.of_step(run, step)
        return None if found is None else self.context.layout.located(found)

    def attempts(self, run: str, step: str) -> list[AttemptRecord]:
        """Return the attempts of a step's current execution in a run, first to last."""
        execution = self.context.history.executions.of_step(run, step)
        return [] if execution is None else self.context.history.attempts.of_execution(execution.id)

    def metrics(self, run: str, executions: Iterable[ExecutionRecord] | None = None) -> list[Metric]:
        """Return the numbers that a run's steps logged, in order; of a reused step, those of the attempt it is from.

        Of a step with several attempts they are those of its newest attempt, and after them those whose names only
        earlier attempts logged, marked as theirs.
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
        found: list[Metric] = []
        for execution in recorded:
            if execution.origin:
                found += _of_step(execution, logged.get(execution.origin.attempt, []))
            else:
                found += _of_step(execution, _newest_metrics(attempts.get(execution.id, []), logged))
        return found

    def numbers(self, runs: Iterable[str]) -> dict[str, int]:
        """Return the numbers of runs by their ids."""
        return self.context.history.runs.numbers(list(runs))

    def origin_numbers(self, executions: Iterable[ExecutionRecord]) -> dict[str, int]:
        """Return the numbers of the runs whose results these executions reused."""
        return self.numbers(execution.origin.run for execution in executions if execution.origin)

    def require_step(self, notebook: str, step: str) -> tuple[RunRecord, ExecutionRecord]:
        """Return a step's execution in the newest run of a notebook; raise BadUsage when it has none."""
        run, executions = self.last(notebook)
        found = next((execution for execution in executions if execution.step == step), None)
        if found is None:
            names = [execution.step for execution in executions]
            raise BadUsage(f"there is no step `{step}` in run {run.number}", nearest(step, names))
        return run, found

    def _located(self, run: RunRecord) -> tuple[RunRecord, list[ExecutionRecord]]:
        layout = self.context.layout
        executions = self.context.history.executions.of_run(run.id)
        return layout.located_run(run), [layout.located(execution) for execution in executions]

    def _begin(self, request: PipelineRequest, pinned: PinnedPlan, options: RunOptions) -> RunRecord:
        now = self.context.clock()
        run = options.run or new_run_id(now)
        return self.context.history.runs.begin(
            run=run, pipeline=pinned.pipeline, experiment=options.experiment or Path(request.notebook).stem,
            parameters=pinned.situation.values, tags=options.tags, git=git_state(request.base), owner=this_owner(run),
            now=now,
        )  # fmt: skip

    def _driver(
        self, run: RunRecord, request: PipelineRequest, pinned: PinnedPlan, options: RunOptions, executors: Executors
    ) -> Driver:
        return Driver(
            run=run,
            history=self.context.history,
            archive=ResultArchiveWriter(self.context.layout, pinned.pipeline, request.base),
            executors=executors,
            clock=self.context.clock,
            new_id=lambda: secrets.token_hex(8),
            state=RunState(run.id, options.keep_going, options.attach),
            attach=options.attach,
        )


@dataclass(frozen=True, slots=True)
class _Increments:
    """Makes increments of one run out of requests."""

    runs: Runs
    record: RunRecord
    driver: Driver
    options: RunOptions

    def make(
        self, request: PipelineRequest, name: str, gesture: int, environ: Mapping[str, str] | None
    ) -> RunIncrement:
        return self.of(request, self.runs.plans.pin(request, environ), name, gesture, environ)

    def of(
        self,
        request: PipelineRequest,
        pinned: PinnedPlan,
        name: str,
        gesture: int,
        environ: Mapping[str, str] | None = None,
    ) -> RunIncrement:
        situation = pinned.situation
        asked = frozenset(request.steps) or situation.selected
        jobs = self._jobs(situation, environ or self.runs.context.environ)
        return RunIncrement(pinned.planner, jobs, situation.selected, asked, name, gesture)

    def _jobs(self, situation: ResolvedRequest, environ: Mapping[str, str]) -> AttemptJobFactory:
        context, record = self.runs.context, self.record
        date = time.strftime("%Y-%m-%d", time.localtime(record.started))
        code = situation.graph.pipeline.code
        steps = [step for step in situation.graph.pipeline.steps if step.name in situation.selected]
        imports = tuple(dict.fromkeys(name for step in steps for name in code[step.name].imports))
        return AttemptJobFactory(
            record.id,
            date,
            context.layout,
            situation,
            context.digests,
            context.materializer,
            environ,
            record.experiment,
            imports,
        )


def _newest_metrics(attempts: Sequence[AttemptRecord], logged: Mapping[str, list[Metric]]) -> list[Metric]:
    """Return the metrics of the last of some attempts, then of each earlier one those that no later one has logged."""
    found: list[Metric] = []
    names: set[str] = set()
    for attempt in reversed(attempts):
        fresh = [metric for metric in logged.get(attempt.id, ()) if metric.name not in names]
        names |= {metric.name for metric in fresh}
        earlier = attempt.number if attempt is not attempts[-1] else None
        found += [dataclasses.replace(metric, earlier_attempt=earlier) for metric in fresh] if earlier else fresh
    return found


def _of_step(execution: ExecutionRecord, metrics: Iterable[Metric]) -> list[Metric]:
    """Return metrics as those of an execution, which may have reused the result of another run."""
    owner = execution.run, execution.step
    return [
        metric
        if (metric.run, metric.step) == owner
        else dataclasses.replace(metric, run=execution.run, step=execution.step)
        for metric in metrics
    ]


def _own_executor(made: list[Executor]) -> Executor:
    executor = executor_of(default_target())
    made.append(executor)
    return executor
