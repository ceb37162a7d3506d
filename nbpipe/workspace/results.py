"""The results of steps: outputs, executed notebooks and logs."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from nbpipe.data.artifacts import copy_out
from nbpipe.data.author_traceback import with_author_tracebacks
from nbpipe.data.event_file import PieceReader
from nbpipe.data.executed_notebook import read_executed
from nbpipe.data.stored_display import read_display
from nbpipe.errors import BadUsage, NbpipeError
from nbpipe.language.source_text import nearest
from nbpipe.model import Artifact, AttemptLog, ExecutionRecord
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
        """Return the output of a step's newest attempt; of a reused result, what is stored with it.

        If that is damaged or missing, the executed notebook is read, which is checked as well.
        An attempt whose worker was lost never gets an executed notebook.
        """
        run, execution = self.runs.require_step(notebook, step)
        if self._display(execution) is not None:
            again = self.shown_again(execution)
            if not again.problem:
                return again
        attempts = self.runs.attempts(run.id, step)
        if not attempts or (execution.notebook and Path(execution.notebook).is_file()):
            executed = self.executed_notebook(notebook, step)
            return AttemptLog(executed, with_author_tracebacks(self.read_executed(executed)), origin=execution.origin)
        return AttemptLog(None, {}, tuple(PieceReader(self.context.layout.path(attempts[-1].directory)).read(0)))

    def shown_again(self, execution: ExecutionRecord) -> AttemptLog:
        """Return what an ended step displayed and printed: of a reused one what is stored with its result.

        Where nothing is stored, it is read from the executed notebook. What is damaged or missing is not shown.
        """
        executed = Path(execution.notebook) if execution.notebook else None
        log = AttemptLog(executed if executed and executed.is_file() else None, {}, origin=execution.origin)
        display = self._display(execution)
        try:
            if display is not None:
                return replace(log, notebook_json=read_display(self.context.materializer, display))
            return replace(log, notebook_json=self.read_executed(executed) if executed else {})
        except NbpipeError as error:
            return replace(log, problem=error.message)
        except OSError as error:
            return replace(log, problem=f"the executed notebook cannot be read: {error.strerror or error}")

    def _display(self, execution: ExecutionRecord) -> Artifact | None:
        """Return the stored display of a result that was reused; None if there is none."""
        if execution.origin is None:
            return None
        attempt = self.context.history.attempts.get(execution.origin.attempt)
        return None if attempt is None else attempt.display

    def read_executed(self, path: str | Path) -> dict[str, Any]:
        """Return an executed notebook; raise StoreOutOfReach if it was changed after its run or is damaged."""
        return read_executed(Path(path), self.recorded_digest(Path(path)))

    def recorded_digest(self, path: Path) -> str | None:
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

    def _outputs_hint(self, notebook: str, name: str) -> str:
        newest = self.runs.newest(notebook)
        if newest is None:
            return f"Run the notebook first: nbpipe run {notebook}"
        names = [f"{each.step}.{artifact.name}" for each in newest[1] for artifact in each.artifacts]
        return nearest(name, names) or (f"Outputs: {', '.join(names[:10])}." if names else "The last run has none.")
