"""A workspace on disk, open: its services, its verification, and requests for its notebooks."""

from __future__ import annotations

import dataclasses
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Self

from nbpipe.data.datastores import DEFAULT_STORE, LocalStore
from nbpipe.data.digests import NoDigestCache
from nbpipe.data.file_pinning import PersistentDigestCache
from nbpipe.data.file_systems import shares_memory
from nbpipe.data.materializer import Materializer
from nbpipe.errors import BadUsage, HistoryDamaged
from nbpipe.history.database import is_ours
from nbpipe.history.store import History
from nbpipe.language.notebook_file import read_notebook
from nbpipe.language.notebook_parser import parse_cells
from nbpipe.model import ExecutionRecord, RunRecord
from nbpipe.resolve.parse_cache import ParseCache
from nbpipe.resolve.resolved_request import PipelineRequest
from nbpipe.resolve.workspace_layout import WorkspaceLayout, absolute, find_workspace, make_workspace, write_settings
from nbpipe.run.runner_client import launch
from nbpipe.run.submission import Submission
from nbpipe.run.verification import VerificationProblem, VerificationReport, verify_workspace
from nbpipe.run.workspace_repair import misplaced, rebuild_history, set_aside
from nbpipe.workspace.catalog import Catalog
from nbpipe.workspace.context import WorkspaceContext
from nbpipe.workspace.plans import Plans
from nbpipe.workspace.results import Results
from nbpipe.workspace.runs import Runs


@dataclass(slots=True)
class Workspace:
    """One workspace on disk, open, with a service for each concern. Use it as a context manager, or ``close`` it."""

    context: WorkspaceContext
    catalog: Catalog
    plans: Plans
    runs: Runs
    results: Results

    @classmethod
    def open(cls, near: Path, named: Path | None = None) -> Self:
        """Return the workspace of a notebook in folder ``near``, or the one named, opened; it is made if absent."""
        layout = find_workspace(near, named)
        make_workspace(layout)
        return cls._opened(layout, History.open(layout.database, shares_memory=shares_memory(layout.database)))

    @classmethod
    def read(cls, near: Path, named: Path | None = None) -> Self:
        """Return the workspace, opened to look into it; in another user's, nothing is written."""
        layout = find_workspace(near, named)
        if is_ours(layout.database):
            make_workspace(layout)
        return cls._opened(layout, History.read(layout.database, shares_memory=shares_memory(layout.database)))

    @classmethod
    def _opened(cls, layout: WorkspaceLayout, history: History) -> Self:
        digests = PersistentDigestCache(history.digests.recall, history.digests.remember, time.time)
        materializer = Materializer({DEFAULT_STORE: LocalStore(layout.store)})
        context = WorkspaceContext(layout, history, materializer, digests)
        context.recover()
        catalog = Catalog(context)
        plans = Plans(context, catalog)
        runs = Runs(context, catalog, plans)
        return cls(context, catalog, plans, runs, Results(context, catalog, runs))

    @classmethod
    def create(cls, folder: Path, named: Path | None = None) -> Self:
        """Make a workspace in a folder, with a settings file if it has none, and open it."""
        if not folder.is_dir():
            raise BadUsage(f"there is no folder {folder}", "Make it first.")
        write_settings(folder)
        return cls.open(folder, named)

    @property
    def layout(self) -> WorkspaceLayout:
        """Where the workspace lies on disk."""
        return self.context.layout

    @property
    def materializer(self) -> Materializer:
        """What turns references to stored outputs into paths and addresses."""
        return self.context.materializer

    @property
    def is_in_place(self) -> bool:
        """Return whether the workspace was neither deleted nor replaced since it was opened."""
        return self.context.history.is_in_place()

    def now(self) -> float:
        """Return the time, in seconds since the epoch."""
        return self.context.clock()

    def close(self) -> None:
        """Write what is remembered and close the run store."""
        try:
            self.context.digests.flush()
        finally:
            self.context.history.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def launch(self, submission: Submission) -> tuple[RunRecord, list[ExecutionRecord]]:
        """Hand a run to a process of its own, and return it once it has begun; what keeps it from that is raised.

        Its lifetime says what becomes of it when this process ends.
        """
        return self.runs.show(launch(dataclasses.replace(submission, environ=dict(self.context.environ))))

    @classmethod
    def verify(
        cls, near: Path, named: Path | None = None, *, full: bool = False, repair: bool = False
    ) -> VerificationReport:
        """Return whether all that is recorded is there, all bytes read again with ``full``.

        With ``repair`` what is wrong is offered no more, and a lost or damaged history is made anew from kept results.
        """
        layout = find_workspace(near, named)
        damaged = [VerificationProblem(str(path), said) for path, said in misplaced(layout)]
        if repair:
            for path, _ in list(misplaced(layout)):
                set_aside(path)
        wrong = _history_damage(layout, repair=repair)
        if wrong and repair:
            rebuild_history(layout, shares_memory(layout.database), time.time())
        damaged += [VerificationProblem("history", said) for said in wrong]
        with cls.open(near, named) as workspace:
            context = workspace.context
            digests = NoDigestCache() if full else context.digests
            report = verify_workspace(
                context.history, context.materializer, layout, digests, repair=repair, now=context.clock()
            )
        return dataclasses.replace(report, problems=(*damaged, *report.problems))


def _history_damage(layout: WorkspaceLayout, *, repair: bool) -> list[str]:
    """Return what is wrong in the database; raise HistoryDamaged if it cannot be opened, unless it is repaired."""
    make_workspace(layout)
    try:
        with History.open(layout.database, shares_memory=shares_memory(layout.database)) as history:
            return history.damage()
    except HistoryDamaged as error:
        if not repair:
            raise
        return [error.message]


def request_for(path: Path, place: WorkspaceLayout | None = None) -> PipelineRequest:
    """Return the request for all steps of a saved notebook; a workspace remembers how the notebook was read before."""
    path = absolute(path)
    notebook = read_notebook(path)
    reading = (
        ParseCache(place.readings, time.time()).read(path, notebook.cells) if place else parse_cells(notebook.cells)
    )
    cells = frozenset(cell.id for cell in notebook.cells if cell.id)
    return PipelineRequest(str(path), reading, path.parent, notebook.kernel, cells=cells)
