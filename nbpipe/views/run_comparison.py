"""Comparison of two runs: statuses, components of the reuse keys, outputs and metrics."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from nbpipe.model import ComponentName, ExecutionRecord, GitState, KeyComponent, Metric, Reason, RunRecord
from nbpipe.views import html_tables, json_output, text_tables
from nbpipe.views.html import Html
from nbpipe.views.listing_diff import is_listing, members_diff
from nbpipe.views.terminal_text import one_line
from nbpipe.views.text_diff import component_diff
from nbpipe.views.wording import duration, failure_line, run_duration, sentence, status_words

_ABSENT = "–"
# The earlier attempts of two metrics that both come from the newest attempt.
_OWN = (None, None)


@dataclass(frozen=True, slots=True)
class ComparedRun:
    """One of the two runs, with its steps and metrics."""

    run: RunRecord
    steps: Sequence[ExecutionRecord]
    metrics: Sequence[Metric] = ()

    def step(self, name: str) -> ExecutionRecord | None:
        """Return the step with this name, if the run has it."""
        return next((step for step in self.steps if step.step == name), None)

    @property
    def last_metrics(self) -> dict[tuple[str, str], Metric]:
        """Return the last point of each metric by its step and name."""
        return {(metric.step, metric.name): metric for metric in self.metrics}


@dataclass(frozen=True, slots=True)
class ComponentDifference:
    """A component in which two records of a step differ, with a diff of its text."""

    reason: Reason
    diff: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class StepComparison:
    """One step in both runs, None if a run does not have it; ``outputs`` are the digests in both."""

    name: str
    left: ExecutionRecord | None
    right: ExecutionRecord | None
    differences: tuple[ComponentDifference, ...]
    outputs: Mapping[str, tuple[str | None, str | None]]
    metrics: Mapping[str, tuple[Metric | None, Metric | None]]


def pairs(left: ComparedRun, right: ComparedRun) -> list[StepComparison]:
    """Return the steps of both runs, in the order of the second and then of the first."""
    names = dict.fromkeys(step.step for side in (right, left) for step in side.steps)
    return [_pair(name, left, right) for name in names]


def _pair(name: str, left: ComparedRun, right: ComparedRun) -> StepComparison:
    was, now = left.step(name), right.step(name)
    before, after = left.last_metrics, right.last_metrics
    measured = [metric for step, metric in dict.fromkeys([*before, *after]) if step == name]
    metrics = {metric: (before.get((name, metric)), after.get((name, metric))) for metric in measured}
    return StepComparison(name, was, now, _differences(was, now), _outputs(was, now), metrics)


def comparison_object(left: ComparedRun, right: ComparedRun) -> dict[str, Any]:
    """Return the comparison as JSON."""
    return {
        "runs": [_run_object(left.run), _run_object(right.run)],
        "parameters": {name: list(values) for name, values in _parameters(left.run, right.run).items()},
        "steps": [_step_object(pair) for pair in pairs(left, right)],
    }


def comparison_lines(left: ComparedRun, right: ComparedRun, columns: int) -> list[str]:
    """Return the comparison as plain lines: the runs, the steps, then a diff for each text that differs."""
    comparisons = pairs(left, right)
    return [
        *text_tables.lines(_run_header(left, right), _run_rows(left.run, right.run), columns),
        "",
        *text_tables.lines(_step_header(left, right), _step_rows(left, right, comparisons), columns),
        *_metric_lines(left, right, comparisons, columns),
        *(line for title, diff in _diffs(comparisons) for line in ("", title, *(f"  {text}" for text in diff))),
    ]


def comparison_html(left: ComparedRun, right: ComparedRun) -> Html:
    """Return the comparison as HTML tables, with a diff under them for each text that differs."""
    comparisons = pairs(left, right)
    runs = f"Run {left.run.number} and run {right.run.number}"
    parts = [
        html_tables.table_html(_run_header(left, right), _run_rows(left.run, right.run), runs),
        html_tables.table_html(_step_header(left, right), _step_rows(left, right, comparisons), "Steps"),
    ]
    if rows := _metric_rows(comparisons):
        parts.append(html_tables.table_html(_metric_header(left, right), rows, "Metrics"))
    parts += [html_tables.lines_html([title, *diff]) for title, diff in _diffs(comparisons)]
    return Html.join(parts)


def _differences(was: ExecutionRecord | None, now: ExecutionRecord | None) -> tuple[ComponentDifference, ...]:
    """Return the components that differ; none if the step was not decided in one of the runs."""
    if was is None or now is None or not was.components or not now.components:
        return ()
    before = {component.name: component for component in was.components}
    after = {component.name: component for component in now.components}
    return tuple(
        _difference(name, before.get(name), after.get(name))
        for name in dict.fromkeys([*before, *after])
        if _digest(before.get(name)) != _digest(after.get(name))
    )


def _difference(name: ComponentName, was: KeyComponent | None, now: KeyComponent | None) -> ComponentDifference:
    reason = Reason(name, was.summary if was else None, now.summary if now else None)
    if was is not None and now is not None and is_listing(was) and is_listing(now):
        return ComponentDifference(reason, members_diff(was, now))
    return ComponentDifference(reason, component_diff(was, now) if was and now else ())


def _digest(component: KeyComponent | None) -> str | None:
    return component.digest if component else None


def _outputs(was: ExecutionRecord | None, now: ExecutionRecord | None) -> dict[str, tuple[str | None, str | None]]:
    before = {artifact.name: artifact.digest for artifact in was.artifacts} if was else {}
    after = {artifact.name: artifact.digest for artifact in now.artifacts} if now else {}
    return {name: (before.get(name), after.get(name)) for name in dict.fromkeys([*before, *after])}


def _parameters(left: RunRecord, right: RunRecord) -> dict[str, tuple[Any, Any]]:
    names = dict.fromkeys([*left.parameters, *right.parameters])
    return {name: (left.parameters.get(name), right.parameters.get(name)) for name in names}


def _run_header(left: ComparedRun, right: ComparedRun) -> text_tables.Row:
    return ("", f"run {left.run.number}", f"run {right.run.number}")


def _run_rows(left: RunRecord, right: RunRecord) -> list[text_tables.Row]:
    rows = [
        ("status", status_words(left.status), status_words(right.status)),
        ("time", _took(left), _took(right)),
        ("notebook", one_line(left.notebook), one_line(right.notebook)),
        ("experiment", one_line(left.experiment), one_line(right.experiment)),
        ("commit", _commit(left.git), _commit(right.git)),
        *(
            (f"parameter {name}", one_line(repr(was)), one_line(repr(now)))
            for name, (was, now) in _parameters(left, right).items()
            if was != now or type(was) is not type(now)
        ),
    ]
    # Rows that are equal on both sides are left out.
    return [row for row in rows if row[1] != row[2] or row[0] in ("status", "time")]


def _took(run: RunRecord) -> str:
    return (run_duration(run, run.ended) if run.ended is not None else "") or _ABSENT


def _commit(git: GitState | None) -> str:
    if git is None:
        return _ABSENT
    text = f"{git.commit[:8]} ({git.branch})" if git.branch else git.commit[:8]
    return one_line(text + (" with changes" if git.dirty else ""))


def _step_header(left: ComparedRun, right: ComparedRun) -> text_tables.Row:
    return ("step", f"run {left.run.number}", f"run {right.run.number}", "what differs")


def _step_rows(left: ComparedRun, right: ComparedRun, comparisons: Iterable[StepComparison]) -> list[text_tables.Row]:
    numbers = (left.run.number, right.run.number)
    return [
        (one_line(pair.name), _ended(pair.left), _ended(pair.right), _difference_text(pair, numbers))
        for pair in comparisons
    ]


def _ended(record: ExecutionRecord | None) -> str:
    if record is None:
        return _ABSENT
    return status_words(record.status) + (f" {duration(record.seconds)}" if record.is_timed else "")


def _difference_text(pair: StepComparison, numbers: tuple[int, int]) -> str:
    if pair.left is None or pair.right is None:
        return "only in one run"
    parts = [sentence(difference.reason) for difference in pair.differences]
    parts += [
        f"run {number} failed: {failure_line(record.failure)}"
        for number, record in zip(numbers, (pair.left, pair.right), strict=True)
        if record.failure is not None
    ]
    equal = [name for name, (was, now) in pair.outputs.items() if was == now]
    other = [name for name in pair.outputs if name not in equal]
    parts += [f"outputs that differ: {', '.join(other)}"] if other else []
    parts += ["the same outputs" if not other else f"the same: {', '.join(equal)}"] if equal else []
    return one_line("; ".join(parts))


def _metric_header(left: ComparedRun, right: ComparedRun) -> text_tables.Row:
    return ("metric", f"run {left.run.number}", f"run {right.run.number}", "change")


def _metric_rows(comparisons: Iterable[StepComparison]) -> list[text_tables.Row]:
    return [
        (one_line(f"{pair.name}: {name}"), _value(was), _value(now), _change(was, now))
        for pair in comparisons
        for name, (was, now) in pair.metrics.items()
    ]


def _metric_lines(
    left: ComparedRun, right: ComparedRun, comparisons: Sequence[StepComparison], columns: int
) -> list[str]:
    rows = _metric_rows(comparisons)
    return ["", *text_tables.lines(_metric_header(left, right), rows, columns)] if rows else []


def _value(metric: Metric | None) -> str:
    if metric is None:
        return _ABSENT
    attempt = metric.earlier_attempt
    return f"{metric.value:.6g}" + ("" if attempt is None else f" (attempt {attempt})")


def _change(was: Metric | None, now: Metric | None) -> str:
    if was is None or now is None or was.value == now.value or (was.earlier_attempt, now.earlier_attempt) != _OWN:
        return ""
    return f"{now.value - was.value:+.3g}"


def _diffs(comparisons: Iterable[StepComparison]) -> list[tuple[str, tuple[str, ...]]]:
    return [
        (one_line(f"{pair.name}: {sentence(difference.reason)}"), difference.diff)
        for pair in comparisons
        for difference in pair.differences
        if difference.diff
    ]


def _run_object(run: RunRecord) -> dict[str, Any]:
    git = run.git
    return {
        "run": run.id,
        "number": run.number,
        "notebook": run.notebook,
        "experiment": run.experiment,
        "status": run.status.value,
        "seconds": None if run.ended is None else run.seconds(run.ended),
        "git": None if git is None else {"commit": git.commit, "branch": git.branch, "dirty": git.dirty},
    }


def _step_object(pair: StepComparison) -> dict[str, Any]:
    sides = (pair.left, pair.right)
    return {
        "name": pair.name,
        "status": [side.status.value if side else None for side in sides],
        "seconds": [json_output.step_seconds(side) if side else None for side in sides],
        "origin": [json_output.origin_object(side.origin) if side else None for side in sides],
        "error": [json_output.failure_object(side.failure) if side else None for side in sides],
        "differences": [
            {
                "component": difference.reason.component,
                "was": difference.reason.was,
                "now": difference.reason.now,
                "diff": list(difference.diff),
            }
            for difference in pair.differences
        ],
        "outputs": {name: {"same": was == now, "digests": [was, now]} for name, (was, now) in pair.outputs.items()},
        "metrics": {name: [_finite(was), _finite(now)] for name, (was, now) in pair.metrics.items()},
        "metric_attempts": {
            name: attempts
            for name, sides in pair.metrics.items()
            if any(attempts := list(map(_earlier_attempt, sides)))
        },
    }


def _finite(metric: Metric | None) -> float | str | None:
    """Return a metric's value for JSON; numbers that are not finite become text."""
    if metric is None:
        return None
    return metric.value if math.isfinite(metric.value) else str(metric.value)


def _earlier_attempt(metric: Metric | None) -> int | None:
    """Return the number of the earlier attempt that logged a metric; None if the newest one did."""
    return metric.earlier_attempt if metric is not None else None
