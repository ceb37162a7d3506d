"""The output of the verbs about compute targets in a shell."""

from __future__ import annotations

from nbpipe.cli.shell_caller import ShellCaller
from nbpipe.verbs.compute_calls import ComputeListResponse, ComputeResponse, ComputeTestResponse
from nbpipe.views import compute_tables as tables


def render_list(caller: ShellCaller, response: ComputeListResponse) -> int:
    """Print the compute targets, and return the exit code."""
    screen = caller.screen
    if screen.as_json:
        screen.json({"targets": [tables.target_object(each) for each in response.targets]})
    else:
        screen.lines(tables.target_lines(response.targets, screen.columns))
    return 0


def render_target(caller: ShellCaller, response: ComputeResponse) -> int:
    """Print one compute target, and return the exit code."""
    screen = caller.screen
    if screen.as_json:
        screen.json(tables.target_object(response.described))
    else:
        screen.lines(tables.target_details(response.described, screen.columns))
    return 0


def render_tests(caller: ShellCaller, response: ComputeTestResponse) -> int:
    """Print whether steps can run on compute targets, and return the exit code."""
    screen, errors = caller.screen, [each.error for each in response.tests if each.error is not None]
    if screen.as_json:
        objects = [
            {
                **tables.target_object(each.described), "ok": each.error is None, "seconds": each.seconds,
                "error": each.error.to_json() if each.error else None,
            }
            for each in response.tests
        ]  # fmt: skip
        screen.json({"targets": objects})
    else:
        rows = [(each.described, each.seconds, each.error.message if each.error else "") for each in response.tests]
        screen.lines(tables.target_test_lines(rows, screen.columns))
        screen.errors(errors)
    return errors[0].exit_code if errors else 0
