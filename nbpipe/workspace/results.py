"""The results of steps: outputs, executed notebooks, logs and recorded contexts."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from nbpipe.authoring.step_context import StepContext, recorded_step_context
from nbpipe.data.artifacts import copy_out
from nbpipe.data.event_file import PieceReader
from nbpipe.data.executed_notebook import read_executed
from nbpipe.errors import BadUsage
from nbpipe.language.source_text import nearest
from nbpipe.model import Artifact, AttemptLog
from nbpipe.workspace.catalog import Catalog
from nbpipe.workspace.context import WorkspaceContext
from nbpipe.workspace.runs import Runs


@dataclass(slots=True)
class Results:
    """The results of one workspace."""

    context: WorkspaceContext
    catalog: Catalog
    runs: Runs

    def output(self, notebook: str, name: str) -> Artifact:
        """Return the newest stored output with the name ``OUTPUT`` or ``STEP.OUTPUT``."""
        step, dot, output = name.rpartition(".")
        pipeline = self.catalog.pipeline(notebook).pipeline.id
        artifact = self.context.history.executions.find_output(pipeline, step if dot else None, output)
        if artifact is None:
            raise BadUsage(f"there is no stored output `{name}`", self._outputs_hint(notebook, name))
        return artifact

    def pull(self, notebook: str, name: str, target: Path) -> Artifact:
        """Copy a stored output to this path."""
        artifact = self.output(notebook, name)
        copy_out(self.context.materializer, artifact, target)
        return artifact

    def log(self, notebook: str, step: str) -> AttemptLog:
        """Return the output of a step's newest attempt.

        An attempt whose worker was lost never gets an executed notebook.
        """
        run, execution = self.runs.require_step(notebook, step)
        attempts = self.runs.attempts(run.id, step)
        if not attempts or (execution.notebook and Path(execution.notebook).is_file()):
            executed = self.executed_notebook(notebook, step)
            return AttemptLog(executed, self.read_executed(executed))
        return AttemptLog(None, {}, tuple(PieceReader(self.context.layout.path(attempts[-1].directory)).read(0)))

    def read_executed(self, path: str | Path) -> dict[str, Any]:
        """Return an executed notebook; raise StoreOutOfReach if it was changed after its run or is damaged."""
        return read_executed(Path(path), self._recorded_digest(Path(path)))

    def _recorded_digest(self, path: Path) -> str | None:
        """Return the recorded digest of an executed notebook, empty if its attempt recorded none."""
        attempt = self.context.history.attempts.get(path.parent.name)
        return None if attempt is None else attempt.notebook_digest

    def executed_notebook(self, notebook: str, step: str) -> Path:
        """Return the executed notebook of a step's newest attempt, or of the one that it was reused from."""
        run, execution = self.runs.require_step(notebook, step)
        status = execution.status
        if not status.terminal:
            message = f"step `{step}` has not ended in run {run.number}: it is {status.value}"
            raise BadUsage(message, "`nbpipe status --follow` waits for the run's end.")
        if execution.notebook is None:
            raise BadUsage(f"step `{step}` did not run in run {run.number}: it is {status.value}")
        executed = Path(execution.notebook)
        if not executed.is_file():
            message = f"the executed notebook of step `{step}` in run {run.number} no longer exists: {executed}"
            raise BadUsage(message, f"Run it again with --force {step}.")
        return executed

    def step_context(self, notebook: str, step: str) -> StepContext:
        """Return a step's context in the newest run that executed or reused it; raise BadUsage if there is none."""
        history, layout = self.context.history, self.context.layout
        pipeline = self.catalog.pipeline(notebook).pipeline.id
        execution = history.executions.newest_executed(pipeline, step)
        run = history.runs.get(execution.run) if execution else None
        if execution is None or run is None:
            names = [name for name in history.executions.newest(pipeline) if name != step]
            message = f"step `{step}` has not been executed in this workspace"
            raise BadUsage(message, nearest(step, names) or "`--here` runs it with its present inputs.")
        located = layout.located(execution)
        return recorded_step_context(
            layout.located_run(run), located, self._recorded_digest(Path(located.notebook or "")),
            materializer=self.context.materializer, digests=self.context.digests,
        )  # fmt: skip

    def _outputs_hint(self, notebook: str, name: str) -> str:
        newest = self.runs.newest(notebook)
        if newest is None:
            return f"Run the notebook first: nbpipe run {notebook}"
        names = [f"{each.step}.{artifact.name}" for each in newest[1] for artifact in each.artifacts]
        return nearest(name, names) or (f"Outputs: {', '.join(names[:10])}." if names else "The last run has none.")
