"""A kernel as the verbs' caller: its cells as last run, and its workspace or a named one."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Self

from nbpipe.errors import BadUsage
from nbpipe.magics.card_actions import show_card
from nbpipe.magics.display import write_lines
from nbpipe.magics.front_end_metadata import is_watched
from nbpipe.magics.kernel_session import KernelSession
from nbpipe.magics.transfer_progress import transfer_line
from nbpipe.model import Artifact, Cell
from nbpipe.resolve.resolved_request import PipelineRequest
from nbpipe.verbs.syntax import Verb
from nbpipe.workspace import Workspace


class KernelCaller:
    """The caller for a kernel; as a context manager, it closes a named workspace that the call has opened.

    ``verb`` is the called one.
    """

    def __init__(
        self,
        session: KernelSession,
        verb: Verb,
        named_workspace: Path | None,
    ) -> None:
        self.named_workspace = named_workspace
        self._verb = verb
        self._session = session
        self._other: Workspace | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        if self._other is not None:
            self._other.close()

    @property
    def workspace(self) -> Workspace:
        """Return the kernel's workspace, or the named one, opened for reading if the verb only reads."""
        if self.named_workspace is None:
            return self._session.readable if self._verb.reads_only else self._session.workspace
        if self._other is None:
            open_ = Workspace.read if self._verb.reads_only else Workspace.open
            self._other = open_(self.folder, self.named_workspace)
        return self._other

    @property
    def folder(self) -> Path:
        """Return the kernel's folder."""
        return self._session.base

    @property
    def notebook(self) -> str:
        """Return the notebook's name in the history."""
        return self._session.identity

    @property
    def saved(self) -> Path:
        """Return the notebook's file; raise BadUsage if the kernel does not know it."""
        if self._session.notebook is None:
            hint = f"In a shell: nbpipe {self._verb.name} NOTEBOOK"
            raise BadUsage("this kernel does not know which notebook it belongs to", hint)
        return self._session.notebook

    @property
    def reads_file(self) -> bool:
        """Return False: the cells are those that the kernel ran."""
        return False

    def request(
        self,
        steps: Sequence[str] = (),
        *,
        texts: Mapping[str, str] | None = None,
        start: str | None = None,
        force: tuple[str, ...] | None = None,
    ) -> PipelineRequest:
        """Return the request for steps of the kernel's cells."""
        return self._session.request(steps, texts=texts or {}, start=start, force=force)

    def cells(self) -> tuple[Cell, ...]:
        """Return the cells as the kernel last ran them."""
        return self._session.executed_cells()

    def show_live(self) -> bool:
        """Show the card of the active run, if a front end can show one."""
        session = self._session
        if not is_watched(session.shell):
            return False
        # What has just been submitted may have no workspace yet.
        view = session.live.newest()
        if view is None:
            if not session.has_workspace:
                return False
            newest = session.readable.runs.newest(session.identity)
            if newest is None or newest[0].status.terminal:
                return False
            view = session.live.watch(newest[0].id)
        show_card(session, view, None)
        return True

    def await_submitted(self) -> None:
        """Wait until the submitted runs have begun, up to a time limit."""
        self._session.live.await_begun()

    def await_output(self, name: str) -> None:
        """Wait until the step that produces an output has ended."""
        self._session.outputs.await_made(name)

    def target(self, artifact: Artifact, path: Path | None) -> Path | None:  # noqa: ARG002 - the protocol's
        """Return the named path relative to the kernel's folder; None if the output is to be bound."""
        return None if path is None else self.folder / path

    def transfer(self, what: str, total: int) -> AbstractContextManager[Callable[[int], None]]:
        """Show the progress of a transfer as a line under the running cell."""
        return transfer_line(what, total)

    def show_changes(self, lines: Sequence[str]) -> None:
        """Write lines about the changes in a followed run."""
        write_lines(lines)
