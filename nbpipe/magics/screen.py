"""What a live kernel shows: progress that is kept up to date in place, tables as HTML and text, errors in few lines."""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType
from typing import Any

from IPython.core.getipython import get_ipython
from IPython.display import display

from nbpipe.errors import NbpipeError
from nbpipe.magics.outputs import Hint
from nbpipe.magics.session import Session
from nbpipe.model import RunRecord, StepEvent, StepRecord
from nbpipe.run.acceptance import Accepted
from nbpipe.run.answers import Explained, Planned, Report
from nbpipe.run.verification import Verified
from nbpipe.views import logs, static_html, table, why
from nbpipe.views.comparison import Side, comparison_html, comparison_lines
from nbpipe.views.words import accepted_line, duration, status_words
from nbpipe.workspace import Workspace

_COLUMNS = 120


class PipelineError(Exception):
    """An error of nbpipe as a notebook shows it: its sentence and what to do, without our call stack."""

    def __init__(self, error: NbpipeError) -> None:
        super().__init__(str(error))
        self.error = error

    def _render_traceback_(self) -> list[str]:
        notes = getattr(self.error, "__notes__", [])
        return [*(note for note in notes if note), f"{self.error.code}: {self.error}"]


class Failing:
    """Turns errors of ours into what a notebook shows."""

    def __enter__(self) -> None:
        return None

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if isinstance(error, NbpipeError):
            raise PipelineError(error) from None


class Progress:
    """The steps of a run under the cell, one display that is updated in place."""

    def __init__(self, session: Session) -> None:
        self._session = session
        self._records: dict[str, StepRecord] = {}
        self._handle: Any = None
        self._run: RunRecord | None = None

    def begin(self, run: RunRecord, planned: Planned) -> None:
        """Show advice on the notebook; the run's steps come as they change."""
        self._run = run
        show_lines([f"warning: {w.place.words()}: {w.message}. {w.hint}" for w in planned.warnings])

    def step(self, record: StepRecord) -> None:
        """Show a step's new state."""
        self._records[record.step] = record
        if _in_place():
            self._show(sorted(self._records.values(), key=lambda r: r.position), self._run)

    def end(self, report: Report) -> None:
        """Show how the run ended; this stays in the saved notebook."""
        numbers = self._session.workspace.origin_numbers(report.steps)
        self._show(report.steps, report.run, numbers, report.seconds)

    def _show(
        self,
        steps: Sequence[StepRecord],
        run: RunRecord | None,
        numbers: dict[str, int] | None = None,
        seconds: float | None = None,
    ) -> None:
        if run is None:
            return
        known = numbers or {}
        lines = table.step_lines(steps, _COLUMNS, known)
        if seconds is not None:
            lines.append(f"run {run.number} {status_words(run.status)} in {duration(seconds)}")
            lines += table.note_lines(steps)
        bundle = _bundle(lines, static_html.run_html(run, steps, known))
        if self._handle is None:
            self._handle = display(bundle, raw=True, display_id=True)  # type: ignore[no-untyped-call]
        elif _in_place():
            self._handle.update(bundle, raw=True)
        else:
            display(bundle, raw=True)  # type: ignore[no-untyped-call]


def hint() -> Hint:
    """Get what tells the reader of the running cell what it waits for."""

    def show(line: str, handle: Any) -> Any:
        bundle = {"text/plain": line}
        if handle is None:
            return display(bundle, raw=True, display_id=True)  # type: ignore[no-untyped-call]
        handle.update(bundle, raw=True)
        return handle

    return Hint(show)


def show_lines(lines: Sequence[str]) -> None:
    """Show plain lines."""
    if lines:
        text = "\n".join(lines)
        display({"text/plain": text}, raw=True)  # type: ignore[no-untyped-call]


def show_plan(workspace: Workspace, planned: Planned) -> None:
    """Show a plan as a table."""
    rows = [table.PlanRow(name, item.verdict, planned.needs[name]) for name, item in planned.decisions.items()]
    hits = [getattr(item.verdict, "hit", None) for item in planned.decisions.values()]
    numbers = workspace.numbers(hit.origin.run for hit in hits if hit)
    show_lines([f"warning: {w.place.words()}: {w.message}. {w.hint}" for w in planned.warnings])
    _show(table.plan_lines(rows, _COLUMNS, numbers), static_html.plan_html(rows, numbers))


def show_steps(workspace: Workspace, run: RunRecord, steps: Sequence[StepRecord]) -> None:
    """Show a run as a table."""
    numbers = workspace.origin_numbers(steps)
    head = f"run {run.number} {status_words(run.status)}"
    _show([head, *table.step_lines(steps, _COLUMNS, numbers)], static_html.run_html(run, steps, numbers))


def show_runs(workspace: Workspace, runs: Sequence[RunRecord]) -> None:
    """Show runs as a table."""
    now = workspace.clock()
    _show(table.run_lines(runs, _COLUMNS, now), static_html.runs_html(runs, now))


def show_why(workspace: Workspace, told: Explained) -> None:
    """Show why a step runs or is reused."""
    numbers = workspace.numbers(told.runs)
    parts = (told.step, told.verdict, told.now, told.before, told.last)
    _show(why.why_lines(*parts, numbers=numbers), why.why_html(*parts, numbers=numbers))


def show_accepted(workspace: Workspace, accepted: Accepted) -> None:
    """Show which result stands from now on."""
    numbers = workspace.numbers([accepted.hit.origin.run])
    show_lines([accepted_line(accepted.step, accepted.hit, accepted.reasons, numbers)])


def show_comparison(left: Side, right: Side) -> None:
    """Show two runs side by side."""
    _show(comparison_lines(left, right, _COLUMNS), comparison_html(left, right))


def show_verified(verified: Verified) -> None:
    """Show what a look at all stored outputs has found."""
    problems = [(problem.where, problem.said) for problem in verified.problems]
    counts = (verified.outputs, verified.bytes, verified.unknown)
    show_lines(table.verified_lines(problems, *counts, repaired=verified.repaired))


def show_outputs(executed: Path) -> None:
    """Show again, under the step's own cell, what its code printed and displayed in its own kernel."""
    try:
        notebook = json.loads(executed.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return
    for output in logs.shown(notebook):
        if output["output_type"] == "stream":
            stream = sys.stderr if output.get("name") == "stderr" else sys.stdout
            stream.write(logs.joined(output.get("text", "")))
        else:
            data = {kind: logs.joined(value) for kind, value in output.get("data", {}).items()}
            display(data, raw=True, metadata=output.get("metadata") or {})  # type: ignore[no-untyped-call]


def show_log(found: Path | list[StepEvent]) -> None:
    """Show what a step printed: from its executed notebook, or what it has told so far."""
    if isinstance(found, Path):
        text = logs.text_of(json.loads(found.read_text(encoding="utf-8"))) or "the step printed nothing"
    else:
        text = logs.text_of_events(found) or "the step has printed nothing yet"
    show_lines([text])


def _show(lines: Sequence[str], html: str) -> None:
    display(_bundle(lines, html), raw=True)  # type: ignore[no-untyped-call]


def _bundle(lines: Sequence[str], html: str) -> dict[str, str]:
    return {"text/plain": "\n".join(lines), "text/html": html}


def _in_place() -> bool:
    """Say whether a display can be updated: in a kernel it can, on a terminal each one is new text."""
    return hasattr(get_ipython(), "kernel")
