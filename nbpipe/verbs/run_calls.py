"""The call behind ``run``, and its responses."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from nbpipe.entry_points import load_entry_point
from nbpipe.errors import BadUsage
from nbpipe.model import ExecutionRecord, RunRecord
from nbpipe.resolve.resolved_request import PipelineRequest
from nbpipe.run.submission import RunOptions, Submission
from nbpipe.verbs import options
from nbpipe.verbs.caller import Caller
from nbpipe.verbs.syntax import Invocation

# Loaded by its name: a run in this process needs no client of the runner.
_LAUNCH = "nbpipe.workspace.run_launch:launch_run"


@dataclass(frozen=True, slots=True)
class RunRequest:
    """A run that the face carries out or submits, and shows meanwhile."""

    request: PipelineRequest
    run_options: RunOptions


@dataclass(frozen=True, slots=True)
class DetachedResponse:
    """A run that continues in the background."""

    run: RunRecord
    steps: Sequence[ExecutionRecord]


@dataclass(frozen=True, slots=True)
class InKernelRequest:
    """A step to run in the author's kernel."""

    request: PipelineRequest
    step: str


def run(invocation: Invocation, caller: Caller) -> RunRequest | DetachedResponse | InKernelRequest:
    """Return the request to run the pipeline or some of its steps, or the run that was started in the background."""
    if invocation[options.HERE]:
        return _here(invocation, caller)
    steps = (*invocation[options.STEPS], *invocation[options.TO])
    texts, start, force = invocation[options.PARAM], invocation[options.FROM], invocation[options.FORCE]
    request = caller.request(steps, texts=texts, start=start, force=force)
    run_options = RunOptions(invocation[options.KEEP_GOING], invocation[options.EXPERIMENT], invocation[options.TAG])
    if invocation[options.DETACH]:
        workspace = caller.workspace
        submission = Submission(caller.cells(), request, run_options, workspace.layout.root)
        return DetachedResponse(*load_entry_point(_LAUNCH)(workspace, submission))
    return RunRequest(request, run_options)


def _here(invocation: Invocation, caller: Caller) -> InKernelRequest:
    steps = invocation[options.STEPS]
    if len(steps) != 1:
        raise BadUsage("`--here` runs one step", "For example: %nbpipe run train --here")
    request = caller.request(steps, texts=invocation[options.PARAM])
    return InKernelRequest(request, steps[0])
