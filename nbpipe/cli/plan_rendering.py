"""The output of ``plan`` in a shell."""

from __future__ import annotations

from nbpipe.cli.shell_caller import ShellCaller
from nbpipe.verbs.plan_calls import PlanResponse
from nbpipe.views import json_output, text_tables
from nbpipe.views.dataset_tables import queries_in_words


def render_plan(caller: ShellCaller, response: PlanResponse) -> int:
    """Print a plan, and return the exit code."""
    screen, planned = caller.screen, response.planned
    screen.warnings(planned.warnings)
    verdicts = planned.verdicts
    if screen.as_json:
        plan = json_output.plan_object(
            planned.notebook, verdicts, planned.needs, planned.warnings, planned.placements,
            refused=planned.refused, datasets=planned.datasets, queries=planned.queries,
        )  # fmt: skip
        screen.json(plan if not planned.errors else {**plan, "errors": [error.to_json() for error in planned.errors]})
    else:
        rows = text_tables.planned_rows(
            verdicts, planned.needs, planned.refused, planned.datasets,
            queries=queries_in_words(planned.queries, response.now), placements=planned.placements,
        )  # fmt: skip
        screen.lines(text_tables.plan_lines(rows, screen.columns, response.numbers))
    return screen.errors(planned.errors)
