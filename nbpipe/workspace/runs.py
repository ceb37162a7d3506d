"""The recorded runs of a workspace: queries, and requests to cancel active ones."""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from nbpipe.errors import BadUsage, ClusterOutOfReach
from nbpipe.history.runs import RunFilter
from nbpipe.language.source_text import nearest
from nbpipe.model import AttemptRecord, ExecutionRecord, Metric, RunRecord
from nbpipe.workspace.catalog import Catalog
from nbpipe.workspace.context import WorkspaceContext

CANCEL_SECONDS = 30.0
_PAUSE = 0.1


@dataclass(slots=True)
class Runs:
    """The runs of one workspace."""

    context: WorkspaceContext
    catalog: Catalog

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

    def live(self, notebook: str) -> list[RunRecord]:
        """Return the active runs of a notebook, oldest first."""
        self.context.recover()
        runs = self.context.history.runs.live(self.catalog.pipeline(notebook).pipeline.id)
        return [self.context.layout.located_run(run) for run in runs]

    def newest(self, notebook: str) -> tuple[RunRecord, list[ExecutionRecord]] | None:
        """Return the newest run of a notebook, if there is one."""
        run = self.context.history.runs.last(self.catalog.pipeline(notebook).pipeline.id)
        return None if run is None else self.located(run)

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
        return self.located(run)

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

    def located(self, run: RunRecord) -> tuple[RunRecord, list[ExecutionRecord]]:
        """Return a run with its executions, their paths in this workspace's present place."""
        layout = self.context.layout
        executions = self.context.history.executions.of_run(run.id)
        return layout.located_run(run), [layout.located(execution) for execution in executions]


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
