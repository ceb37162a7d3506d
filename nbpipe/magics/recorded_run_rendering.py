"""The output of the verbs about recorded runs in a notebook."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from nbpipe.magics.display import COLUMNS, show_table
from nbpipe.magics.kernel_session import KernelSession
from nbpipe.model import ExecutionRecord, Metric, RunRecord
from nbpipe.verbs.recorded_run_calls import CancelResponse, RecordedRunResponse, RunListResponse
from nbpipe.views import html_tables, text_tables
from nbpipe.views.html import Html
from nbpipe.views.wording import status_words


def show_run(
    run: RunRecord, steps: Sequence[ExecutionRecord], numbers: Mapping[str, int], metrics: Sequence[Metric]
) -> None:
    """Show a recorded run as a table, with its metrics."""
    lines = [f"run {run.number} {status_words(run.status)}", *text_tables.step_lines(steps, COLUMNS, numbers)]
    metric_lines = text_tables.metric_lines(metrics, steps, numbers)
    html = [html_tables.run_html(run, steps, numbers)]
    html += [html_tables.lines_html(metric_lines)] if metric_lines else []
    show_table([*lines, *metric_lines], Html.join(html))


def render_run(_session: KernelSession, response: RecordedRunResponse) -> None:
    """Show a recorded run."""
    show_run(response.run, response.steps, response.numbers, response.metrics)


def render_cancelled(session: KernelSession, response: CancelResponse) -> None:
    """Show the runs that were cancelled."""
    for ended in response.runs:
        render_run(session, ended)


def render_run_list(_session: KernelSession, response: RunListResponse) -> None:
    """Show a list of runs."""
    runs, now, ran = response.runs, response.now, response.ran
    show_table(text_tables.run_lines(runs, COLUMNS, now, ran), html_tables.runs_html(runs, now, ran))
