"""An author at work, for tests: a notebook in a folder of its own, edited and run with real kernels."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from stored import path_in

from nbpipe.compute.targets import default_target
from nbpipe.compute.thread_executor import ThreadExecutor
from nbpipe.data.formats import load
from nbpipe.model import ExecutionRecord, Status
from nbpipe.run.reports import PlanResult, RunReport
from nbpipe.run.submission import RunOptions
from nbpipe.workspace import Workspace, request_for
from nbpipe.workspace.run_execution import execute_run


def write_notebook(path: Path, cells: Iterable[str], *, parameters: int | None = None, kernel: str = "python3") -> Path:
    """Write a notebook of code cells; ``parameters`` is the place of the cell that gets papermill's tag."""
    listed = [
        {
            "cell_type": "code",
            "id": f"cell-{place}",
            "metadata": {"tags": ["parameters"] if place == parameters else []},
            "execution_count": None,
            "outputs": [],
            "source": source,
        }
        for place, source in enumerate(cells)
    ]
    spec = {"name": kernel, "display_name": kernel, "language": "python"}
    document = {"nbformat": 4, "nbformat_minor": 5, "metadata": {"kernelspec": spec}, "cells": listed}
    path.write_text(json.dumps(document), encoding="utf-8")
    return path


class Author:
    """A folder with one notebook. ``run`` gives what ran; the executor is threads of this process, kernels are real."""

    def __init__(self, folder: Path, *cells: str, parameters: int | None = None) -> None:
        self.folder = folder
        self.cells = list(cells)
        self.parameters = parameters
        self.kernel = "python3"
        self.path = folder / "work.ipynb"
        self.report: RunReport | None = None

    def write(self) -> Path:
        """Write the notebook as it is now."""
        return write_notebook(self.path, self.cells, parameters=self.parameters, kernel=self.kernel)

    def plan(self, **asked: Any) -> PlanResult:
        """Plan the notebook as it is now."""
        with Workspace.open(self.folder) as workspace:
            return workspace.plans.plan(dataclasses.replace(request_for(self.write(), workspace.layout), **asked))

    def run(self, *, run_options: RunOptions | None = None, **asked: Any) -> set[str]:
        """Run the notebook as it is now, and get the names of the steps that were executed."""
        executor = ThreadExecutor(default_target(2))
        try:
            with Workspace.open(self.folder) as workspace:
                request = dataclasses.replace(request_for(self.write(), workspace.layout), **asked)
                self.report = execute_run(workspace, request, run_options or RunOptions(), executors=lambda: executor)
        finally:
            executor.close()
        return {step.step for step in self.report.steps if step.attempts}

    def step(self, name: str) -> ExecutionRecord:
        """Get a step of the last run."""
        assert self.report is not None
        return next(step for step in self.report.steps if step.step == name)

    def statuses(self) -> dict[str, Status]:
        """Get how the steps of the last run ended."""
        assert self.report is not None
        return {step.step: step.status for step in self.report.steps}

    def value(self, name: str) -> Any:
        """Get an output of the last run, read back."""
        assert self.report is not None
        artifact = next(a for step in self.report.steps for a in step.artifacts if a.name == name)
        path = path_in(self.folder, artifact)
        return path if artifact.is_path else load(path, artifact.format)

    def reasons(self, name: str) -> set[str]:
        """Get the components that a step's last verdict names."""
        return {reason.component for reason in self.step(name).reasons}
