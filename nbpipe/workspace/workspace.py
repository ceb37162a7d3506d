"""An open workspace on disk: its services, its verification, and requests for its notebooks."""

from __future__ import annotations

import contextlib
import dataclasses
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Self

from nbpipe.data.datastores import DEFAULT_STORE, LocalStore
from nbpipe.data.digests import NoDigestCache
from nbpipe.data.file_pinning import PersistentDigestCache
from nbpipe.data.file_system_kind import shares_memory
from nbpipe.data.materializer import Materializer
from nbpipe.errors import BadUsage, HistoryDamaged, HistoryOutOfReach
from nbpipe.history.inspection import InspectionRepository
from nbpipe.history.store import History
from nbpipe.language.notebook_file import read_notebook
from nbpipe.language.notebook_parser import parse_cells
from nbpipe.model import ExecutionRecord, RunRecord
from nbpipe.resolve.found_workspace import FoundWorkspace, look_up_workspace
from nbpipe.resolve.parse_cache import ParseCache
from nbpipe.resolve.resolved_request import PipelineRequest
from nbpipe.resolve.workspace_layout import (
    WorkspaceLayout,
    absolute,
    find_workspace,
    make_workspace,
    require_writable,
    write_settings,
)
from nbpipe.resolve.workspace_trust import Objection, accept, is_marked, objections, reason_words
from nbpipe.run.runner_client import launch
from nbpipe.run.submission import Submission
from nbpipe.run.verification import VerificationProblem, VerificationReport, verify_workspace
from nbpipe.run.workspace_repair import misplaced, rebuild_history, set_aside
from nbpipe.workspace.catalog import Catalog
from nbpipe.workspace.context import WorkspaceContext
from nbpipe.workspace.plans import Plans
from nbpipe.workspace.results import Results
from nbpipe.workspace.runs import Runs


@dataclass(frozen=True, slots=True)
class AcceptedWorkspace:
    """A workspace that its user trusts from now on: what was to be said against it, and what it holds, in words."""

    root: Path
    reasons: str
    holds: str


@dataclass(slots=True)
class Workspace:
    """An open workspace with a service for each concern; use it as a context manager, or ``close`` it."""

    context: WorkspaceContext
    catalog: Catalog
    plans: Plans
    runs: Runs
    results: Results

    @classmethod
    def open(cls, near: Path, named: Path | None = None) -> Self:
        """Open the workspace of a notebook in folder ``near``, or the named one; create it if it does not exist.

        Raise WorkspaceUntrusted if this user has neither made nor accepted it.
        """
        return cls.open_found(look_up_workspace(near, named))

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
    def trust(cls, near: Path, named: Path | None = None) -> AcceptedWorkspace:
        """Have this user trust a workspace from now on, whatever is to be said against it."""
        layout = find_workspace(near, named)
        if not layout.root.is_dir():
            raise BadUsage(f"there is no workspace {layout.root}", "The first run makes one, which needs no trust.")
        require_writable(layout)
        with contextlib.suppress(HistoryOutOfReach), cls.read(near, named) as opened:
            newest = opened.context.history.runs.last()
            outputs = {artifact for _, _, artifact in opened.context.history.results.stored()}
            holds = f"{newest.number if newest else 0} runs, {len(outputs)} stored outputs"
            return AcceptedWorkspace(layout.root, reason_words(layout.root, accept(layout.root)), holds)
        return AcceptedWorkspace(layout.root, reason_words(layout.root, accept(layout.root)), "an unreadable history")

    @classmethod
    def _opened(cls, layout: WorkspaceLayout, history: History, distrust: tuple[Objection, ...] = ()) -> Self:
        digests = PersistentDigestCache(history.digests.recall, history.digests.remember, time.time)
        materializer = Materializer({DEFAULT_STORE: LocalStore(layout.store)})
        context = WorkspaceContext(layout, history, materializer, digests, distrust)
        with contextlib.ExitStack() as stack:
            stack.callback(history.close)
            context.recover()
            stack.pop_all()
        catalog = Catalog(context)
        plans = Plans(context, catalog)
        runs = Runs(context, catalog, plans)
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

    def now(self) -> float:
        """Return the time, in seconds since the epoch."""
        return self.context.clock()

    def close(self) -> None:
        """Write cached digests, which are computed again if they cannot be written, and close the history."""
        try:
            with contextlib.suppress(HistoryOutOfReach):
                self.context.digests.flush()
        finally:
            self.context.history.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def launch(self, submission: Submission) -> tuple[RunRecord, list[ExecutionRecord]]:
        """Submit a run to a process of its own, and return it once it has begun; raise the error if it cannot begin.

        The submission's lifetime decides whether it continues when this process exits.
        """
        return self.runs.show(launch(dataclasses.replace(submission, environ=dict(self.context.environ))))

    @classmethod
    def verify(
        cls, near: Path, named: Path | None = None, *, full: bool = False, repair: bool = False
    ) -> VerificationReport:
        """Verify everything that is recorded; with ``full``, read all bytes again.

        With ``repair``, damaged results are no longer offered, and a damaged history is rebuilt from intact parts.
        """
        found = look_up_workspace(near, named)
        layout = found.layout
        found.require_trust()
        astray = list(misplaced(layout))
        damaged = [VerificationProblem(str(path), message) for path, message in astray]
        if repair:
            damaged += _repaired_history(layout, [path for path, _ in astray])
        with (cls.open_found if repair else cls.read_found)(found) as workspace:
            if not repair:
                damaged += _history_problems(workspace.context.history)
            context = workspace.context
            digests = NoDigestCache() if full else context.digests
            report = verify_workspace(
                context.history, context.materializer, layout, digests, repair=repair, now=context.clock()
            )
        return dataclasses.replace(report, problems=(*damaged, *report.problems))


def _history_problems(history: History) -> list[VerificationProblem]:
    return [VerificationProblem("history", message) for message in InspectionRepository(history.database).damage()]


def _repaired_history(layout: WorkspaceLayout, astray: Sequence[Path]) -> list[VerificationProblem]:
    """Set aside what is misplaced, rebuild a damaged database, and return the problems that it had."""
    require_writable(layout)
    for path in astray:
        set_aside(path)
    make_workspace(layout)
    try:
        with History.open(layout.database, shares_memory=shares_memory(layout.database)) as history:
            problems = _history_problems(history)
    except HistoryDamaged as error:
        problems = [VerificationProblem("history", error.message)]
    if problems:
        rebuild_history(layout, shares_memory(layout.database), time.time())
    return problems


def request_for(path: Path, layout: WorkspaceLayout | None = None) -> PipelineRequest:
    """Return the request for all steps of a saved notebook; with a layout, the workspace's parse cache is used."""
    return request_in(path, FoundWorkspace(layout, objections(layout.root)) if layout else None)


def request_in(path: Path, found: FoundWorkspace | None) -> PipelineRequest:
    """Return the request for all steps of a saved notebook; a trusted workspace's parse cache is used."""
    path = absolute(path)
    notebook = read_notebook(path)
    if found is None or found.distrust:
        reading = parse_cells(notebook.cells)
    else:
        cache = ParseCache(found.layout.readings, time.time())
        reading = (cache.read if is_marked(found.layout.root) else cache.recall)(path, notebook.cells)
    cells = frozenset(cell.id for cell in notebook.cells if cell.id)
    return PipelineRequest(str(path), reading, path.parent, notebook.kernel, cells=cells)
