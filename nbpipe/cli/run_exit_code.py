"""The exit code that tells how a run ended."""

from __future__ import annotations

from nbpipe.model import Status

_EXIT_CODES = {Status.SUCCEEDED: 0, Status.CANCELLED: 130}


def exit_code_of(status: Status) -> int:
    """Return the command's exit code for a run with this status."""
    return _EXIT_CODES.get(status, 1)
