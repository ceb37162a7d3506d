"""The output of ``gc``, ``pin`` and ``unpin`` in a notebook."""

from __future__ import annotations

from nbpipe.magics.display import COLUMNS, show_lines
from nbpipe.magics.kernel_session import KernelSession
from nbpipe.verbs.retention_calls import CollectionResponse, KeptResponse, PinResponse
from nbpipe.views import retention_tables as tables


def render_collection(_session: KernelSession, response: CollectionResponse) -> None:
    """Show what is collected."""
    show_lines(tables.collection_lines(response.summary, COLUMNS))


def render_kept(_session: KernelSession, response: KeptResponse) -> None:
    """Show what keeps outputs."""
    show_lines(tables.kept_lines(response.outputs, COLUMNS))


def render_pin(_session: KernelSession, response: PinResponse) -> None:
    """Show that a run is pinned, or no longer."""
    show_lines([tables.pin_line(response.run.number, pinned=response.pinned)])
