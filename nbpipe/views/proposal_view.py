"""A proposed pipeline: its steps as a table, the changes of the cells as a diff, its graph."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from difflib import unified_diff
from typing import Any

from nbpipe.model import Cell
from nbpipe.model.proposals import CellEdits, ComparisonResult, PipelineComparison, Proposal, ProposedStep
from nbpipe.views.dag_layout import layout
from nbpipe.views.graph_svg import alt_text, data_uri, still_svg
from nbpipe.views.html import Html, element
from nbpipe.views.html_tables import lines_html, table_html
from nbpipe.views.json_output import warning_object
from nbpipe.views.terminal_text import fit, harmless, one_line
from nbpipe.views.text_tables import Row, lines
from nbpipe.views.wording import duration

HEADER: Row = ("step", "cells", "needs", "inputs", "outputs", "took")
_GRAPH_STEPS = 60


def step_table(steps: Sequence[ProposedStep], columns: int) -> list[str]:
    """Return the steps as plain lines."""
    return lines(HEADER, _rows(steps), columns)


def summary(proposal: Proposal, cells: int) -> str:
    """Return one line about the size of a proposal."""
    if not proposal.steps:
        reason = "" if proposal.notes else ": its cells only import, define, display or build values from constants"
        return f"no steps are proposed; the notebook is left as it is{reason}"
    taken = sum(len(step.cells) for step in proposal.steps)
    moved = len(proposal.edits.above)
    counts = f"{_counted(len(proposal.steps), 'step')} from {taken} of {_counted(cells, 'code cell')}"
    return counts + (f", {_counted(moved, 'new cell')} with definitions" if moved else "")


def diff_lines(cells: Sequence[Cell], edits: CellEdits, columns: int) -> list[str]:
    """Return the changes of the cells, each under the cell's number."""
    return [fit(harmless(line.expandtabs(4)), columns) for line in _diff(cells, edits)]


def _diff(cells: Sequence[Cell], edits: CellEdits) -> Iterator[str]:
    for cell in cells:
        above, fresh = edits.above.get(cell.number), edits.sources.get(cell.number)
        if above is not None:
            yield f"@@ new cell above cell {cell.number} @@"
            yield from (f"+{line}" for line in above.splitlines())
        if fresh is not None and fresh != cell.source:
            yield f"@@ cell {cell.number} @@"
            changed = unified_diff(cell.source.splitlines(), fresh.splitlines(), lineterm="", n=1)
            yield from (line for line in changed if not line.startswith(("---", "+++", "@@")))


def proposal_html(proposal: Proposal, diff: Sequence[str], caption: str) -> Html:
    """Return a proposal as HTML: the graph, the table, the diff."""
    steps = proposal.steps
    parts = [table_html(HEADER, _rows(steps), caption)] if steps else [Html.line(caption)]
    if 0 < len(steps) <= _GRAPH_STEPS:
        names = [step.name for step in steps]
        labels = {step.name: _cell_words(step) for step in steps}
        svg = still_svg(layout(names, {step.name: step.needs for step in steps}), {}, labels)
        alt = f"graph of the steps: {alt_text(names, labels)}"
        parts.insert(0, element("img", src=data_uri(svg), alt=alt, style="max-width:100%"))
    changes = element("details", element("summary", "changes of the cells"), lines_html(diff))
    return element("div", *parts, *([changes] if diff else []))


def comparison_lines(comparison: PipelineComparison) -> list[str]:
    """Return how the pipeline's outputs compare with the notebook's plain run, as plain lines."""
    told = [
        one_line(f"{value.step}.{value.output}: {value.result}" + (f" ({value.detail})" if value.detail else ""))
        for value in comparison.values
    ]
    told += [one_line(f"step {name} failed: {error}") for name, error in comparison.failed.items()]
    told += [
        one_line(f"cell {number} failed in the notebook's plain run: {error}")
        for number, error in comparison.failed_cells.items()
    ]
    if comparison.ran_again:
        told.append(f"a second run did not reuse: {', '.join(comparison.ran_again)}")
    results = [value.result for value in comparison.values]
    counts = [f"{results.count(word)} {word}" for word in ComparisonResult if word in results]
    return [*told, f"compared with the plain run: {', '.join(counts) or 'nothing'}"]


def _comparison_object(comparison: PipelineComparison) -> dict[str, Any]:
    return {
        "equal": not comparison.differs,
        "values": [
            {"step": value.step, "output": value.output, "result": value.result, "detail": value.detail}
            for value in comparison.values
        ],
        "failed": dict(comparison.failed),
        "failed_cells": [{"cell": number, "error": error} for number, error in comparison.failed_cells.items()],
        "one_sided": list(comparison.one_sided),
        "ran_again": list(comparison.ran_again),
    }


def proposal_object(
    notebook: str, proposal: Proposal, *, wrote: bool, comparison: PipelineComparison | None
) -> dict[str, Any]:
    """Return a proposal as one JSON object."""
    return {
        "notebook": notebook,
        "steps": [
            {"name": step.name, "cells": list(step.cells), "inputs": list(step.inputs), "outputs": list(step.outputs),
             "needs": list(step.needs), "seconds": step.seconds}
            for step in proposal.steps
        ],
        "cells": _cell_objects(proposal.edits.sources),
        "new_cells": _cell_objects(proposal.edits.above),
        "notes": [warning_object(note) for note in proposal.notes],
        "wrote": wrote,
        "comparison": None if comparison is None else _comparison_object(comparison),
    }  # fmt: skip


def _cell_objects(sources: Mapping[int, str]) -> list[dict[str, Any]]:
    return [{"cell": number, "source": source} for number, source in sorted(sources.items())]


def _rows(steps: Sequence[ProposedStep]) -> list[Row]:
    return [
        (
            one_line(step.name), ", ".join(map(str, step.cells)), ", ".join(step.needs), ", ".join(step.inputs),
            ", ".join(step.outputs), "" if step.seconds is None else duration(step.seconds),
        )
        for step in steps
    ]  # fmt: skip


def _cell_words(step: ProposedStep) -> str:
    return f"cell{'s' * (len(step.cells) > 1)} {', '.join(map(str, step.cells))}"


def _counted(count: int, noun: str) -> str:
    return f"{count} {noun}{'s' * (count != 1)}"
