"""What a process reads of its database does not drop the locks that it holds on it.

POSIX locks belong to a process: they are gone when it closes any descriptor of the file, also one that it only read.
Another process that closes the database then deletes the log that this one goes on to write.
"""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from sample_history import begin, put, record

from nbpipe.history.database import is_ours
from nbpipe.history.database_copy import copy_database, state_of
from nbpipe.history.database_identity import require_own
from nbpipe.history.inspection import InspectionRepository
from nbpipe.history.store import History
from nbpipe.model import Status
from nbpipe.workspace import Workspace
from nbpipe.workspace.verification import verify_workspace

# SQLite's shared lock on a database, and the lock on its shared memory that says that it is in use.
_LOCKS = {"": (0x40000002, 510), "-shm": (128, 1)}
_TRY = """
import fcntl, sys
with open(sys.argv[1], "r+b") as file:
    try:
        fcntl.lockf(file, fcntl.LOCK_EX | fcntl.LOCK_NB, int(sys.argv[3]), int(sys.argv[2]))
    except OSError:
        sys.exit(3)
"""

_REOPEN = """
import pathlib, sys
from nbpipe.history.store import History
History.open(pathlib.Path(sys.argv[1])).close()
"""


def in_use(path: Path) -> bool:
    """Return whether this process still holds SQLite's locks, as another process sees it."""
    for kind, (start, length) in _LOCKS.items():
        command = [sys.executable, "-c", _TRY, f"{path}{kind}", str(start), str(length)]
        if subprocess.run(command, check=False).returncode != 3:
            return False
    return True


def reopened(path: Path) -> None:
    History.open(path).close()


def opened_in_a_workspace(path: Path) -> None:
    with Workspace.open(path.parent.parent) as workspace:
        workspace.context.history.runs.newest()


def copied(path: Path) -> None:
    with History.copied(path) as history:
        assert history.runs.get("x") is not None


def copied_as_a_file(path: Path) -> None:
    copy_database(path, path.with_name("copy"))


def inspected(path: Path) -> None:
    with History.open(path) as history:
        assert InspectionRepository(history.database).damage() == []


def verified(path: Path) -> None:
    verify_workspace(path.parent.parent)


def looked_at(path: Path) -> None:
    require_own(path)
    state_of(path)
    is_ours(path)


@pytest.mark.parametrize(
    "look", [reopened, opened_in_a_workspace, copied, copied_as_a_file, inspected, verified, looked_at],
    ids=lambda look: look.__name__,
)  # fmt: skip
def test_what_this_process_reads_of_a_database_leaves_its_locks(tmp_path, look: Callable[[Path], None]):
    path = tmp_path / ".nbpipe" / "history.db"
    with Workspace.open(tmp_path) as workspace:
        begin(workspace.context.history, "x")
        assert in_use(path)

        look(path)

        assert in_use(path)


@pytest.mark.parametrize("look", [reopened, copied], ids=lambda look: look.__name__)
def test_nothing_is_lost_when_another_process_closes_the_database_meanwhile(tmp_path, look: Callable[[Path], None]):
    path = tmp_path / ".nbpipe" / "history.db"
    with History.open(path) as history:
        begin(history, "x")
        look(path)
        subprocess.run([sys.executable, "-c", _REOPEN, str(path)], check=True)
        put(history, record("x", "a", Status.RUNNING))

        assert os.path.lexists(f"{path}-wal")
        with History.copied(path) as others:
            assert [each.step for each in others.executions.of_run("x")] == ["a"]
