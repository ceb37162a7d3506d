"""The output of the verbs about compute targets in a notebook."""

from __future__ import annotations

from nbpipe.magics.display import COLUMNS, show_lines
from nbpipe.magics.kernel_session import KernelSession
from nbpipe.verbs.compute_calls import ComputeListResponse, ComputeResponse, ComputeTestResponse
from nbpipe.views import compute_tables as tables


def render_list(_session: KernelSession, response: ComputeListResponse) -> None:
    """Show the compute targets."""
    show_lines(tables.target_lines(response.targets, COLUMNS))


def render_target(_session: KernelSession, response: ComputeResponse) -> None:
    """Show one compute target."""
    show_lines(tables.target_details(response.described, COLUMNS))


def render_tests(_session: KernelSession, response: ComputeTestResponse) -> None:
    """Show whether steps can run on compute targets; raise the first error."""
    rows = [(each.described, each.seconds, each.error.message if each.error else "") for each in response.tests]
    show_lines(tables.target_test_lines(rows, COLUMNS))
    for each in response.tests:
        if each.error is not None:
            raise each.error
