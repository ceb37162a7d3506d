"""The output of ``propose`` in a shell."""

from __future__ import annotations

from nbpipe.cli.shell_caller import ShellCaller
from nbpipe.verbs.proposal_calls import ProposalResponse
from nbpipe.views import proposal_view


def render_proposal(caller: ShellCaller, response: ProposalResponse) -> int:
    """Print a proposal, and return the exit code."""
    screen, proposal, comparison = caller.screen, response.proposal, response.comparison
    code = int(comparison is not None and comparison.differs)
    if screen.as_json:
        name = str(response.notebook)
        screen.json(proposal_view.proposal_object(name, proposal, wrote=response.wrote, comparison=comparison))
        return code
    screen.lines(proposal_view.diff_lines(response.cells, proposal.edits, screen.columns))
    if proposal.steps:
        screen.lines(["", *proposal_view.step_table(proposal.steps, screen.columns)])
    for note in proposal.notes:
        screen.note(f"note: {note.message}")
    screen.lines([proposal_view.summary(proposal, len(response.cells))])
    if comparison is not None:
        screen.lines(proposal_view.comparison_lines(comparison))
    if response.wrote:
        screen.lines([f"wrote {response.notebook}"])
    elif proposal.steps:
        screen.lines(["nothing is written without --write"])
    return code
