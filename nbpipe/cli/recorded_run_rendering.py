"""The output of the verbs about recorded runs in a shell."""

from __future__ import annotations

from typing import Any

from nbpipe.cli.output_urls import output_urls
from nbpipe.cli.run_exit_code import exit_code_of
from nbpipe.cli.shell_caller import ShellCaller
from nbpipe.cli.terminal_output import TerminalOutput
from nbpipe.verbs.recorded_run_calls import CancelResponse, RecordedRunResponse, RunListResponse
from nbpipe.views import json_output, text_tables
from nbpipe.views.wording import run_duration, status_words


def render_run(caller: ShellCaller, response: RecordedRunResponse) -> int:
    """Print a recorded run, and return the exit code."""
    if caller.screen.as_json:
        caller.screen.json(_run_object(caller, response))
    else:
        _run_lines(caller.screen, response)
    return exit_code_of(response.run.status) if response.followed else 0


def render_cancelled(caller: ShellCaller, response: CancelResponse) -> int:
    """Print the runs that were cancelled, and return the exit code."""
    if not caller.screen.as_json:
        for ended in response.runs:
            _run_lines(caller.screen, ended)
        return 0
    objects = [_run_object(caller, ended) for ended in response.runs]
    caller.screen.json(objects[0] if len(objects) == 1 else {"runs": objects})
    return 0


def render_run_list(caller: ShellCaller, response: RunListResponse) -> int:
    """Print a list of runs, and return the exit code."""
    if caller.screen.as_json:
        caller.screen.json(json_output.runs_object(response.runs, response.ran))
    else:
        caller.screen.lines(text_tables.run_lines(response.runs, caller.screen.columns, response.now, response.ran))
    return 0


def _run_object(caller: ShellCaller, response: RecordedRunResponse) -> dict[str, Any]:
    return json_output.run_object(response.run, response.steps, response.seconds, output_urls(caller), response.metrics)


def _run_lines(screen: TerminalOutput, response: RecordedRunResponse) -> None:
    run = response.run
    facts = (status_words(run.status), run_duration(run, response.now), run.notebook)
    head = [f"run {run.number} ({run.id}) {', '.join(filter(None, facts))}"]
    head += [f"  {name} = {value!r}" for name, value in run.parameters.items()]
    steps = text_tables.step_lines(response.steps, screen.columns, response.numbers)
    screen.lines([*head, *steps, *text_tables.metric_lines(response.metrics, response.steps, response.numbers)])
