"""The output of ``gc``, ``pin`` and ``unpin`` in a shell."""

from __future__ import annotations

from nbpipe.cli.shell_caller import ShellCaller
from nbpipe.verbs.retention_calls import CollectionResponse, KeptResponse, PinResponse
from nbpipe.views import retention_tables as tables


def render_collection(caller: ShellCaller, response: CollectionResponse) -> int:
    """Print what is collected, and return the exit code."""
    if caller.screen.as_json:
        caller.screen.json(tables.collection_object(response.summary))
    else:
        caller.screen.lines(tables.collection_lines(response.summary, caller.screen.columns))
    return 0


def render_kept(caller: ShellCaller, response: KeptResponse) -> int:
    """Print what keeps outputs, and return the exit code."""
    if caller.screen.as_json:
        caller.screen.json(tables.kept_object(response.outputs))
    else:
        caller.screen.lines(tables.kept_lines(response.outputs, caller.screen.columns))
    return 0


def render_pin(caller: ShellCaller, response: PinResponse) -> int:
    """Print that a run is pinned, or no longer, and return the exit code."""
    if caller.screen.as_json:
        caller.screen.json({"run": response.run.id, "number": response.run.number, "pinned": response.pinned})
    else:
        caller.screen.lines([tables.pin_line(response.run.number, pinned=response.pinned)])
    return 0
