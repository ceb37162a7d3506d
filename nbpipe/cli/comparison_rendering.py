"""The output of ``compare`` in a shell."""

from __future__ import annotations

from nbpipe.cli.shell_caller import ShellCaller
from nbpipe.verbs.comparison_calls import ComparisonResponse
from nbpipe.views.run_comparison import comparison_lines, comparison_object


def render_comparison(caller: ShellCaller, response: ComparisonResponse) -> int:
    """Print two runs side by side, and return the exit code."""
    if caller.screen.as_json:
        caller.screen.json(comparison_object(response.left, response.right))
    else:
        caller.screen.lines(comparison_lines(response.left, response.right, caller.screen.columns))
    return 0
