"""The calls behind the verbs about a workspace's soundness, and their responses."""

from __future__ import annotations

from dataclasses import dataclass

from nbpipe.run.verification import VerificationReport
from nbpipe.verbs import options
from nbpipe.verbs.caller import Caller
from nbpipe.verbs.syntax import Invocation
from nbpipe.workspace.trust import AcceptedWorkspace, trust_workspace
from nbpipe.workspace.verification import verify_workspace


@dataclass(frozen=True, slots=True)
class VerificationResponse:
    """The result of verifying all stored outputs."""

    verified: VerificationReport


@dataclass(frozen=True, slots=True)
class TrustResponse:
    """A workspace that its user trusts from now on."""

    accepted: AcceptedWorkspace


def verify(invocation: Invocation, caller: Caller) -> VerificationResponse:
    """Return whether every recorded output is present and intact."""
    full, repair = invocation[options.FULL], invocation[options.REPAIR]
    return VerificationResponse(verify_workspace(caller.folder, caller.named_workspace, full=full, repair=repair))


def trust(_invocation: Invocation, caller: Caller) -> TrustResponse:
    """Have this user trust the workspace from now on."""
    return TrustResponse(trust_workspace(caller.folder, caller.named_workspace))
