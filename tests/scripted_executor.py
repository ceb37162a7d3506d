"""Runs without kernels: a small real executor that publishes what tests tell it, on real history and a real store."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from sample_pipelines import cells
from stored import path_in

from nbpipe.compute import unreported_outcomes
from nbpipe.compute.report_queue import ReportQueue
from nbpipe.data.artifacts import publish
from nbpipe.data.datastores import LocalStore
from nbpipe.data.materializer import with_paths
from nbpipe.data.stores.worker_stores import stores_of
from nbpipe.language.notebook_parser import parse_cells
from nbpipe.model import (
    AttemptEnded,
    AttemptReport,
    AttemptStarted,
    ExecutionRecord,
    Failure,
    FailureKind,
    Job,
    Outcome,
    Status,
)
from nbpipe.model.compute import ComputeTarget
from nbpipe.resolve.resolved_request import PipelineRequest
from nbpipe.run.reports import PlanResult, RunReport
from nbpipe.run.submission import RunOptions
from nbpipe.workspace import Workspace
from nbpipe.workspace.run_execution import execute_run


class Fail(Exception):
    """Raised by a step's work: the attempt fails as if the author's code had raised."""


class Lose(Exception):
    """Raised by a step's work: the attempt is lost as if its worker had died."""


Work = Callable[[Job, str], str]
"""Get the text that a job's output of that name shall hold."""


def by_code(job: Job, output: str) -> str:
    """Get a content that follows from the step's code, its parameters and its inputs' bytes."""
    sources = [cell["source"] for cell in json.loads(job.notebook)["cells"]]
    inputs = with_paths(job.inputs, stores_of(job))
    read = [Path(path).read_bytes().hex() for item in inputs for path in item.paths if Path(path).is_file()]
    return hashlib.sha256(json.dumps([sources, read, output]).encode()).hexdigest()


_KERNEL_SECONDS = 5.0


class Kernelless:
    """Carries out attempts in threads: each output holds what ``work`` gives for it.

    A kernel takes longer to start than a driver to note that an attempt has begun: the work of one begins when the
    driver comes back after it has heard of its start.
    """

    def __init__(self, work: Work = by_code, slots: int = 4) -> None:
        self.work = work
        self.slots = slots
        self.jobs: list[Job] = []
        self.stopped: list[str] = []
        self._reports = ReportQueue()
        self._noted: dict[str, threading.Event] = {}
        self._heard: list[str] = []
        self._threads = ThreadPoolExecutor(slots)

    def slots_on(self, target: ComputeTarget) -> int:
        """Get how many attempts run at the same time."""
        return self.slots

    def submit(self, job: Job) -> None:
        """Start an attempt."""
        self.jobs.append(job)
        self._reports.expect(job.attempt)
        self._noted[job.attempt] = threading.Event()
        self._threads.submit(self._carry_out, job)

    def wait(self, timeout: float) -> list[AttemptReport]:
        """Get what attempts report."""
        for attempt in self._heard:
            self._noted[attempt].set()
        reports = self._reports.wait(timeout)
        self._heard = [report.attempt for report in reports if isinstance(report, AttemptStarted)]
        return reports

    def cancel(self, attempt: str) -> None:
        """Stop an attempt: its work may look at ``stopped``, its outcome is that it was cancelled."""
        self.stopped.append(attempt)

    def close(self) -> None:
        """Wait for the threads."""
        self._threads.shutdown()

    def _carry_out(self, job: Job) -> None:
        self._reports.put(AttemptStarted(job.attempt, time.time()))
        self._noted[job.attempt].wait(_KERNEL_SECONDS)
        begin = time.monotonic()
        try:
            artifacts = tuple(self._publish(job, output.name, output.format or "json") for output in job.outputs)
        except Fail as error:
            failure = Failure(FailureKind.USER, "ValueError", str(error), str(error), 1, 2)
            self._end(job, Status.FAILED, begin, failure=failure)
        except Lose as error:
            self._reports.put(AttemptEnded(unreported_outcomes.lost_outcome(job, error)))
        else:
            self._end(job, Status.SUCCEEDED, begin, artifacts=artifacts)

    def _publish(self, job: Job, name: str, format: str) -> Any:
        staged = Path(job.directory) / "staging" / (name if format == "dir" else f"{name}.{format}")
        file = staged / "part.txt" if format == "dir" else staged
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(self.work(job, name), encoding="utf-8")
        return publish(LocalStore(Path(job.store)), staged, name=name, format=format)

    def _end(self, job: Job, status: Status, begin: float, **more: Any) -> None:
        if job.attempt in self.stopped:
            self._reports.put(AttemptEnded(unreported_outcomes.cancelled_outcome(job)))
            return
        seconds = time.monotonic() - begin
        outcome = Outcome(job.attempt, job.token, status, seconds, "notebook.ipynb", **more)
        self._reports.put(AttemptEnded(outcome))


@dataclasses.dataclass
class Bench:
    """A folder with a pipeline in it, planned and run in this process without kernels."""

    folder: Path
    sources: list[str]
    parameters: str = ""
    notebook: str = "work.ipynb"
    executor: Kernelless = dataclasses.field(default_factory=Kernelless)
    report: RunReport | None = None
    seen: list[ExecutionRecord] = dataclasses.field(default_factory=list)

    def request(self, **asked: Any) -> PipelineRequest:
        """Get the request for the cells as they are."""
        reading = parse_cells(cells(*self.sources, parameters=self.parameters))
        return PipelineRequest(str(self.folder / self.notebook), reading, self.folder, **asked)

    def plan(self, **asked: Any) -> PlanResult:
        """Plan in a workspace of this folder."""
        with Workspace.open(self.folder) as workspace:
            return workspace.plans.plan(self.request(**asked))

    def run(self, run_options: RunOptions | None = None, work: Work | None = None, **asked: Any) -> list[str]:
        """Run, and get the steps that were executed, in the order in which they were submitted."""
        if work is not None:
            self.executor.work = work
        self.executor.jobs.clear()
        with Workspace.open(self.folder) as workspace:
            self.report = execute_run(
                workspace, self.request(**asked), run_options or RunOptions(),
                lambda update: self.seen.extend(update.executions), lambda: self.executor,
            )  # fmt: skip
        return [job.step for job in self.executor.jobs]

    def statuses(self) -> dict[str, str]:
        """Get how the steps of the last run ended."""
        assert self.report is not None
        return {step.step: step.status.value for step in self.report.steps}

    def ended(self) -> str:
        """Get how the last run ended."""
        assert self.report is not None
        return self.report.run.status.value

    def step(self, name: str) -> ExecutionRecord:
        """Get a step of the last run."""
        assert self.report is not None
        return next(step for step in self.report.steps if step.step == name)

    def stored(self, name: str, output: str) -> Path:
        """Get where an output of the last run lies."""
        (artifact,) = [found for found in self.step(name).artifacts if found.name == output]
        return path_in(self.folder, artifact)
