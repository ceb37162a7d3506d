"""Displays in a live kernel: progress that is updated in place, tables as HTML and text, short errors."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Sequence
from types import TracebackType
from typing import Any

from IPython.core.getipython import get_ipython
from IPython.display import display

from nbpipe.errors import NbpipeError
from nbpipe.magics.kernel_session import KernelSession
from nbpipe.magics.output_bindings import WaitMessage
from nbpipe.model import AttemptLog, ExecutionRecord, PipelineWarning, RunRecord
from nbpipe.run.reports import RunReport
from nbpipe.run.run_watcher import RunUpdate
from nbpipe.views import html_tables, log_text, text_tables
from nbpipe.views.html import Html
from nbpipe.views.terminal_text import harmless_lines
from nbpipe.views.wording import duration, status_words, warning_line

COLUMNS = 120


class PipelineError(Exception):
    """An error of nbpipe in a notebook: its message and hint, without nbpipe's own traceback."""

    def __init__(self, error: NbpipeError) -> None:
        super().__init__(harmless_lines(str(error)))
        self.error = error

    def _render_traceback_(self) -> list[str]:
        notes = getattr(self.error, "__notes__", [])
        return [harmless_lines(text) for text in (*notes, f"{self.error.code}: {self.error}") if text]


class ErrorDisplay:
    """A context manager that turns nbpipe's errors into the form shown in a notebook."""

    def __enter__(self) -> None:
        return None

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if isinstance(error, NbpipeError):
            raise PipelineError(error) from None


class RunTableDisplay:
    """The steps of a run under the cell, as one display that is updated in place.

    ``is_part`` says that they are only a part of the run, which may be given more.
    """

    def __init__(self, session: KernelSession, *, is_part: bool = False) -> None:
        self._session = session
        self._is_part = is_part
        self._records: dict[str, ExecutionRecord] = {}
        self._handle: Any = None
        self._run: RunRecord | None = None

    def begin(self, run: RunRecord, warnings: Iterable[PipelineWarning]) -> None:
        """Show warnings about the notebook; the run's steps are shown when they change."""
        self._run = run
        show_warnings(warnings)

    def updated(self, update: RunUpdate) -> None:
        """Show the steps' new states."""
        for record in update.executions:
            if record.current:
                self._records[record.step] = record
        if update.executions and _in_place():
            self._show(sorted(self._records.values(), key=lambda r: r.position), self._run)

    def end(self, report: RunReport) -> None:
        """Show the finished steps, which stay in the saved notebook."""
        numbers = self._session.workspace.runs.origin_numbers(report.steps)
        self._show(report.steps, report.run, numbers, report.seconds)

    def _show(
        self,
        steps: Sequence[ExecutionRecord],
        run: RunRecord | None,
        numbers: dict[str, int] | None = None,
        seconds: float | None = None,
    ) -> None:
        if run is None:
            return
        run_numbers = numbers or {}
        lines = text_tables.step_lines(steps, COLUMNS, run_numbers)
        if seconds is not None:
            ended = f"{status_words(run.status)} in {duration(seconds)}"
            lines.append(f"{ended}, as part of run {run.number}" if self._is_part else f"run {run.number} {ended}")
            lines += text_tables.note_lines(steps)
        bundle = _bundle(lines, html_tables.run_html(run, steps, run_numbers))
        if self._handle is None:
            self._handle = display(bundle, raw=True, display_id=True)  # type: ignore[no-untyped-call]
        elif _in_place():
            self._handle.update(bundle, raw=True)
        else:
            display(bundle, raw=True)  # type: ignore[no-untyped-call]


def hint() -> WaitMessage:
    """Return the message under a running cell about the output that it waits for."""

    def show(line: str, handle: Any) -> Any:
        bundle = {"text/plain": line}
        if handle is None:
            return display(bundle, raw=True, display_id=True)  # type: ignore[no-untyped-call]
        handle.update(bundle, raw=True)
        return handle

    return WaitMessage(show)


def show_lines(lines: Sequence[str]) -> None:
    """Show plain lines."""
    if lines:
        text = harmless_lines("\n".join(lines))
        display({"text/plain": text}, raw=True)  # type: ignore[no-untyped-call]


def write_lines(lines: Sequence[str]) -> None:
    """Write plain lines to standard output at once."""
    if lines:
        sys.stdout.write(harmless_lines("\n".join(lines)) + "\n")
        sys.stdout.flush()


def show_warnings(warnings: Iterable[PipelineWarning]) -> None:
    """Show warnings about the notebook."""
    show_lines([f"warning: {warning_line(warning)}" for warning in warnings])


def show_table(lines: Sequence[str], html: Html) -> None:
    """Show the same table as text and as HTML."""
    display(_bundle(lines, html), raw=True)  # type: ignore[no-untyped-call]


def show_outputs(log: AttemptLog) -> None:
    """Show again, under the step's own cell, what its code printed and displayed in its own kernel."""
    show_lines([log.problem] if log.problem else [])
    for output in log_text.shown(log.notebook_json):
        if output["output_type"] == "stream":
            stream = sys.stderr if output.get("name") == "stderr" else sys.stdout
            stream.write(log_text.joined(output.get("text", "")))
        else:
            data = {kind: log_text.joined(value) for kind, value in output.get("data", {}).items()}
            display(data, raw=True, metadata=output.get("metadata") or {})  # type: ignore[no-untyped-call]


def show_log(log: AttemptLog, whose: str) -> None:
    """Show the output of a step, or its output so far, below a line that says ``whose`` it is."""
    nothing = "the step has printed nothing yet" if log.executed_notebook is None else "the step printed nothing"
    show_lines([*([whose] if whose else []), log_text.text_of_log(log) or nothing])


def _bundle(lines: Sequence[str], html: Html) -> dict[str, str]:
    return {"text/plain": "\n".join(lines), "text/html": html.text}


def _in_place() -> bool:
    """Return whether a display can be updated, as in a kernel; on a terminal each display is new text."""
    return hasattr(get_ipython(), "kernel")
