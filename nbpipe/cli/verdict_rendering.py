"""The output of ``why`` and ``accept`` in a shell."""

from __future__ import annotations

from nbpipe.cli.output_urls import output_urls
from nbpipe.cli.shell_caller import ShellCaller
from nbpipe.verbs.verdict_calls import AcceptResponse, WhyResponse
from nbpipe.views import json_output, why_report
from nbpipe.views.wording import accepted_line


def render_why(caller: ShellCaller, response: WhyResponse) -> int:
    """Print how a step differs from its nearest earlier run, and return the exit code."""
    explanation = response.explained
    parts = (explanation.step, explanation.verdict, explanation.now, explanation.before, explanation.last)
    if caller.screen.as_json:
        caller.screen.json(why_report.why_object(*parts, url_of=output_urls(caller)))
    else:
        caller.screen.lines(why_report.why_lines(*parts, numbers=response.numbers))
    return 0


def render_acceptance(caller: ShellCaller, response: AcceptResponse) -> int:
    """Print which result was accepted, and return the exit code."""
    accepted = response.accepted
    if caller.screen.as_json:
        caller.screen.json(json_output.accepted_object(accepted.step, accepted.hit, accepted.reasons, accepted.record))
    else:
        caller.screen.lines([accepted_line(accepted.step, accepted.hit, accepted.reasons, response.numbers)])
    return 0
