"""The interface of a face, shell or notebook, to the call behind a verb."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Protocol

from nbpipe.model import Artifact, Cell
from nbpipe.resolve.resolved_request import PipelineRequest
from nbpipe.workspace import Workspace


class Caller(Protocol):
    """A shell with a saved notebook, or a kernel with the cells that it has run."""

    @property
    def workspace(self) -> Workspace:
        """Return the workspace, opened on first use."""

    @property
    def folder(self) -> Path:
        """Return the folder in which the search for the workspace starts."""

    @property
    def named_workspace(self) -> Path | None:
        """Return the workspace that was named explicitly, if any."""

    @property
    def notebook(self) -> str:
        """Return the notebook's name in the history; empty if the call is not about a notebook."""

    @property
    def saved(self) -> Path:
        """Return the notebook's file; raise BadUsage if it is unknown."""

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
        """Return the request for steps of the notebook, or for all steps if none is named."""

    def cells(self) -> tuple[Cell, ...]:
        """Return the notebook's cells."""

    def show_live(self) -> bool:
        """Show the active run as it changes; return False if the face cannot, or if no run is active."""

    def await_submitted(self) -> None:
        """Wait until the runs that were submitted from here have begun."""

    def await_output(self, name: str) -> None:
        """Wait until an active step has produced the output of this name."""

    def target(self, artifact: Artifact, path: Path | None) -> Path | None:
        """Return the path to copy an output to, ``path`` if one was named; None if the output is bound instead."""

    def transfer(self, what: str, total: int) -> AbstractContextManager[Callable[[int], None]]:
        """Show the progress of a transfer of ``total`` bytes; the function is called with the bytes since the last."""

    def show_changes(self, lines: Sequence[str]) -> None:
        """Show lines about the changes in a followed run."""
