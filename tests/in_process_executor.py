"""Attempts without kernels: a job's own cells, executed in this process, its outputs published into the real store."""

from __future__ import annotations

import importlib.abc
import importlib.util
import json
import os
import sys
import time
import traceback
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from importlib.machinery import ModuleSpec
from pathlib import Path
from types import ModuleType
from typing import Any

from nbpipe.compute.report_queue import ReportQueue
from nbpipe.data import formats
from nbpipe.data.artifacts import publish
from nbpipe.data.datastores import LocalStore
from nbpipe.data.materializer import with_paths
from nbpipe.data.stores.worker_stores import stores_of
from nbpipe.model import (
    Artifact,
    AttemptEnded,
    AttemptReport,
    AttemptStarted,
    Failure,
    FailureKind,
    FrozenModule,
    Job,
    JobOutput,
    Outcome,
    Status,
)
from nbpipe.model.compute import ComputeTarget


class Stepside:
    """What the cells of a one-step notebook call: inputs are read, outputs staged, as in a kernel."""

    def __init__(self, job: Job) -> None:
        self.job = job
        self.staging = Path(job.directory) / "staging"
        self.staged: dict[str, tuple[Path, str]] = {}
        for output in job.outputs:
            (self.staging / output.name).mkdir(parents=True)

    def load(self, name: str) -> Any:
        """Get an input as the cell sees it."""
        item = next(item for item in self.job.inputs if item.name == name)
        paths = [Path(path) for path in item.paths]
        read = [formats.load(path, item.format) for path in paths] if item.format else paths
        return read if item.kind.is_list else read[0]

    def path(self, name: str) -> Path:
        """Get the path that the cell writes an output to."""
        output = next(output for output in self.job.outputs if output.name == name)
        path = (
            self.staging / name / formats.basename(name, (output.format or "").removeprefix("file").replace("dir", ""))
        )
        if output.format == "dir":
            path.mkdir()
        return path

    def save(self, namespace: Mapping[str, Any]) -> None:
        """Stage all outputs."""
        for output in self.job.outputs:
            if output.format and formats.is_path(output.format):
                self.staged[output.name] = self._written(output)
            else:
                saved = formats.save(
                    namespace[output.name], name=output.name, format=output.format, folder=self.staging / output.name
                )
                self.staged[output.name] = (self.staging / output.name / saved.basename, saved.format)

    def _written(self, output: JobOutput) -> tuple[Path, str]:
        (path,) = (self.staging / output.name).iterdir()
        return path, output.format or ""


class Frozen(importlib.abc.MetaPathFinder, importlib.abc.Loader):
    """Serves a job's modules as they were at submit."""

    def __init__(self, modules: tuple[FrozenModule, ...]) -> None:
        self.modules = {module.name: module for module in modules}

    def find_spec(self, fullname: str, path: Any = None, target: Any = None) -> ModuleSpec | None:
        """Get the spec of one of the job's modules."""
        found = self.modules.get(fullname)
        return importlib.util.spec_from_loader(fullname, self, is_package=found.is_package) if found else None

    def exec_module(self, module: ModuleType) -> None:
        """Execute a module's frozen source."""
        found = self.modules[module.__name__]
        exec(compile(found.source, found.path, "exec"), module.__dict__)  # noqa: S102  # it is what a loader does


class InProcess:
    """Carries out each attempt while it is submitted, in the thread of whoever submits it."""

    def __init__(self) -> None:
        self.jobs: list[Job] = []
        self._reports = ReportQueue()

    def slots_on(self, target: ComputeTarget) -> int:
        """Get how many attempts run at the same time."""
        return 1

    def submit(self, job: Job) -> None:
        """Carry out an attempt."""
        self.jobs.append(job)
        self._reports.expect(job.attempt)
        self._reports.put(AttemptStarted(job.attempt, time.time()))
        self._reports.put(AttemptEnded(carry_out(job)))

    def wait(self, timeout: float) -> list[AttemptReport]:
        """Get what attempts report."""
        return self._reports.wait(timeout)

    def cancel(self, attempt: str) -> None:
        """Do nothing: whatever was submitted has ended."""

    def close(self) -> None:
        """Do nothing: nothing goes on."""


def carry_out(job: Job) -> Outcome:
    """Execute a job's cells in a fresh namespace and get how that ended."""
    begin = time.monotonic()
    job = replace(job, inputs=with_paths(job.inputs, stores_of(job)))
    stepside = Stepside(job)
    namespace: dict[str, Any] = {"__name__": "__main__", "_nbpipe": stepside}
    try:
        with _environment(job.env), _modules(job.modules):
            for cell in json.loads(job.notebook)["cells"]:
                exec(compile(cell["source"], cell["id"], "exec"), namespace)  # noqa: S102  # a kernel does the same
    except Exception as error:  # noqa: BLE001  # the author's failure is an outcome
        said = f"{type(error).__name__}: {error}"
        failure = Failure(FailureKind.USER, type(error).__name__, str(error), said, traceback=traceback.format_exc())
        return Outcome(job.attempt, job.token, Status.FAILED, time.monotonic() - begin, "", failure=failure)
    artifacts = tuple(_published(job, stepside))
    return Outcome(job.attempt, job.token, Status.SUCCEEDED, time.monotonic() - begin, "", artifacts)


def _published(job: Job, stepside: Stepside) -> Iterator[Artifact]:
    store = LocalStore(Path(job.store))
    for output in job.outputs:
        path, format = stepside.staged[output.name]
        yield publish(store, path, name=output.name, format=format)


@contextmanager
def _environment(env: Mapping[str, str]) -> Iterator[None]:
    kept = dict(os.environ)
    os.environ.clear()
    os.environ.update(env)
    try:
        yield
    finally:
        os.environ.clear()
        os.environ.update(kept)


@contextmanager
def _modules(modules: tuple[FrozenModule, ...]) -> Iterator[None]:
    finder = Frozen(modules)
    sys.meta_path.insert(0, finder)
    try:
        yield
    finally:
        sys.meta_path.remove(finder)
        for name in finder.modules:
            sys.modules.pop(name, None)
