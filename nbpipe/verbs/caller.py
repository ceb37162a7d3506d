"""What the call behind a verb needs of the face that calls it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Protocol

from nbpipe.model import Artifact, Cell
from nbpipe.resolve.resolved_request import PipelineRequest
from nbpipe.run.run_watcher import RunUpdate
from nbpipe.run.submission import RunOptions
from nbpipe.verbs.responses import ReportResponse
from nbpipe.workspace import Workspace


class Caller(Protocol):
    """A shell that names a saved notebook, or a kernel with the cells that it ran."""

    @property
    def workspace(self) -> Workspace:
        """Return the workspace, opened on first use."""

    @property
    def folder(self) -> Path:
        """Return the folder that the workspace is looked for from."""

    @property
    def named_workspace(self) -> Path | None:
        """Return the workspace that the author named instead, if any."""

    @property
    def notebook(self) -> str:
        """Return the notebook's name in the history, empty if the call is about no notebook."""

    @property
    def saved(self) -> Path:
        """Return the notebook's file; raise BadUsage where it is not known."""

    @property
    def reads_file(self) -> bool:
        """Return whether the notebook's cells are read from its file."""

    def request(
        self,
        steps: Sequence[str] = (),
        *,
        texts: Mapping[str, str] | None = None,
        start: str | None = None,
        force: tuple[str, ...] | None = None,
    ) -> PipelineRequest:
        """Return the request for steps of the notebook, all of them if none is named."""

    def cells(self) -> tuple[Cell, ...]:
        """Return the notebook's cells."""

    def carry_out(self, request: PipelineRequest, run_options: RunOptions) -> ReportResponse | None:
        """Run the steps and return how that ended; None where the run continues and the face shows it itself."""

    def show_live(self) -> bool:
        """Show the run that is going on as it changes, and say so; False where the face cannot or there is none."""

    def await_submitted(self) -> None:
        """Return when what was submitted from here has begun."""

    def await_output(self, name: str) -> None:
        """Return when a step that is going on has made an output of this name."""

    def target(self, artifact: Artifact, path: Path | None) -> Path | None:
        """Return the path to copy an output to, ``path`` if one was named; None where the output is bound instead."""

    def updated(self, update: RunUpdate) -> None:
        """Show what is new in a run that is followed."""
