"""The output of ``why`` and ``accept`` in a notebook."""

from __future__ import annotations

from nbpipe.magics.display import show_lines, show_table
from nbpipe.magics.kernel_session import KernelSession
from nbpipe.verbs.verdict_calls import AcceptResponse, WhyResponse
from nbpipe.views import why_report
from nbpipe.views.wording import accepted_line


def render_why(_session: KernelSession, response: WhyResponse) -> None:
    """Show how a step differs from its nearest earlier run."""
    explanation, numbers = response.explained, response.numbers
    parts = (explanation.step, explanation.verdict, explanation.now, explanation.before, explanation.last)
    show_table(why_report.why_lines(*parts, numbers=numbers), why_report.why_html(*parts, numbers=numbers))


def render_acceptance(_session: KernelSession, response: AcceptResponse) -> None:
    """Show which result was accepted."""
    accepted = response.accepted
    show_lines([accepted_line(accepted.step, accepted.hit, accepted.reasons, response.numbers)])
