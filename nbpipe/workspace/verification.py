"""Verification and repair of a workspace: its outputs, its files and its history."""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Sequence
from pathlib import Path

from nbpipe.data.digests import NoDigestCache
from nbpipe.data.file_system_kind import shares_memory
from nbpipe.errors import HistoryDamaged
from nbpipe.history.inspection import InspectionRepository
from nbpipe.history.store import History
from nbpipe.resolve.found_workspace import look_up_workspace
from nbpipe.resolve.workspace_layout import WorkspaceLayout, make_workspace, require_writable
from nbpipe.run.verification import VerificationProblem, VerificationReport, verify_records
from nbpipe.run.workspace_repair import misplaced, rebuild_history, set_aside
from nbpipe.workspace.workspace import Workspace


def verify_workspace(
    near: Path, named: Path | None = None, *, full: bool = False, repair: bool = False
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
    with (Workspace.open_found if repair else Workspace.read_found)(found) as workspace:
        if not repair:
            damaged += _history_problems(workspace.context.history)
        context = workspace.context
        digests = NoDigestCache() if full else context.digests
        if full:
            context.materializer.doubt()
        report = verify_records(
            context.history, context.materializer, layout, digests, full=full, repair=repair, now=context.clock()
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
