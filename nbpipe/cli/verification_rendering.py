"""The output of ``verify`` and ``trust`` in a shell."""

from __future__ import annotations

import dataclasses

from nbpipe.cli.shell_caller import ShellCaller
from nbpipe.verbs.verification_calls import TrustResponse, VerificationResponse
from nbpipe.views import json_output, text_tables


def render_verification(caller: ShellCaller, response: VerificationResponse) -> int:
    """Print the result of verifying a workspace, and return the exit code."""
    verified = response.verified
    if caller.screen.as_json:
        caller.screen.json(json_output.verified_object(dataclasses.asdict(verified), is_intact=verified.is_intact))
    else:
        problems = [(problem.where, problem.said) for problem in verified.problems]
        counts = (verified.outputs, verified.bytes)
        caller.screen.lines(
            text_tables.verified_lines(
                problems,
                *counts,
                unknown=verified.unknown,
                unreachable=verified.unreachable,
                repaired=verified.repaired,
            )
        )
    return 0 if verified.is_intact else 1


def render_trust(caller: ShellCaller, response: TrustResponse) -> int:
    """Print the workspace that is trusted from now on, and return the exit code."""
    accepted = response.accepted
    if caller.screen.as_json:
        caller.screen.json({"workspace": str(accepted.root), "reasons": accepted.reasons, "holds": accepted.holds})
    else:
        caller.screen.lines(text_tables.trust_lines(str(accepted.root), accepted.reasons, accepted.holds))
    return 0
