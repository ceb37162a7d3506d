"""A shell as the verbs' caller: a saved notebook, if any, and the nearest or the named workspace."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Self

from nbpipe.cli.terminal_output import TerminalOutput
from nbpipe.cli.transfer_progress import transfer_progress
from nbpipe.errors import BadUsage
from nbpipe.language.notebook_file import read_notebook
from nbpipe.model import Artifact, Cell
from nbpipe.resolve.found_workspace import FoundWorkspace, look_up_workspace
from nbpipe.resolve.resolved_request import PipelineRequest
from nbpipe.resolve.workspace_layout import absolute
from nbpipe.workspace import Workspace, request_in


class ShellCaller:
    """The caller for a shell; as a context manager, it closes the workspace that the call has opened."""

    def __init__(
        self, screen: TerminalOutput, notebook: Path | None, named_workspace: Path | None, *, reads_only: bool = False
    ) -> None:
        self.screen = screen
        self.named_workspace = named_workspace
        self._notebook = notebook
        self._open = Workspace.read_found if reads_only else Workspace.open_found
        self._workspace: Workspace | None = None
        self._looked_up: FoundWorkspace | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        if self._workspace is not None:
            self._workspace.close()
            self._workspace = None

    @property
    def workspace(self) -> Workspace:
        """Return the workspace, opened on first use."""
        if self._workspace is None:
            self._workspace = self._open(self._found)
            self._workspace.show_transfers(self.transfer)
        return self._workspace

    @property
    def _found(self) -> FoundWorkspace:
        """The workspace's folders, looked up once, for the request and for its opening."""
        if self._looked_up is None:
            self._looked_up = look_up_workspace(self.folder, self.named_workspace)
        return self._looked_up

    @property
    def folder(self) -> Path:
        """Return the notebook's folder, or the current folder without a notebook."""
        return Path.cwd() if self._notebook is None else absolute(self._notebook).parent

    @property
    def notebook(self) -> str:
        """Return the notebook's name in the history."""
        return "" if self._notebook is None else str(absolute(self._notebook))

    @property
    def saved(self) -> Path:
        """Return the notebook's file as given on the command line."""
        if self._notebook is None:
            raise BadUsage("no notebook is named")
        return self._notebook

    @property
    def reads_file(self) -> bool:
        """Return True: cells are read from the file."""
        return True

    def request(
        self,
        steps: Sequence[str] = (),
        *,
        texts: Mapping[str, str] | None = None,
        start: str | None = None,
        force: tuple[str, ...] | None = None,
    ) -> PipelineRequest:
        """Return the request for steps of the saved notebook."""
        request = request_in(self.saved, self._found)
        return dataclasses.replace(request, steps=tuple(steps), texts=texts or {}, start=start, force=force)

    def cells(self) -> tuple[Cell, ...]:
        """Return the cells of the saved notebook."""
        return tuple(read_notebook(absolute(self.saved)).cells)

    def show_live(self) -> bool:
        """Return False: a shell shows a run only with ``--follow``."""
        return False

    def await_submitted(self) -> None:
        """Return at once: a shell always waits until a submitted run has begun."""

    def await_output(self, name: str) -> None:
        """Return at once: in a shell only existing outputs are pulled."""

    def target(self, artifact: Artifact, path: Path | None) -> Path:
        """Return the named path, or the output's own name in the current folder."""
        if path is not None:
            return path
        path = Path(artifact.basename)
        if path.exists():
            raise BadUsage(f"{path} already exists", "Name the path to write with --to FILE.")
        return path

    def transfer(self, what: str, total: int) -> AbstractContextManager[Callable[[int], None]]:
        """Show the progress of a transfer: a bar on a terminal, plain lines elsewhere, nothing beside JSON."""
        return transfer_progress(self.screen, what, total)

    def show_changes(self, lines: Sequence[str]) -> None:
        """Print the changes in a followed run."""
        for line in lines:
            self.screen.note(line)
