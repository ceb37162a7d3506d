"""Plans and runs as HTML fragments that stay readable in a saved notebook, without scripts and in any theme."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from nbpipe.model import ExecutionRecord, RunRecord
from nbpipe.views.html import Html, element
from nbpipe.views.terminal_text import harmless
from nbpipe.views.text_tables import (
    NO_STEPS,
    PLAN_HEADER,
    RUN_HEADER,
    STEP_HEADER,
    PlanRow,
    Row,
    dataset_lines,
    plan_rows,
    plan_summary,
    run_rows,
    step_rows,
    steps_summary,
    without_empty,
)
from nbpipe.views.wording import NO_NUMBERS, status_words

# Colours come from the surrounding theme: only lines and faded text, never a background.
_TABLE = "border-collapse:collapse;color:inherit;background:none;font-size:0.95em"
_CAPTION = "text-align:left;caption-side:top;padding:0.2em 0;color:inherit"
_HEAD = "text-align:left;padding:0.2em 1em 0.2em 0;border-bottom:1px solid currentColor;font-weight:600;opacity:0.75"
_LINES = "color:inherit;background:none;margin:0.2em 0 0.6em 0;white-space:pre-wrap;font-size:0.9em"
_CELL = "text-align:left;padding:0.2em 1em 0.2em 0;vertical-align:top;white-space:pre-wrap"


def plan_html(plan: Sequence[PlanRow], numbers: Mapping[str, int] = NO_NUMBERS) -> Html:
    """Return a plan as an HTML table under its summary."""
    return table_html(PLAN_HEADER, plan_rows(plan, numbers), f"Plan: {plan_summary(plan)}")


def run_html(run: RunRecord, steps: Sequence[ExecutionRecord], numbers: Mapping[str, int] = NO_NUMBERS) -> Html:
    """Return a run's steps as an HTML table under the run's status and summary, with the versions that they made."""
    caption = f"Run {run.number} {status_words(run.status)}: {steps_summary(steps)}"
    table, made = table_html(STEP_HEADER, step_rows(steps, numbers), caption), dataset_lines(steps)
    return Html.join([table, lines_html(made)]) if made else table


def runs_html(runs: Sequence[RunRecord], now: float, ran: Mapping[str, Sequence[str]] = NO_STEPS) -> Html:
    """Return runs as an HTML table, with the steps that ran."""
    return table_html(RUN_HEADER, run_rows(runs, now, ran), "Runs")


def table_html(header: Row, rows: Iterable[Row], caption: str) -> Html:
    """Return a table as HTML, without empty columns."""
    shown, *body_rows = without_empty(header, list(rows))
    head = [element("th", Html.line(cell), scope="col", style=_HEAD) for cell in shown]
    body = [element("tr", *(element("td", Html.line(cell), style=_CELL) for cell in row)) for row in body_rows]
    return element(
        "table",
        element("caption", Html.line(caption), style=_CAPTION),
        element("thead", element("tr", *head)),
        element("tbody", *body),
        style=_TABLE,
    )


def lines_html(lines: Iterable[str]) -> Html:
    """Return plain lines as preformatted HTML."""
    return element("pre", "\n".join(map(harmless, lines)), style=_LINES)
