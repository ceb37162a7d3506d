"""Plans, steps and runs as tables: rows of text, and plain lines no wider than the terminal."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType

from nbpipe.model import (
    AttemptRecord,
    ExecutionRecord,
    Metric,
    MetricPoint,
    ReuseVerdict,
    RunRecord,
    Status,
    StepEvent,
    StepEventKind,
    Verdict,
)
from nbpipe.model.compute import Placement
from nbpipe.views.log_text import plain
from nbpipe.views.placement_words import placement_words
from nbpipe.views.terminal_text import fit, harmless, one_line, pad, width
from nbpipe.views.wording import (
    NO_NUMBERS,
    REFUSED_WORDS,
    VERDICTS,
    duration,
    explanation,
    failure_line,
    run_duration,
    run_name,
    size,
    status_words,
    step_explanation,
    verdict_words,
)

Row = tuple[str, ...]

PLAN_HEADER: Row = ("step", "verdict", "needs", "why")
STEP_HEADER: Row = ("step", "status", "time", "tries", "run", "why")
RUN_HEADER: Row = ("run", "status", "time", "started", "experiment", "notebook", "ran")

NO_DATASETS: Mapping[str, Mapping[str, str]] = MappingProxyType({})
NO_PLACEMENTS: Mapping[str, Placement] = MappingProxyType({})
NO_QUERIES: Mapping[str, str] = MappingProxyType({})
NO_STEPS: Mapping[str, Sequence[str]] = MappingProxyType({})

# A column that is not the last takes at most this share of a narrow line.
_SHARE = 3
_GAP = "  "


@dataclass(frozen=True, slots=True)
class PlanRow:
    """One step of a plan: its name, its verdict, and the steps and versions of datasets that it needs.

    Without a verdict, ``refused`` says why.
    """

    name: str
    verdict: Verdict | None
    needs: tuple[str, ...] = ()
    refused: str = ""


def planned_rows(
    verdicts: Mapping[str, Verdict],
    needs: Mapping[str, tuple[str, ...]],
    refused: Mapping[str, str],
    datasets: Mapping[str, Mapping[str, str]] = NO_DATASETS,
    *,
    queries: Mapping[str, str] = NO_QUERIES,
    placements: Mapping[str, Placement] = NO_PLACEMENTS,
) -> list[PlanRow]:
    """Return a plan's steps as rows, the refused ones with their reasons last.

    ``datasets`` are the versions that the inputs of each step are bound to, by input; ``queries`` says of which query
    a version is the result, in words. ``placements`` are where the steps run.
    """
    rows = [
        PlanRow(
            name,
            verdict,
            (
                *needs[name],
                *(_bound(each, queries) for each in dict.fromkeys(versions.values())),
                *placement_words(placements.get(name)),
            ),
        )
        for name, verdict in verdicts.items()
        for versions in [datasets.get(name, {})]
    ]
    return [*rows, *(PlanRow(name, None, (), reason) for name, reason in refused.items())]


def _bound(version: str, queries: Mapping[str, str]) -> str:
    return f"{version} ({queries[version]})" if version in queries else version


def plan_rows(plan: Iterable[PlanRow], numbers: Mapping[str, int] = NO_NUMBERS) -> list[Row]:
    """Return a plan as rows under PLAN_HEADER; ``numbers`` are run numbers by run id."""
    return [
        (
            one_line(row.name),
            verdict_words(row.verdict) if row.verdict else REFUSED_WORDS,
            one_line(", ".join(row.needs)),
            explanation(row.verdict, numbers) if row.verdict else one_line(row.refused),
        )
        for row in plan
    ]


def step_rows(steps: Iterable[ExecutionRecord], numbers: Mapping[str, int] = NO_NUMBERS) -> list[Row]:
    """Return steps as rows under STEP_HEADER; their runs are named if they are not all from one run."""
    records = list(steps)
    is_mixed = len({record.run for record in records}) > 1
    return [
        (
            one_line(step.step),
            status_words(step.status),
            duration(step.seconds) if step.is_timed else "",
            str(step.attempts) if step.attempts > 1 else "",
            run_name(step.run, numbers) if is_mixed else "",
            step_explanation(step, numbers),
        )
        for step in records
    ]


def run_rows(runs: Iterable[RunRecord], now: float, ran: Mapping[str, Sequence[str]] = NO_STEPS) -> list[Row]:
    """Return runs as rows under RUN_HEADER; ``now`` is in seconds since the epoch, ``ran`` are the steps that ran."""
    return [
        (
            str(run.number),
            status_words(run.status),
            run_duration(run, now),
            f"{duration(round(now - run.started))} ago",
            one_line(run.experiment),
            one_line(run.notebook),
            one_line(", ".join(ran.get(run.id, ()))),
        )
        for run in runs
    ]


def plan_summary(plan: Iterable[PlanRow]) -> str:
    """Return a plan in one line, e.g. ``1 run, 4 reuse (saves 12 s)``."""
    rows = list(plan)
    verdicts = [row.verdict for row in rows if row.verdict]
    refused = len(rows) - len(verdicts)
    counts = Counter(VERDICTS[type(verdict)][1] for verdict in verdicts)
    saved = sum(verdict.hit.seconds for verdict in verdicts if isinstance(verdict, ReuseVerdict))
    parts = [f"{counts[word]} {word}" for _, word in VERDICTS.values() if counts[word]]
    parts += [f"{refused} refused"] if refused else []
    return (", ".join(parts) or "no steps") + (f" (saves {duration(saved)})" if saved else "")


def steps_summary(steps: Iterable[ExecutionRecord]) -> str:
    """Return a run's steps in one line, e.g. ``2 succeeded, 3 reused (saved 12 s)``."""
    records = list(steps)
    counts = Counter(record.status for record in records)
    saved = sum(record.saved_seconds for record in records if record.status is Status.REUSED)
    parts = [f"{counts[status]} {status.value}" for status in Status if counts[status]]
    return (", ".join(parts) or "no steps") + (f" (saved {duration(saved)})" if saved else "")


def plan_lines(plan: Sequence[PlanRow], columns: int, numbers: Mapping[str, int] = NO_NUMBERS) -> list[str]:
    """Return a plan as plain lines, its summary last."""
    return [*lines(PLAN_HEADER, plan_rows(plan, numbers), columns), fit(plan_summary(plan), columns)]


def step_lines(steps: Sequence[ExecutionRecord], columns: int, numbers: Mapping[str, int] = NO_NUMBERS) -> list[str]:
    """Return a run's steps as plain lines, then the versions of datasets that they made, and a summary last."""
    made = [fit(line, columns) for line in dataset_lines(steps)]
    return [*lines(STEP_HEADER, step_rows(steps, numbers), columns), *made, fit(steps_summary(steps), columns)]


def dataset_lines(steps: Iterable[ExecutionRecord]) -> list[str]:
    """Return a line for each output that is a version of a dataset."""
    outputs = [(step.step, artifact) for step in steps for artifact in step.artifacts if artifact.dataset]
    return [one_line(f"{step}.{artifact.name} is dataset {artifact.dataset}") for step, artifact in outputs]


def verified_lines(
    problems: Sequence[tuple[str, str]], outputs: int, stored: int, *, unknown: int, unreachable: int, repaired: bool
) -> list[str]:
    """Return the result of a verification: a line for each problem (where, what), and a summary."""
    lines = [f"{one_line(where)}: {one_line(problem)}" for where, problem in problems]
    problem_count = f"{len(problems) or 'no'} problem{'' if len(problems) == 1 else 's'}"
    summary = f"{outputs} stored output{'' if outputs == 1 else 's'}, {size(stored)}: {problem_count}"
    if unknown:
        place = "restored" if repaired else "on disk that the history does not have (--repair restores them)"
        summary += f", {unknown} result{'s' if unknown > 1 else ''} {place}"
    if unreachable:
        summary += f", {unreachable} of them out of reach, left unchanged"
    invalidated = repaired and len(problems) > unreachable
    return [*lines, summary + (", repaired: damaged results are invalidated" if invalidated else "")]


def trust_lines(root: str, reasons: str, holds: str) -> list[str]:
    """Return which workspace is trusted from now on, what was to be said against it, and what it holds."""
    return [
        f"this user trusts {one_line(root)} from now on: {holds}",
        f"accepted: {one_line(reasons)}" if reasons else "it was trusted already",
    ]


def metric_lines(
    metrics: Iterable[Metric], steps: Iterable[ExecutionRecord] = (), numbers: Mapping[str, int] = NO_NUMBERS
) -> list[str]:
    """Return a line for each metric: its last value, how many there are, and the attempt that alone logged it.

    Of one with more values than are recorded the line also has the first, the lowest and the highest; for a step that
    was reused, the run that measured it.
    """
    runs = {each.step: run_name(each.origin.run, numbers) for each in steps if each.origin is not None}
    logged: dict[tuple[str, str], list[Metric]] = {}
    for metric in metrics:
        logged.setdefault((metric.step, metric.name), []).append(metric)
    return [_metric_line(each, runs.get(step)) for (step, _), each in logged.items()]


def _metric_line(metrics: Sequence[Metric], run: str | None) -> str:
    first, last = metrics[0], metrics[-1]
    count = max(last.ordinal, len(metrics))
    notes = [f"from {run}"] if run is not None else []
    notes += [f"the last of {count:,} values"] if count > 1 else []
    if count > len(metrics):
        comparable = [metric.value for metric in metrics if not math.isnan(metric.value)] or [math.nan]
        notes.append(f"of which {len(metrics):,} are recorded")
        notes.append(f"the first {first.value:g}, from {min(comparable):g} to {max(comparable):g}")
    if last.earlier_attempt is not None:
        notes.append(f"attempt {last.earlier_attempt}")
    return one_line(f"{last.step}: {last.name} = {last.value:g}" + (f" ({', '.join(notes)})" if notes else ""))


def step_line(record: ExecutionRecord, numbers: Mapping[str, int] = NO_NUMBERS) -> str:
    """Return one line about a step that has changed."""
    attempt = f" (attempt {record.attempts})" if record.attempts > 1 else ""
    took = f" in {duration(record.seconds)}" if record.status in (Status.SUCCEEDED, Status.FAILED) else ""
    why = step_explanation(record, numbers)
    return f"{status_words(record.status)} {one_line(record.step)}{attempt}{took}" + (f": {why}" if why else "")


def update_lines(
    executions: Iterable[ExecutionRecord],
    attempts: Iterable[tuple[str, AttemptRecord]],
    outputs: Iterable[tuple[str, AttemptRecord, Iterable[StepEvent]]] = (),
    numbers: Mapping[str, int] = NO_NUMBERS,
) -> list[str]:
    """Return the changes in a run as plain lines: the beginning, output and failure of each attempt, then endings.

    Attempts come with the names of their steps.
    """
    changed = {execution.id: execution for execution in executions}
    states = {execution.id: step_line(execution, numbers) for execution in changed.values() if execution.current}
    lines: dict[str, list[str]] = {}

    def lines_of(attempt: AttemptRecord) -> list[str]:
        execution = changed.get(attempt.execution)
        is_begun = execution is not None and execution.attempts == attempt.number and not execution.status.terminal
        begin = [states.pop(attempt.execution)] if is_begun and attempt.execution in states else []
        return lines.setdefault(attempt.id, begin)

    for step, attempt, events in outputs:
        lines_of(attempt).extend(line for event in events for line in event_lines(step, event))
    for step, attempt in attempts:
        lines_of(attempt).extend(_attempt_lines(step, attempt, changed.get(attempt.execution)))
    return [*(line for of_attempt in lines.values() for line in of_attempt), *states.values()]


def transfer_lines(executions: Iterable[ExecutionRecord]) -> list[str]:
    """Return how far the transfers of steps' inputs are, as plain lines."""
    return [
        one_line(f"{record.step}: {note}")
        for record in executions if record.status is Status.PREPARING for note in record.notes
    ]  # fmt: skip


def _attempt_lines(step: str, attempt: AttemptRecord, execution: ExecutionRecord | None) -> list[str]:
    """Return a line about a failed or lost attempt; the failure of the last attempt is shown with the step."""
    is_last = execution is not None and execution.status.terminal and execution.attempts == attempt.number
    if attempt.failure is None or is_last:
        return []
    head = f"{status_words(attempt.status)} {one_line(step)} (attempt {attempt.number})"
    return [f"{head} in {duration(attempt.seconds)}: {failure_line(attempt.failure)}"]


def event_lines(step: str, event: StepEvent) -> list[str]:
    """Return an event of a running step as plain lines that begin with the step's name."""
    content = event.content
    if event.kind in (StepEventKind.STREAM, StepEventKind.DISPLAY, StepEventKind.ERROR):
        return [
            f"{one_line(step)} | {harmless(line)}" for line in plain(str(content["text"])).splitlines() if line.strip()
        ]
    if event.kind is StepEventKind.METRIC:
        return _point_lines(step, content["points"])
    if event.kind is StepEventKind.PROGRESS:
        share = f" of {float(content['total']):g}" if content.get("total") else ""
        return [one_line(f"{step} | {content.get('description') or ''} {float(content['done']):g}{share}")]
    return []


def _point_lines(step: str, points: Iterable[MetricPoint]) -> list[str]:
    """Return a line for each name among some numbers, with the last of them."""
    logged: dict[str, list[MetricPoint]] = {}
    for point in points:
        logged.setdefault(point.name, []).append(point)
    lines = []
    for name, (*before, last) in logged.items():
        count = f" (the last of {last.ordinal - before[0].ordinal + 1:,} values)" if before else ""
        lines.append(one_line(f"{step} | {name} = {last.value}{count}"))
    return lines


def note_lines(steps: Iterable[ExecutionRecord]) -> list[str]:
    """Return a line for each note on an executed step."""
    executed = (step for step in steps if step.attempts)
    return [f"note on {one_line(step.step)}: {one_line(note)}" for step in executed for note in step.notes]


def run_lines(
    runs: Sequence[RunRecord], columns: int, now: float, ran: Mapping[str, Sequence[str]] = NO_STEPS
) -> list[str]:
    """Return runs as plain lines, with the steps that ran."""
    return lines(RUN_HEADER, run_rows(runs, now, ran), columns)


def lines(header: Row, rows: Sequence[Row], columns: int) -> list[str]:
    """Return a table as plain lines of at most ``columns``; longer lines are cut and end in ….

    Columns without any values are left out.
    """
    table = without_empty(header, rows)
    widths = _widths(table, columns)
    return [_line(row, widths, columns) for row in table]


def without_empty(header: Row, rows: Sequence[Row]) -> list[Row]:
    """Return header and rows without the columns in which all rows are empty."""
    shown = [place for place, _ in enumerate(header) if not rows or any(row[place] for row in rows)]
    return [tuple(row[place] for place in shown) for row in (header, *rows)]


def _widths(table: Sequence[Row], columns: int) -> list[int]:
    """Return each column's width; on a narrow line at most its share, so that the last column stays visible."""
    needed = [max(map(width, cells)) for cells in zip(*table, strict=True)]
    room = columns - len(_GAP) * (len(needed) - 1)
    if sum(needed) <= room:
        return needed
    return [*(min(cells, max(room // _SHARE, 1)) for cells in needed[:-1]), needed[-1]]


def _line(row: Row, widths: Sequence[int], columns: int) -> str:
    cells = [pad(text, room) for text, room in zip(row, widths, strict=True)]
    return fit(_GAP.join(cells).rstrip(), columns)
