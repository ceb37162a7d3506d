"""The call behind ``propose``, and its response."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from nbpipe.authoring.measured_times import measured_times
from nbpipe.authoring.notebook_edits import edit_notebook, require_format_4
from nbpipe.errors import BadPipeline, BadUsage, Refusals, Refused
from nbpipe.language.cell_markers import CellMarker
from nbpipe.language.directives import marker
from nbpipe.language.notebook_file import NotebookFile, is_text_notebook, read_document, read_notebook
from nbpipe.language.notebook_parser import parse_cells
from nbpipe.model import Cell
from nbpipe.model.proposals import PipelineComparison, Proposal
from nbpipe.proposal.notebook_outline import outline
from nbpipe.proposal.proposing import proposal_for
from nbpipe.resolve.resolved_request import PipelineRequest
from nbpipe.verbs import options
from nbpipe.verbs.caller import Caller
from nbpipe.verbs.syntax import Invocation
from nbpipe.workspace.pipeline_comparison import compare_with_plain_run

_PYTHON = ("python", "ipython")


@dataclass(frozen=True, slots=True)
class ProposalResponse:
    """A proposal for a notebook with these code cells; ``wrote`` tells whether it was written to the file.

    ``comparison`` is that with the plain run, None if it was not asked for or nothing is proposed.
    """

    notebook: Path
    cells: Sequence[Cell]
    proposal: Proposal
    wrote: bool
    comparison: PipelineComparison | None = None


def propose(invocation: Invocation, caller: Caller) -> ProposalResponse:
    """Return a proposal for the saved notebook, and write it if that was asked for."""
    path = caller.saved
    saved = read_notebook(path)
    content = path.read_bytes()
    _require_plain(saved)
    document = read_document(path) if is_text_notebook(path) else json.loads(content.decode("utf-8-sig"))
    require_format_4(path, document)
    request = caller.request()
    outlined = outline(document, saved.cells, measured_times(document))
    proposal = proposal_for(
        outlined,
        request.more_settings,
        lambda reading: _plan_errors(caller, dataclasses.replace(request, reading=reading)),
    )
    compares = invocation[options.COMPARE] and bool(proposal.steps)
    comparison = _compared(saved, proposal, request) if compares else None
    writes = invocation[options.WRITE] and bool(proposal.edits)
    if writes:
        edit_notebook(path, proposal.edits, content)
    return ProposalResponse(path, saved.cells, proposal, writes, comparison)


def _plan_errors(caller: Caller, request: PipelineRequest) -> list[Refused]:
    """Return the errors of a plan that concern a cell."""
    try:
        _, errors = caller.workspace.plans.pin_rest(request)
    except Refused as error:
        errors = (error,)
    except Refusals as several:
        errors = tuple(several.errors)
    return [error for error in errors if error.place.cell is not None]


def _compared(saved: NotebookFile, proposal: Proposal, request: PipelineRequest) -> PipelineComparison:
    edited, _ = proposal.edits.applied(saved.cells)
    reading = parse_cells(edited, request.more_settings)
    return compare_with_plain_run(dataclasses.replace(request, reading=reading), saved.cells, proposal.steps)


def _require_plain(saved: NotebookFile) -> None:
    """Raise an error for a notebook that is not Python, or has steps already."""
    language = (saved.language or "python").lower()
    if language not in _PYTHON:
        raise BadPipeline(
            f"{saved.path} is written in {saved.language}, and nothing can be proposed for it",
            "Steps are Python; nothing was changed.",
        )
    step = next((cell for cell in saved.cells if marker(cell.source) is CellMarker.STEP), None)
    if step is not None:
        raise BadUsage(
            f"{saved.path} has steps already, the first in cell {step.number}",
            "A proposal is made for a notebook without steps; `nbpipe lint --fix` adds missing inputs.",
        )
