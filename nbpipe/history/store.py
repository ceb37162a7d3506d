"""The history of a workspace, as one object."""

from __future__ import annotations

from pathlib import Path
from typing import Self

from sqlalchemy import false, update

from nbpipe.history.archive import Archive
from nbpipe.history.attempts import Attempts
from nbpipe.history.claims import Claims
from nbpipe.history.database import Database
from nbpipe.history.metrics import Metrics
from nbpipe.history.migrations import migrate
from nbpipe.history.recovery import Recovery
from nbpipe.history.remembered import Memory
from nbpipe.history.results import Results
from nbpipe.history.runs import Runs
from nbpipe.history.schema import meta
from nbpipe.history.steps import Steps


class History(Runs, Steps, Attempts, Results, Claims, Recovery, Memory, Archive, Metrics):
    """What happened in a workspace, and who computes what at present.

    Each method is one short transaction of its own (the reading ones see one moment); any thread may call it. Times are
    handed in as seconds since the epoch, owners are opaque. A process that forks must open its own.
    """

    @classmethod
    def open(cls, path: Path, *, shares_memory: bool = True) -> Self:
        """Get the history kept in this file, made if it is not there yet.

        ``shares_memory`` tells whether all who open the file share its mapped memory, as on a disk of this machine.
        HistoryOutOfReach when it cannot be read and written: damaged, read-only, of a newer nbpipe, held for too long.
        """
        database = Database(path, shares_memory=shares_memory)
        opened = False
        try:
            with database.writing() as connection:
                migrate(connection, database.path)
                # SQLite opens a read-only file without a word; this changes nothing and fails there at once.
                connection.execute(update(meta).where(false()).values(value=""))
            database.settle()
            opened = True
        finally:
            if not opened:
                database.close()
        return cls(database)
