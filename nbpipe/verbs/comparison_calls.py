"""The call behind ``compare``, and its response."""

from __future__ import annotations

from dataclasses import dataclass

from nbpipe.verbs import options
from nbpipe.verbs.caller import Caller
from nbpipe.verbs.syntax import Invocation
from nbpipe.views.run_comparison import ComparedRun


@dataclass(frozen=True, slots=True)
class ComparisonResponse:
    """Two runs for comparison."""

    left: ComparedRun
    right: ComparedRun


def compare(invocation: Invocation, caller: Caller) -> ComparisonResponse:
    """Return two runs for comparison."""
    recorded = caller.workspace.runs.recorded
    return ComparisonResponse(
        ComparedRun(*recorded(invocation[options.RUN])), ComparedRun(*recorded(invocation[options.OTHER_RUN]))
    )
