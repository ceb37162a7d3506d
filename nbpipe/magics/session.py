"""One kernel's dealings with its workspace: declare, run, bind outputs."""

from __future__ import annotations

import atexit
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

from IPython.core.interactiveshell import InteractiveShell

from nbpipe.compute.targets import default_target, executor_of
from nbpipe.data.artifacts import local_path
from nbpipe.data.classes import share_classes
from nbpipe.data.formats import load
from nbpipe.language.reading import Reading, read_cells
from nbpipe.magics.cells import Cells, session_notebook
from nbpipe.model import Artifact, RunRecord, StepRecord
from nbpipe.run.driver import Executor
from nbpipe.run.situation import Request
from nbpipe.run.submission import Submission, Wishes
from nbpipe.run.workshop import definition_digests
from nbpipe.workspace import Planned, Report, Workspace


class Session:
    """The workspace, the cluster and the cells of one kernel; the first two are opened when first needed."""

    def __init__(self, shell: InteractiveShell) -> None:
        self.shell = shell
        self.base = Path.cwd()
        self.notebook = session_notebook(self.base)
        inputs = shell.history_manager.input_hist_raw if shell.history_manager else [""]
        terminal = not hasattr(shell, "kernel")
        # Not execution_count: IPython 9 counts on before it tells that a cell is about to run, IPython 8 afterwards.
        self.cells = Cells(inputs[1:], self.notebook, lambda: len(inputs), terminal=terminal)
        self._workspace: Workspace | None = None
        self._executor: Executor | None = None
        self._bound: dict[str, str] = {}
        atexit.register(self.close)

    @property
    def identity(self) -> str:
        """Get the notebook's name in the history; a kernel that is told none is known by its folder."""
        return str(self.notebook or self.base / "(kernel)")

    @property
    def workspace(self) -> Workspace:
        """Get the workspace nearest to the notebook."""
        if self._workspace is None:
            self._workspace = Workspace.open(self.base)
        return self._workspace

    def close(self) -> None:
        """Stop the cluster and close the workspace."""
        atexit.unregister(self.close)
        if self._executor is not None:
            self._executor.close()
            self._executor = None
        if self._workspace is not None:
            self._workspace.close()
            self._workspace = None

    def reading(self) -> Reading:
        """Get what the cells say that this kernel has run."""
        return read_cells(self.cells.all())

    def request(self, steps: Iterable[str] = (), **more: Any) -> Request:
        """Get the request for steps of this kernel's cells; errors count only where these steps need it."""
        reading = self.reading()
        named = tuple(steps)
        return Request(self.identity, reading, self.base, steps=named, whole=not named, **more)

    def run(
        self,
        request: Request,
        wishes: Wishes,
        watch: Callable[[StepRecord], None],
        began: Callable[[RunRecord, Planned], None],
    ) -> Report:
        """Run steps to their end and bind the outputs that they made or reused."""
        report = self.workspace.run(request, wishes, watch, self._executors, began)
        self.workspace.digests.flush()
        for code in request.reading.code.values():
            share_classes(self.shell.user_ns, definition_digests(code))
        for step in report.steps:
            for artifact in step.artifacts:
                self.bind(artifact)
        return report

    def launch(self, request: Request, wishes: Wishes) -> tuple[RunRecord, list[StepRecord]]:
        """Hand a run of the cells as they are to a process of its own."""
        workspace = self.workspace
        return workspace.launch(Submission(self.cells.all(), request, wishes, workspace.place.root))

    def bind(self, artifact: Artifact, *, again: bool = False) -> Any:
        """Give the notebook an output under its name: the value, or the path of a file or folder."""
        name = artifact.name
        if not again and self._bound.get(name) == artifact.uri and name in self.shell.user_ns:
            return self.shell.user_ns[name]
        path = local_path(artifact)
        value = path if artifact.is_path else load(path, artifact.format)
        self.shell.user_ns[name] = value
        self._bound[name] = artifact.uri
        return value

    def let_go(self, names: Iterable[str]) -> None:
        """Forget that these names hold outputs: something else has been bound to them."""
        for name in names:
            self._bound.pop(name, None)

    def unbind(self, report: Report) -> None:
        """Take away the names of outputs that steps failed to make."""
        made = {artifact.name for step in report.steps for artifact in step.artifacts}
        for name in [name for name in self._bound if name not in made and self._belongs(name, report)]:
            self.shell.user_ns.pop(name, None)
            del self._bound[name]

    def _belongs(self, name: str, report: Report) -> bool:
        failed = {step.step for step in report.steps if step.failure is not None}
        return any(step.output(name) for step in self.reading().steps if step.name in failed)

    def _executors(self) -> Executor:
        if self._executor is None:
            self._executor = executor_of(default_target())
        return self._executor
