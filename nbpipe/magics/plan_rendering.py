"""The output of ``plan`` in a notebook."""

from __future__ import annotations

from nbpipe.errors import refuse
from nbpipe.magics.display import COLUMNS, show_table, show_warnings
from nbpipe.magics.kernel_session import KernelSession
from nbpipe.verbs.plan_calls import PlanResponse
from nbpipe.views import html_tables, text_tables
from nbpipe.views.dataset_tables import queries_in_words


def render_plan(_session: KernelSession, response: PlanResponse) -> None:
    """Show a plan."""
    planned, numbers = response.planned, response.numbers
    rows = text_tables.planned_rows(
        planned.verdicts, planned.needs, planned.refused, planned.datasets,
        queries=queries_in_words(planned.queries, response.now), placements=planned.placements,
    )  # fmt: skip
    show_warnings(planned.warnings)
    show_table(text_tables.plan_lines(rows, COLUMNS, numbers), html_tables.plan_html(rows, numbers))
    refuse(planned.errors)
