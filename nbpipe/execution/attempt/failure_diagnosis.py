"""Determines how an attempt ended, from its notebook's execution and its files: success is proved, never assumed."""

from __future__ import annotations

import re
import signal
from collections.abc import Sequence

from nbpipe.data.author_traceback import author_place, in_author_cells, without_colours
from nbpipe.execution.attempt.attempt_directory import AttemptDirectory, StagedOutput
from nbpipe.execution.attempt.attempt_registry import ActiveAttempt, StopReason
from nbpipe.execution.attempt.notebook_engine import CellError, NotebookExecution
from nbpipe.model import Failure, FailureKind, Job

_STDIN_ERROR = "StdinNotImplementedError"
_ASSIGNED = re.compile(r"\s*(\w+)\s*=")


def failure_of(
    job: Job, attempt: ActiveAttempt, progress: NotebookExecution, directory: AttemptDirectory
) -> Failure | None:
    """Return why the attempt failed; None when every cell ran and every declared output is there."""
    if attempt.stopped is not None:
        return _stopped(job, attempt.stopped, progress)
    if progress.took:
        return _memory(job, progress, f"the step took {_amount(progress.took)}")
    if progress.oom:
        message = "memory limit: the system had no memory left, and ended the step's kernel (SIGKILL)"
        return Failure(
            FailureKind.MEMORY,
            "OutOfMemory",
            "SIGKILL",
            message,
            _cell(progress),
            None,
            without_colours(directory.log_tail()),
        )
    if progress.raised is not None:
        if job.memory and progress.raised.ename.endswith("MemoryError"):
            return _memory(job, progress, _error(progress.raised), directory.error().get("line"))
        return _raised(progress, progress.raised, directory)
    if progress.died:
        return _died(progress, directory)
    return _left_out(job, directory.saved() if progress.finished else None, _cell(progress))


def _cell(progress: NotebookExecution) -> int | None:
    """Return the author's cell that ran, else the step's first one, which has the declaration."""
    every = [cell.metadata.get("nbpipe", {}) for cell in progress.notebook.cells]
    candidates = [progress.cell_metadata, *(metadata for metadata in every if metadata.get("role") == "step")]
    return next((metadata["cell"] for metadata in candidates if isinstance(metadata.get("cell"), int)), None)


def _stopped(job: Job, reason: StopReason, progress: NotebookExecution) -> Failure:
    traceback = without_colours(progress.raised.traceback) if progress.raised else ""
    if reason is StopReason.TIMEOUT:
        message = f"the step ran longer than {job.timeout:g} s, its timeout"
        return Failure(
            FailureKind.TIMEOUT, "StepTimeout", f"{job.timeout:g} s", message, _cell(progress), None, traceback
        )
    return Failure(FailureKind.CANCELLED, "Cancelled", "", "the step was cancelled", _cell(progress), None, traceback)


def _memory(job: Job, progress: NotebookExecution, detail: str, line: int | None = None) -> Failure:
    message = f"memory limit: {detail}, and the limit for it and its child processes is {_amount(job.memory or 0)}"
    traceback = without_colours(progress.raised.traceback) if progress.raised else ""
    return Failure(FailureKind.MEMORY, "MemoryLimit", detail, message, _cell(progress), line, traceback)


def _amount(size: int) -> str:
    return f"{size / (1 << 30):,.1f} GiB" if size >= 1 << 30 else f"{size / (1 << 20):,.0f} MiB"


def _error(raised: CellError) -> str:
    return f"{raised.ename}: {one_line(raised.evalue)}".rstrip(": ")


def _raised(progress: NotebookExecution, raised: CellError, directory: AttemptDirectory) -> Failure:
    role = progress.cell_metadata.get("role")
    line = directory.error().get("line")
    source = progress.notebook.cells[progress.position or 0].source
    kind, message = _kind_and_message(raised, role, source, line)
    cell, shown = author_place(line, progress.cell_metadata) if isinstance(line, int) else (None, None)
    cells = [(cell.get("execution_count"), cell.metadata.get("nbpipe", {})) for cell in progress.notebook.cells]
    traceback = in_author_cells(without_colours(raised.traceback), cells)
    return Failure(
        kind, raised.ename, without_colours(raised.evalue), message, cell or _cell(progress), shown, traceback
    )


def _kind_and_message(raised: CellError, role: str | None, source: str, line: object) -> tuple[FailureKind, str]:
    """Return the kind of a failure and a one-line message."""
    error = _error(raised)
    if raised.ename == _STDIN_ERROR:
        return FailureKind.INPUT, "the code asked for keyboard input, which a step cannot receive: make it a parameter"
    if raised.ename == "SystemExit":
        code = one_line(raised.evalue)
        called = f"SystemExit({code})" if code else "SystemExit"
        return (
            FailureKind.USER,
            f"the cell ended with {called}: leave out exit(), quit() and sys.exit(), a step runs to its end",
        )
    if role == "inputs":
        return FailureKind.INPUT, f"input {_loaded(source, line)} could not be loaded: {error}"
    if role == "outputs":
        return FailureKind.OUTPUT, one_line(raised.evalue) or error
    if role == "setup":
        return FailureKind.KERNEL, f"the step's kernel could not be prepared: {error}"
    return FailureKind.USER, error


def _loaded(source: str, line: object) -> str:
    """Return the quoted name of the input whose line failed."""
    lines = source.splitlines()
    if isinstance(line, int) and 0 < line <= len(lines):
        match = _ASSIGNED.match(lines[line - 1])
        if match:
            return f"`{match[1]}`"
    return "data"


def _died(progress: NotebookExecution, directory: AttemptDirectory) -> Failure:
    how, message = _death(progress)
    # A kernel that was too slow to start says nothing about the step: the attempt is retried.
    kind = FailureKind.LOST if progress.exit_code is None and progress.position is None else FailureKind.KERNEL
    return Failure(kind, "KernelDied", how, message, _cell(progress), None, without_colours(directory.log_tail()))


def _death(progress: NotebookExecution) -> tuple[str, str]:
    code = progress.exit_code
    if code is None or (progress.trouble and progress.position is not None):
        return "no answer", f"the kernel is unusable: {one_line(progress.trouble)}"
    if code < 0:
        name = _signal_name(-code)
        guess = " (out of memory?)" if -code == signal.SIGKILL else ""
        return name, f"the kernel was killed by {name}{guess}"
    if progress.position is None:
        return f"exit code {code}", f"the kernel did not start: it ended with exit code {code}"
    called = "exit(), quit() or os._exit()"
    return f"exit code {code}", f"the kernel ended with exit code {code} before the step did ({called} in the code?)"


def _signal_name(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:
        return f"signal {number}"


def _left_out(job: Job, saved: Sequence[StagedOutput] | None, cell: int | None) -> Failure | None:
    """Return the failure of a step that ran, but did not produce all declared outputs."""
    if saved is None:
        message = "the step ended without saving its outputs"
        return Failure(FailureKind.OUTPUT, "OutputMissing", "", message, cell)
    there = {staged.name for staged in saved if staged.path.exists()}
    missing = [output.name for output in job.outputs if output.name not in there]
    if missing:
        names = ", ".join(f"`{name}`" for name in missing)
        return Failure(FailureKind.OUTPUT, "OutputMissing", names, f"declared but not written: {names}", cell)
    return None


def one_line(text: str) -> str:
    """Return the first line of a text that is not blank."""
    return next((line.strip() for line in without_colours(text).splitlines() if line.strip()), "")
