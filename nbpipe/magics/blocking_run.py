"""A run that a cell waits for, because no front end shows its card."""

from __future__ import annotations

from nbpipe.errors import NbpipeError, StepFailed
from nbpipe.magics.display import RunTableDisplay
from nbpipe.magics.kernel_session import KernelSession
from nbpipe.model import FailureKind, Status
from nbpipe.resolve.resolved_request import PipelineRequest
from nbpipe.run.reports import RunReport
from nbpipe.run.submission import RunOptions


def run_and_wait(session: KernelSession, request: PipelineRequest, run_options: RunOptions) -> None:
    """Carry out a run of its own while the cell waits; raise StepFailed if it does not succeed."""
    progress = RunTableDisplay(session)
    report = session.run(request, run_options, progress.updated, progress.begin)
    progress.end(report)
    raise_failure(session, report)


def raise_failure(session: KernelSession, report: RunReport) -> None:
    """Raise StepFailed, and unbind what was not produced, if a run did not succeed."""
    if report.run.status is not Status.SUCCEEDED:
        session.unbind(report)
        raise _ending(report)


def _ending(report: RunReport) -> NbpipeError:
    """Return the error for a run that did not succeed: the first step that failed, in notebook order."""
    failed = next((step for step in report.steps if step.failure is not None), None)
    if failed is None or failed.failure is None:
        return StepFailed(f"the run was {report.run.status.value}", "Run the cell again to continue.")
    failure = failed.failure
    where = f"cell {failure.cell}, line {failure.line}: " if failure.cell and failure.line else ""
    error = StepFailed(f"step {failed.step} failed: {where}{failure.message}")
    if failure.kind == FailureKind.USER:
        error.add_note(failure.traceback)
    return error
