"""A run that is carried out in a shell, or continues in the background."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from nbpipe.cli.output_urls import output_urls
from nbpipe.cli.run_exit_code import exit_code_of
from nbpipe.cli.run_progress import run_progress
from nbpipe.cli.shell_caller import ShellCaller
from nbpipe.model import FailureKind, Metric
from nbpipe.run.reports import RunReport
from nbpipe.verbs.run_calls import DetachedResponse, RunRequest
from nbpipe.views import json_output, text_tables
from nbpipe.views.wording import duration, status_words
from nbpipe.workspace.run_execution import execute_run


def carry_out(caller: ShellCaller, response: RunRequest) -> int:
    """Run the steps while a progress bar, or plain lines, show their progress; then print the report."""
    with caller:
        with run_progress(caller.screen) as progress:
            report = execute_run(
                caller.workspace, response.request, response.run_options, progress.updated, began=progress.begin
            )
        runs = caller.workspace.runs
        numbers, metrics = runs.origin_numbers(report.steps), runs.metrics(report.run.id, report.steps)
    return _render_report(caller, report, numbers, metrics)


def _render_report(
    caller: ShellCaller, report: RunReport, numbers: Mapping[str, int], metrics: Sequence[Metric]
) -> int:
    screen = caller.screen
    if screen.as_json:
        screen.json(json_output.run_object(report.run, report.steps, report.seconds, output_urls(caller), metrics))
        return exit_code_of(report.run.status)
    screen.lines(text_tables.step_lines(report.steps, screen.columns, numbers))
    screen.lines([f"run {report.run.number} {status_words(report.run.status)} in {duration(report.seconds)}"])
    for line in text_tables.note_lines(report.steps):
        screen.note(line)
    for step in report.steps:
        if step.failure is not None and step.failure.kind == FailureKind.USER:
            screen.note(f"\nstep {step.step}:\n{step.failure.traceback.rstrip()}")
    return exit_code_of(report.run.status)


def render_detached(caller: ShellCaller, response: DetachedResponse) -> int:
    """Print the run that continues in the background, and return the exit code."""
    run = response.run
    if caller.screen.as_json:
        caller.screen.json(json_output.run_object(run, response.steps, 0.0, output_urls(caller)))
    else:
        name = Path(run.notebook).name
        text = f"run {run.number} continues in the background: nbpipe status --follow {name}, nbpipe cancel {name}"
        caller.screen.lines([text])
    return 0
