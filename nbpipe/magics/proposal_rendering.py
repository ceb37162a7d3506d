"""The output of ``propose`` in a notebook."""

from __future__ import annotations

from nbpipe.magics.display import COLUMNS, show_lines, show_table
from nbpipe.magics.kernel_session import KernelSession
from nbpipe.verbs.proposal_calls import ProposalResponse
from nbpipe.views import proposal_view


def render_proposal(_session: KernelSession, response: ProposalResponse) -> None:
    """Show a proposal under the cell that called the verb."""
    proposal, summary = response.proposal, proposal_view.summary(response.proposal, len(response.cells))
    diff = proposal_view.diff_lines(response.cells, proposal.edits, COLUMNS)
    table = proposal_view.step_table(proposal.steps, COLUMNS) if proposal.steps else []
    show_table([*diff, *table, summary], proposal_view.proposal_html(proposal, diff, summary))
    show_lines([f"note: {note.message}" for note in proposal.notes])
    if response.wrote:
        show_lines([f"{response.notebook.name} changed on disk: reload it (Reload Notebook from Disk)"])
    elif proposal.steps:
        show_lines(["nothing is written without --write; save the notebook first"])
