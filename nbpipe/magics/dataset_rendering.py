"""The output of the verbs about datasets in a notebook."""

from __future__ import annotations

from nbpipe.magics.display import COLUMNS, show_lines
from nbpipe.magics.kernel_session import KernelSession
from nbpipe.verbs.dataset_calls import (
    DatasetChangeResponse,
    DatasetDifferenceResponse,
    DatasetLineageResponse,
    DatasetListResponse,
    DatasetRegisteredResponse,
    DatasetResponse,
)
from nbpipe.views import dataset_tables as tables


def render_list(_session: KernelSession, response: DatasetListResponse) -> None:
    """Show the newest version of each dataset."""
    show_lines(tables.list_lines(response.datasets, COLUMNS, response.now))


def render_version(_session: KernelSession, response: DatasetResponse) -> None:
    """Show a version."""
    details = response.details
    lines = tables.version_lines(
        details.version,
        details.labels,
        details.members,
        COLUMNS,
        response.now,
        run=details.run,
        profile=details.profile,
        problem=details.problem,
        earlier=details.earlier,
    )
    show_lines(lines)


def render_registered(_session: KernelSession, response: DatasetRegisteredResponse) -> None:
    """Show what was registered."""
    done = response.registered
    show_lines([tables.registered_line(done.version, is_new=done.is_new, by_size=done.by_size)])


def render_difference(_session: KernelSession, response: DatasetDifferenceResponse) -> None:
    """Show the difference between two versions."""
    show_lines(tables.difference_lines(response.difference, COLUMNS))


def render_lineage(_session: KernelSession, response: DatasetLineageResponse) -> None:
    """Show what a version was made from, and what from it."""
    found = response.lineage
    show_lines(tables.lineage_lines(found.version, found.run, found.children, found.readers))


def render_change(_session: KernelSession, response: DatasetChangeResponse) -> None:
    """Show what was done to a version."""
    show_lines([f"{response.version} {response.change}"])
