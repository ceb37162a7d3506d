"""The output of ``plan`` in a shell."""

from __future__ import annotations

from nbpipe.cli.shell_caller import ShellCaller
from nbpipe.compute.targets import default_target
from nbpipe.verbs.plan_calls import PlanResponse
from nbpipe.views import json_output, text_tables


def render_plan(caller: ShellCaller, response: PlanResponse) -> int:
    """Print a plan, and return the exit code."""
    screen, planned = caller.screen, response.planned
    screen.warnings(planned.warnings)
    verdicts = {name: decision.verdict for name, decision in planned.decisions.items()}
    if screen.as_json:
        screen.json(
            json_output.plan_object(planned.notebook, verdicts, planned.needs, planned.warnings, default_target().name)
        )
    else:
        rows = [text_tables.PlanRow(name, verdict, planned.needs[name]) for name, verdict in verdicts.items()]
        screen.lines(text_tables.plan_lines(rows, screen.columns, response.numbers))
    return 0
