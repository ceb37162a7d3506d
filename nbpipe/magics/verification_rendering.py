"""The output of ``verify`` and ``trust`` in a notebook."""

from __future__ import annotations

from nbpipe.magics.display import show_lines
from nbpipe.magics.kernel_session import KernelSession
from nbpipe.verbs.verification_calls import TrustResponse, VerificationResponse
from nbpipe.views import text_tables


def render_verification(_session: KernelSession, response: VerificationResponse) -> None:
    """Show the result of verifying a workspace."""
    verified = response.verified
    problems = [(problem.where, problem.said) for problem in verified.problems]
    counts = (verified.outputs, verified.bytes)
    show_lines(
        text_tables.verified_lines(
            problems, *counts, unknown=verified.unknown, unreachable=verified.unreachable, repaired=verified.repaired
        )
    )


def render_trust(_session: KernelSession, response: TrustResponse) -> None:
    """Show the workspace that is trusted from now on."""
    accepted = response.accepted
    show_lines(text_tables.trust_lines(str(accepted.root), accepted.reasons, accepted.holds))
