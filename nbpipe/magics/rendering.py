"""The verbs' responses in a notebook: tables as HTML and text, outputs bound, a step's code in a new cell."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from nbpipe.errors import refuse
from nbpipe.magics.display import COLUMNS, show_lines, show_log, show_table, show_warnings
from nbpipe.magics.in_kernel_steps import bind_locals, debug, run_here
from nbpipe.magics.kernel_session import KernelSession
from nbpipe.model import ExecutionRecord, Metric, RunRecord
from nbpipe.verbs import responses as r
from nbpipe.views import html_tables, text_tables, why_report
from nbpipe.views.html import Html
from nbpipe.views.run_comparison import comparison_html, comparison_lines
from nbpipe.views.wording import accepted_line, status_words, warning_line


def render(session: KernelSession, response: r.Response) -> None:
    """Show a response under the cell that called the verb."""
    _RENDERERS[type(response)](session, response)


def _plan(_session: KernelSession, response: r.PlanResponse) -> None:
    planned, numbers = response.planned, response.numbers
    rows = text_tables.planned_rows(planned.verdicts, planned.needs, planned.refused)
    show_warnings(planned.warnings)
    show_table(text_tables.plan_lines(rows, COLUMNS, numbers), html_tables.plan_html(rows, numbers))
    refuse(planned.errors)


def _detached(_session: KernelSession, response: r.DetachedResponse) -> None:
    show_lines([f"run {response.run.number} continues in the background: %nbpipe status, %nbpipe cancel"])


def _here(session: KernelSession, response: r.HereResponse) -> None:
    show_lines(run_here(session, response.step_context))


def show_run(
    run: RunRecord, steps: Sequence[ExecutionRecord], numbers: Mapping[str, int], metrics: Sequence[Metric]
) -> None:
    """Show a recorded run as a table, with its metrics."""
    lines = [f"run {run.number} {status_words(run.status)}", *text_tables.step_lines(steps, COLUMNS, numbers)]
    metric_lines = text_tables.metric_lines(metrics)
    html = [html_tables.run_html(run, steps, numbers)]
    html += [html_tables.lines_html(metric_lines)] if metric_lines else []
    show_table([*lines, *metric_lines], Html.join(html))


def _run(_session: KernelSession, response: r.RecordedRunResponse) -> None:
    show_run(response.run, response.steps, response.numbers, response.metrics)


def _cancel(session: KernelSession, response: r.CancelResponse) -> None:
    for ended in response.runs:
        _run(session, ended)


def _why(_session: KernelSession, response: r.WhyResponse) -> None:
    explanation, numbers = response.explained, response.numbers
    parts = (explanation.step, explanation.verdict, explanation.now, explanation.before, explanation.last)
    show_table(why_report.why_lines(*parts, numbers=numbers), why_report.why_html(*parts, numbers=numbers))


def _debug(session: KernelSession, response: r.DebugResponse) -> None:
    show_lines((bind_locals if response.with_locals else debug)(session, response.step_context))


def _accept(_session: KernelSession, response: r.AcceptResponse) -> None:
    accepted = response.accepted
    show_lines([accepted_line(accepted.step, accepted.hit, accepted.reasons, response.numbers)])


def _log(_session: KernelSession, response: r.LogResponse) -> None:
    show_log(response.log)


def _pull(session: KernelSession, response: r.PullResponse) -> None:
    artifact = response.artifact
    if response.path is not None:
        path = response.path
        shown = path.relative_to(session.base) if path.is_relative_to(session.base) else path
        show_lines([f"{response.output} → {shown}"])
        return
    session.outputs.await_names([artifact.name])
    session.outputs.bind(artifact, again=True)
    show_lines([f"{artifact.name} is bound: {artifact.format}, {artifact.bytes:,} bytes"])


def _runs(_session: KernelSession, response: r.RunListResponse) -> None:
    runs, now, ran = response.runs, response.now, response.ran
    show_table(text_tables.run_lines(runs, COLUMNS, now, ran), html_tables.runs_html(runs, now, ran))


def _comparison(_session: KernelSession, response: r.ComparisonResponse) -> None:
    left, right = response.left, response.right
    show_table(comparison_lines(left, right, COLUMNS), comparison_html(left, right))


def _verification(_session: KernelSession, response: r.VerificationResponse) -> None:
    verified = response.verified
    problems = [(problem.where, problem.said) for problem in verified.problems]
    counts = (verified.outputs, verified.bytes)
    show_lines(
        text_tables.verified_lines(
            problems, *counts, unknown=verified.unknown, unreachable=verified.unreachable, repaired=verified.repaired
        )
    )


def _trust(_session: KernelSession, response: r.TrustResponse) -> None:
    accepted = response.accepted
    show_lines(text_tables.trust_lines(str(accepted.root), accepted.reasons, accepted.holds))


def _lint(session: KernelSession, response: r.LintResponse) -> None:
    if response.fixed and session.notebook is not None:
        show_lines([_changed(session.notebook, response.fixed)])
    show_lines([warning_line(warning) for warning in response.warnings] or ["no warnings"])
    refuse(response.errors)


def _format(_session: KernelSession, response: r.FormatResponse) -> None:
    for path, cells in response.notebooks:
        if not cells:
            show_lines([f"{path.name} is left unchanged"])
        elif response.checked:
            show_lines([f"cell {_numbers(cells)} of {path.name} would change"])
        else:
            show_lines([_changed(path, cells)])


def _changed(path: Path, cells: Sequence[int]) -> str:
    return f"cell {_numbers(cells)} of {path.name} changed on disk: reload it (Reload Notebook from Disk)"


def _numbers(cells: Sequence[int]) -> str:
    return ", ".join(map(str, cells))


def _defaults(_session: KernelSession, response: r.DefaultsResponse) -> None:
    settings = " ".join(f"{key}={value}" for key, value in response.values.items())
    show_lines([f"defaults: {settings or 'none'}"])


_RENDERERS: Mapping[type, Callable[[KernelSession, Any], None]] = {
    r.PlanResponse: _plan,
    r.DetachedResponse: _detached,
    r.HereResponse: _here,
    r.RecordedRunResponse: _run,
    r.CancelResponse: _cancel,
    r.WhyResponse: _why,
    r.DebugResponse: _debug,
    r.AcceptResponse: _accept,
    r.LogResponse: _log,
    r.PullResponse: _pull,
    r.RunListResponse: _runs,
    r.ComparisonResponse: _comparison,
    r.VerificationResponse: _verification,
    r.TrustResponse: _trust,
    r.LintResponse: _lint,
    r.FormatResponse: _format,
    r.DefaultsResponse: _defaults,
}
