"""An open workspace on disk: its services, its verification, and requests for its notebooks."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Self

from nbpipe.data.datastores import LocalStore
from nbpipe.data.file_pinning import PersistentDigestCache
from nbpipe.data.file_system_kind import shares_memory
from nbpipe.data.materializer import Materializer
from nbpipe.errors import BadUsage, HistoryOutOfReach
from nbpipe.history.store import History
from nbpipe.language.cell_identity import identities
from nbpipe.language.notebook_file import read_notebook
from nbpipe.resolve.found_workspace import FoundWorkspace, look_up_workspace
from nbpipe.resolve.parse_cache import ParseCache, parse
from nbpipe.resolve.resolved_request import PipelineRequest
from nbpipe.resolve.text_notebook_cache import read_cached_notebook
from nbpipe.resolve.workspace_layout import (
    WorkspaceLayout,
    absolute,
    make_workspace,
    require_writable,
    settings_near,
    write_settings,
)
from nbpipe.resolve.workspace_trust import TrustObjection, is_marked, objections
from nbpipe.workspace.catalog import Catalog
from nbpipe.workspace.context import ShowTransfer, WorkspaceContext
from nbpipe.workspace.plans import Plans
from nbpipe.workspace.results import Results
from nbpipe.workspace.runs import Runs


@dataclass(slots=True)
class Workspace:
    """An open workspace with a service for each concern; use it as a context manager, or ``close`` it."""

    context: WorkspaceContext
    catalog: Catalog
    plans: Plans
    runs: Runs
    results: Results

    @classmethod
    def open(cls, near: Path | None = None, named: Path | None = None) -> Self:
        """Open the workspace of a notebook in folder ``near``, or the named one; create it if it does not exist.

        Without a folder it is the workspace of the current one.

        Raise WorkspaceUntrusted if this user has neither made nor accepted it.
        """
        return cls.open_found(look_up_workspace(Path.cwd() if near is None else near, named))

    @classmethod
    def open_found(cls, found: FoundWorkspace) -> Self:
        """Open a workspace that was looked up, as :meth:`open` does."""
        layout = found.layout
        require_writable(layout)
        found.require_trust()
        make_workspace(layout)
        return cls._opened(layout, History.open(layout.database, shares_memory=shares_memory(layout.database)))

    @classmethod
    def read(cls, near: Path, named: Path | None = None) -> Self:
        """Open the workspace for reading: it is not created.

        Its caches are kept up to date, and its broken-off runs ended, if this user has made or accepted it and may
        write it; otherwise nothing is written at all.
        """
        return cls.read_found(look_up_workspace(near, named))

    @classmethod
    def read_found(cls, found: FoundWorkspace) -> Self:
        """Open a workspace that was looked up for reading, as :meth:`read` does."""
        layout = found.layout
        if not found.distrust and is_marked(layout.root):
            # A copy may still be readable: nothing can be created where a disk is full, or read in a locked database.
            with contextlib.suppress(HistoryOutOfReach):
                shared = shares_memory(layout.database)
                return cls._opened(layout, History.read(layout.database, shares_memory=shared))
        return cls._opened(layout, History.copied(layout.database), found.distrust)

    @classmethod
    def _opened(cls, layout: WorkspaceLayout, history: History, distrust: tuple[TrustObjection, ...] = ()) -> Self:
        digests = PersistentDigestCache(history.digests.recall, history.digests.remember, time.time)
        context = WorkspaceContext(layout, history, LocalStore(layout.store), digests, distrust)
        with contextlib.ExitStack() as stack:
            stack.callback(history.close)
            context.recover()
            stack.pop_all()
        catalog = Catalog(context)
        plans = Plans(context, catalog)
        runs = Runs(context, catalog)
        return cls(context, catalog, plans, runs, Results(context, catalog, runs))

    @classmethod
    def create(cls, folder: Path, named: Path | None = None) -> Self:
        """Create a workspace in a folder, with a settings file if it has none, and open it."""
        if not folder.is_dir():
            raise BadUsage(f"there is no folder {folder}", "Create it first.")
        write_settings(folder)
        return cls.open(folder, named)

    @property
    def layout(self) -> WorkspaceLayout:
        """The paths of the workspace on disk."""
        return self.context.layout

    @property
    def materializer(self) -> Materializer:
        """The materializer, which resolves references to stored outputs to paths and URLs."""
        return self.context.materializer

    @property
    def is_in_place(self) -> bool:
        """Return whether the workspace was neither deleted nor replaced since it was opened."""
        return self.context.history.is_in_place()

    def show_transfers(self, transfer: ShowTransfer) -> None:
        """Have shown what plans read from elsewhere."""
        self.context.transfer = transfer

    def dataset_names(self) -> tuple[str, ...]:
        """Return the names of all datasets, sorted."""
        return tuple(self.context.history.datasets.names())

    def now(self) -> float:
        """Return the time, in seconds since the epoch."""
        return self.context.clock()

    @property
    def is_trusted(self) -> bool:
        """Return whether this user made or accepted the workspace."""
        return not self.context.distrust

    def require_trust(self) -> None:
        """Raise WorkspaceUntrusted if nothing may be loaded from the workspace."""
        self.context.require_trust()

    def recover(self) -> None:
        """End the runs that dead processes have left behind."""
        self.context.recover()

    def use_environment(self, environ: Mapping[str, str]) -> None:
        """Take environment variables from here instead of from this process."""
        self.context.environ = environ

    def write_digests(self) -> None:
        """Write the digests of files that were computed since the last time."""
        self.context.digests.flush()

    def close(self) -> None:
        """Write cached digests, which are computed again if they cannot be written, and close the history."""
        try:
            with contextlib.suppress(HistoryOutOfReach):
                self.write_digests()
        finally:
            self.context.history.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def request_for(path: Path, layout: WorkspaceLayout | None = None) -> PipelineRequest:
    """Return the request for all steps of a saved notebook; with a layout, the workspace's parse cache is used."""
    return request_in(path, FoundWorkspace(layout, objections(layout.root)) if layout else None)


def request_in(path: Path, found: FoundWorkspace | None) -> PipelineRequest:
    """Return the request for all steps of a saved notebook; a trusted workspace's parse cache is used."""
    path = absolute(path)
    more = found.layout.more_settings if found is not None else settings_near(path.parent)
    if found is None or found.distrust:
        notebook = read_notebook(path)
        reading = parse(notebook.cells, more)
    else:
        is_own = is_marked(found.layout.root)
        notebook = read_cached_notebook(path, found.layout.readings, keep=is_own)
        cache = ParseCache(found.layout.readings, time.time(), more)
        reading = (cache.read if is_own else cache.recall)(path, notebook.cells)
    cells = identities(str(path), notebook.cells)
    return PipelineRequest(str(path), reading, path.parent, notebook.kernel, cells=cells, more_settings=more)
