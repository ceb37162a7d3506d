"""The repair of a workspace's files: what is not as nbpipe writes it is set aside, and written again if possible."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterable, Iterator
from pathlib import Path

from nbpipe.data.executed_notebook import damage_of_executed
from nbpipe.errors import HistoryOutOfReach, StoreOutOfReach
from nbpipe.history.database_files import beside
from nbpipe.history.rebuild_archive import ArchivedRun, ArchiveRepository
from nbpipe.history.salvage import SalvageRepository, damaged_database
from nbpipe.history.store import History
from nbpipe.resolve.workspace_layout import WorkspaceLayout
from nbpipe.run.archive_files import archived_runs, attempt_folders, keep_result, keep_run

_ASIDE = ".damaged-"
_NOTEBOOK = "notebook.ipynb"
# How deep the folders of the workspace are nbpipe's own: below lie the author's objects.
_DEPTHS = {"runs": 3, "store": 3, "readings": 0, "datasets": 1}


def misplaced(layout: WorkspaceLayout) -> Iterator[tuple[Path, str]]:
    """Yield each link, and each file in the place of a folder or the reverse, with the problem."""
    files = [layout.root / ".gitignore", layout.database, *beside(layout.database)]
    for path in files:
        if os.path.lexists(path) and not stat.S_ISREG(path.lstat().st_mode):
            yield path, "is not a file"
    for name, depth in _DEPTHS.items():
        yield from _misplaced_below(layout.root / name, depth)


def _misplaced_below(path: Path, depth: int) -> Iterator[tuple[Path, str]]:
    """Yield what is not a folder down to a depth, and the links in the last folders."""
    if not os.path.lexists(path):
        return
    if not stat.S_ISDIR(path.lstat().st_mode):
        yield path, "is not a folder"
        return
    for each in sorted(path.iterdir()):
        if _ASIDE in each.name or each.name.startswith("."):
            continue
        if each.is_symlink():
            yield each, "is a link"
        elif each.is_dir() and depth:
            yield from _misplaced_below(each, depth - 1)
        elif path.name in ("store", "objects") or path.parent.name == "objects":
            yield each, "is not a folder"
        elif each.suffix in _SUFFIXES and not each.is_file():
            yield each, "is not a file"


_SUFFIXES = (".json", ".jsonl", ".gz", ".ipynb", ".txt", ".zip")


def damaged_notebooks(layout: WorkspaceLayout, recorded: Iterable[tuple[str, str]]) -> Iterator[tuple[Path, str]]:
    """Yield the executed notebooks that are damaged, or are not those of the ``recorded`` digests, with the problem."""
    digests = {layout.root / reference: digest for reference, digest in recorded}
    for folder in attempt_folders(layout.runs):
        path = folder / _NOTEBOOK
        if os.path.lexists(path):
            problem = damage_of_executed(path, digests.get(path, ""))
            if problem is not None:
                yield path, problem


def set_aside(path: Path) -> Path:
    """Give a damaged file or folder another name, beside its own, and return that."""
    number = 1
    while os.path.lexists(aside := path.with_name(f"{path.name}{_ASIDE}{number}")):
        number += 1
    try:
        path.rename(aside)
    except OSError as error:
        raise StoreOutOfReach(f"the damaged {path} cannot be moved: {error.strerror}") from error
    return aside


def rebuild_history(layout: WorkspaceLayout, shares_memory: bool, now: float) -> None:  # noqa: FBT001
    """Set a damaged database aside, and create a new one from everything that is intact in it."""
    aside = _set_database_aside(layout)
    if aside is None or not aside.is_file() or aside.is_symlink():
        return
    try:
        with (
            damaged_database(aside) as damaged,
            History.open(layout.database, shares_memory=shares_memory) as history,
        ):
            SalvageRepository(history.database).take_over(damaged, archived_runs(layout), now)
    except HistoryOutOfReach:
        # The archived results alone will be restored.
        _set_database_aside(layout)


def _set_database_aside(layout: WorkspaceLayout) -> Path | None:
    """Move the database with the files beside it, which belong to it; return its new place."""
    database = layout.database
    if not os.path.lexists(database):
        for path in filter(os.path.lexists, beside(database)):
            set_aside(path)
        return None
    aside = set_aside(database)
    for path, target in zip(beside(database), beside(aside), strict=True):
        if os.path.lexists(path):
            path.rename(target)
    return aside


def rewrite_result(layout: WorkspaceLayout, history: History, path: Path) -> None:
    """Set the damaged record of an attempt aside, and write it again if the history has the attempt."""
    set_aside(path)
    result = ArchiveRepository(history.database).committed(path.parent.name)
    if result is not None and layout.path(result.attempt.directory) == path.parent:
        keep_result(layout, result)


def rewrite_run(layout: WorkspaceLayout, history: History, path: Path) -> None:
    """Set the damaged record of a run aside, and write it again if the history has the run."""
    set_aside(path)
    run = history.runs.get(path.parent.name)
    if run is None:
        return
    pipeline = next((each for each in history.pipelines.all() if each.id == run.pipeline), None)
    if pipeline is not None:
        keep_run(layout, ArchivedRun(run, pipeline))
