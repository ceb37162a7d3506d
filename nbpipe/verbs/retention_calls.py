"""The calls behind the verbs about what is kept, and their responses."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from nbpipe.model import RunRecord
from nbpipe.model.retention import CollectionSummary, KeptOutput
from nbpipe.verbs import options
from nbpipe.verbs.caller import Caller
from nbpipe.verbs.syntax import Invocation
from nbpipe.workspace.retention import collect, collectable, pin_run, reasons_for, unpin_run


@dataclass(frozen=True, slots=True)
class CollectionResponse:
    """What can be collected, or was."""

    summary: CollectionSummary


@dataclass(frozen=True, slots=True)
class KeptResponse:
    """Stored outputs, and what keeps each."""

    outputs: Sequence[KeptOutput]


@dataclass(frozen=True, slots=True)
class PinResponse:
    """A run that is pinned now, or no longer."""

    run: RunRecord
    pinned: bool


def gc(invocation: Invocation, caller: Caller) -> CollectionResponse | KeptResponse:
    """Return what can be collected, after it was collected with ``--apply``; with ``--why``, what keeps an output."""
    caller.await_submitted()
    workspace = caller.workspace
    digest = invocation[options.WHY]
    if digest is not None:
        return KeptResponse(reasons_for(workspace, digest))
    return CollectionResponse(collect(workspace) if invocation[options.APPLY] else collectable(workspace))


def pin(invocation: Invocation, caller: Caller) -> PinResponse:
    """Keep all results of a run."""
    return PinResponse(pin_run(caller.workspace, invocation[options.RUN]), pinned=True)


def unpin(invocation: Invocation, caller: Caller) -> PinResponse:
    """No longer keep a run for its own sake."""
    return PinResponse(unpin_run(caller.workspace, invocation[options.RUN]), pinned=False)
