"""The history of a workspace, as one object."""

from __future__ import annotations

from pathlib import Path
from typing import Self

from sqlalchemy import false, update

from nbpipe.history.archive import Archive
from nbpipe.history.attempts import Attempts
from nbpipe.history.claims import Claims
from nbpipe.history.database import Copy, Database, is_ours
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
    def open(cls, url_or_path: Path) -> Self:
        """Get the history kept in this file, made if it is not there yet.

        HistoryOutOfReach when it cannot be read and written: damaged, read-only, of a newer nbpipe, held for too long.
        """
        return cls._opened(Database(url_or_path))

    @classmethod
    def read(cls, path: Path) -> Self:
        """Return what the history in this file tells, for which reading it is enough.

        Whoever owns the file has the history itself. Anybody else has a private copy, and leaves nothing behind.
        """
        return cls.open(path) if is_ours(path) else cls._opened(Copy(path))

    @classmethod
    def _opened(cls, database: Database) -> Self:
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
