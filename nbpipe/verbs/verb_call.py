"""The call of a verb, which loads only the module that the verb names."""

from __future__ import annotations

from typing import Any

from nbpipe.entry_points import load_entry_point
from nbpipe.verbs.caller import Caller
from nbpipe.verbs.syntax import Invocation


def call(invocation: Invocation, caller: Caller) -> Any:
    """Return the response to an invocation; None if the face shows it itself."""
    return load_entry_point(invocation.verb.call)(invocation, caller)
