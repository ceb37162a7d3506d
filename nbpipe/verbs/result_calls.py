"""The calls behind the verbs about steps' results, and their responses."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from nbpipe.model import Artifact, AttemptLog
from nbpipe.verbs import options
from nbpipe.verbs.caller import Caller
from nbpipe.verbs.syntax import Invocation


@dataclass(frozen=True, slots=True)
class LogResponse:
    """The output of a step, or its output so far; ``numbers`` are run numbers by id."""

    step: str
    log: AttemptLog
    numbers: Mapping[str, int]


@dataclass(frozen=True, slots=True)
class PullResponse:
    """A stored output, and the path to which it was copied, if any."""

    output: str
    artifact: Artifact
    path: Path | None


def logs(invocation: Invocation, caller: Caller) -> LogResponse:
    """Return the output of a step's newest execution, whatever run it is from, or its output so far."""
    step = invocation[options.STEP]
    log = caller.workspace.results.log(caller.notebook, step)
    return LogResponse(step, log, caller.workspace.runs.numbers([log.origin.run] if log.origin else ()))


def pull(invocation: Invocation, caller: Caller) -> PullResponse:
    """Copy a stored output to a path, or let the face bind it."""
    output = invocation[options.OUTPUT]
    caller.await_output(output.rpartition(".")[2])
    artifact = caller.workspace.results.output(caller.notebook, output)
    path = caller.target(artifact, invocation[options.TARGET])
    if path is None:
        caller.workspace.require_trust()
    else:
        caller.workspace.results.pull(caller.notebook, output, path)
    return PullResponse(output, artifact, path)
