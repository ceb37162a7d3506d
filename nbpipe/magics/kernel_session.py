"""The session of a kernel with its workspace: parsing, running, submitting, binding outputs."""

from __future__ import annotations

import atexit
import threading
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

from IPython.core.interactiveshell import InteractiveShell

from nbpipe.compute.executor import Executor
from nbpipe.compute.target_executors import TargetExecutors
from nbpipe.data.notebook_classes import share_classes
from nbpipe.language.notebook_parser import parse_cells
from nbpipe.language.parsed_cell_cache import ParsedCellCache
from nbpipe.language.parsed_notebook import ParsedNotebook
from nbpipe.magics.cell_run import CellRun
from nbpipe.magics.executed_notebook import executed_notebook, is_continued_below
from nbpipe.magics.front_end_metadata import deleted_cells, names_cells
from nbpipe.magics.gestures import Gestures
from nbpipe.magics.kernel_cells import KernelCells, session_notebook
from nbpipe.magics.output_bindings import OutputBindings, WaitMessage
from nbpipe.magics.parent_process import parent_process
from nbpipe.magics.run_client import RunClient
from nbpipe.magics.run_view import RunView
from nbpipe.model import Artifact, Cell, ExecutionRecord, PipelineWarning, RunRecord
from nbpipe.resolve.resolved_request import PipelineRequest
from nbpipe.resolve.workspace_layout import find_workspace, settings_near
from nbpipe.resolve.workspace_trust import is_trusted
from nbpipe.run.job_factory import definition_digests
from nbpipe.run.reports import RunReport
from nbpipe.run.run_watcher import RunUpdate
from nbpipe.run.submission import RunOptions, Submission
from nbpipe.workspace import Workspace
from nbpipe.workspace.run_execution import ActiveRun, execute_run
from nbpipe.workspace.run_launch import launch_run

Began = Callable[[RunRecord, tuple[PipelineWarning, ...]], None]
"""Is called with a run that has begun, and the warnings about its notebook."""


class KernelSession:
    """The workspace, the cluster and the cells of a kernel; workspace and cluster are opened on first use."""

    def __init__(self, shell: InteractiveShell, hint: Callable[[], WaitMessage]) -> None:
        self.shell = shell
        self.base = Path.cwd()
        notebook = session_notebook(self.base, shell.user_ns)
        self._is_notebook_settled = notebook is not None
        inputs = shell.history_manager.input_hist_raw if shell.history_manager else [""]
        terminal = not hasattr(shell, "kernel")
        # Not execution_count: IPython 9 increments it before the pre_run_cell event, IPython 8 after it.
        self.cells = KernelCells(
            inputs[1:], notebook, lambda: len(inputs), deleted=lambda: deleted_cells(shell), terminal=terminal,
            named=names_cells(shell),
        )  # fmt: skip
        self.outputs = OutputBindings(shell.user_ns, hint, self._path_of)
        self.gestures = Gestures(self._gesture_ended)
        self.live = RunClient(
            lambda: self.workspace, lambda: self.readable, lambda: self.identity, _connection_file(shell), self.gestures
        )
        self._cell_run: CellRun | None = None
        self._workspace: Workspace | None = None
        self._readable: Workspace | None = None
        self._opening = threading.Lock()
        self._executor: Executor | None = None
        self._read = ParsedCellCache()
        self._more_settings: Mapping[str, tuple[str, ...]] = {}
        self._parsed: tuple[tuple[Cell, ...], Mapping[str, tuple[str, ...]], ParsedNotebook] | None = None
        atexit.register(self.close)

    @property
    def notebook(self) -> Path | None:
        """Return the notebook that this kernel belongs to; None if that is not certain when it is first needed."""
        self._settle_notebook()
        return self.cells.notebook

    def _settle_notebook(self) -> None:
        """Find the notebook of a kernel without a front end: not earlier than needed, since more cells tell more."""
        if self._is_notebook_settled:
            return
        self._is_notebook_settled = True
        if not names_cells(self.shell) and hasattr(self.shell, "kernel"):
            self.cells.notebook = executed_notebook(self._executed, parent_process())

    @property
    def _executed(self) -> list[str]:
        return list(self.shell.history_manager.input_hist_raw) if self.shell.history_manager else []

    @property
    def identity(self) -> str:
        """Return the notebook's name in the history; a kernel without a known notebook is named after its folder."""
        return str(self.notebook or self.base / "(kernel)")

    @property
    def workspace(self) -> Workspace:
        """Return the workspace nearest to the notebook, recreated if it was deleted; any thread may call it."""
        with self._opening:
            self._workspace = _in_place(self._workspace) or Workspace.open(self.base)
            return self._workspace

    @property
    def readable(self) -> Workspace:
        """Return the workspace for reading: it is not created; any thread may call it."""
        with self._opening:
            self._workspace = _in_place(self._workspace)
            if self._workspace is not None:
                return self._workspace
            opened = _in_place(self._readable)
            if opened is not None and not opened.is_trusted and is_trusted(opened.layout.root):
                opened.close()
                opened = None
            self._readable = opened or Workspace.read(self.base)
            return self._readable

    @property
    def has_workspace(self) -> bool:
        """Return whether there is a workspace already, and one that is trusted."""
        if self._workspace is not None:
            return True
        layout = find_workspace(self.base)
        return layout.database.exists() and is_trusted(layout.root)

    def close(self) -> None:
        """Stop the cluster and close the workspace."""
        atexit.unregister(self.close)
        self.gestures.close()
        self.live.close()
        self._finish_cell_run()
        if self._executor is not None:
            self._executor.close()
            self._executor = None
        for opened in (self._workspace, self._readable):
            if opened is not None:
                opened.close()
        self._workspace = self._readable = None

    def executed_cells(self) -> tuple[Cell, ...]:
        """Return the cells that this kernel has run, as last run, with the tags that its notebook gives them."""
        self._settle_notebook()
        return self.cells.all()

    def reading(self) -> ParsedNotebook:
        """Return the parsed cells that this kernel has run."""
        return self.parse(self.executed_cells())

    def parse(self, cells: tuple[Cell, ...]) -> ParsedNotebook:
        """Return parsed cells of this kernel; the result is cached while the cells do not change."""
        parsed, self._more_settings = self._parsed, settings_near(self.base)
        if parsed is None or parsed[:2] != (cells, self._more_settings):
            parsed = self._parsed = cells, self._more_settings, parse_cells(cells, self._more_settings, self._read)
        return parsed[2]

    def is_continued_below(self, step: str, reading: ParsedNotebook) -> bool:
        """Return whether the notebook that papermill or nbconvert executes here continues a step below this cell."""
        if names_cells(self.shell) or not hasattr(self.shell, "kernel"):
            return False
        outputs = [output.name for each in reading.steps if each.name == step for output in each.outputs]
        return is_continued_below(step, outputs, self._executed, self.base)

    def request(self, steps: Iterable[str] = (), reading: ParsedNotebook | None = None, **more: Any) -> PipelineRequest:
        """Return the request for steps of this kernel's cells; errors count only where these steps need it."""
        named = tuple(steps)
        parsed = reading or self.reading()
        return PipelineRequest(
            self.identity, parsed, self.base, steps=named, cells=self.cells.ids,
            more_settings=self._more_settings, **more,
        )  # fmt: skip

    def submit(
        self, request: PipelineRequest, cells: tuple[Cell, ...], run_options: RunOptions | None = None
    ) -> RunView:
        """Submit steps to the runner of this kernel, and expect their outputs from now on."""
        live = self.live
        view = live.submit(request, cells) if run_options is None else live.submit_alone(request, cells, run_options)
        for step in request.reading.steps:
            if step.name not in view.texts:
                continue
            is_requested = step.name in request.steps or not request.steps
            expect = self.outputs.expect if is_requested else self.outputs.expect_too
            names = [output.name for output in step.outputs]
            expect(names, step.name, view, definition_digests(request.reading.code[step.name]))
        return view

    def run_cell(self, request: PipelineRequest, watch: Callable[[RunUpdate], None], began: Began) -> RunReport:
        """Run the step of a cell to its end and bind its outputs; the cells of one gesture are one run."""
        workspace, run = self.workspace, self._cell_run
        name = run.extend(request) if run is not None and run.workspace is workspace else None
        if run is None or name is None:
            self._finish_cell_run()
            run = self._cell_run = CellRun(workspace, self._executors)
            name = run.begin(request)
        began(run.record, run.take_warnings())
        report = run.wait(name, watch)
        self._bind(request, report)
        return report

    def run(
        self,
        request: PipelineRequest,
        run_options: RunOptions,
        watch: Callable[[RunUpdate], None],
        began: Began,
    ) -> RunReport:
        """Carry out a run of its own to its end and bind its outputs."""
        self._finish_cell_run()

        def announce(active: ActiveRun) -> None:
            began(active.record, active.warnings)

        report = execute_run(self.workspace, request, run_options, watch, self._executors, began=announce)
        self._bind(request, report)
        return report

    def _bind(self, request: PipelineRequest, report: RunReport) -> None:
        self.workspace.write_digests()
        for code in request.reading.code.values():
            share_classes(self.shell.user_ns, definition_digests(code))
        for step in report.steps:
            for artifact in step.artifacts:
                self.outputs.bind(artifact, beside=step.artifacts)

    def launch(self, request: PipelineRequest, run_options: RunOptions) -> tuple[RunRecord, list[ExecutionRecord]]:
        """Submit a run of the present cells to a process of its own."""
        workspace = self.workspace
        return launch_run(workspace, Submission(self.executed_cells(), request, run_options, workspace.layout.root))

    def unbind(self, report: RunReport) -> None:
        """Unbind the names of outputs that failed steps did not produce."""
        produced = {artifact.name for step in report.steps for artifact in step.artifacts}
        failed = {step.step for step in report.steps if step.failure is not None}
        for step in self.reading().steps:
            for output in step.outputs if step.name in failed else ():
                if output.name not in produced:
                    self.outputs.unbind(output.name)

    def _gesture_ended(self) -> None:
        self.live.release()
        if self._cell_run is not None:
            self._cell_run.release()

    def _finish_cell_run(self) -> None:
        run, self._cell_run = self._cell_run, None
        if run is not None:
            run.finish()

    def _path_of(self, artifact: Artifact) -> Path:
        return self.readable.materializer.path(artifact)

    def _executors(self) -> Executor:
        if self._executor is None:
            self._executor = TargetExecutors()
        return self._executor


def _in_place(workspace: Workspace | None) -> Workspace | None:
    """Return an open workspace; close it and return None if it was deleted or replaced."""
    if workspace is None or workspace.is_in_place:
        return workspace
    workspace.close()
    return None


def _connection_file(shell: InteractiveShell) -> str:
    """Return the kernel's connection file, which exists as long as the kernel, across restarts; empty on a terminal."""
    application = getattr(getattr(shell, "kernel", None), "parent", None)
    return str(getattr(application, "abs_connection_file", ""))
