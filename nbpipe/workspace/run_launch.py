"""Runs of a workspace in a process of their own."""

from __future__ import annotations

import dataclasses

from nbpipe.model import ExecutionRecord, RunRecord
from nbpipe.run.runner_client import launch
from nbpipe.run.submission import Submission
from nbpipe.workspace.workspace import Workspace


def launch_run(workspace: Workspace, submission: Submission) -> tuple[RunRecord, list[ExecutionRecord]]:
    """Submit a run to a process of its own, and return it once it has begun; raise the error if it cannot begin.

    The submission's lifetime decides whether it continues when this process exits.
    """
    return workspace.runs.show(launch(dataclasses.replace(submission, environ=dict(workspace.context.environ))))
