"""The history of a workspace: one database, with a repository for each concern."""

from __future__ import annotations

from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Self

from sqlalchemy import false, update

from nbpipe.entry_points import load_entry_point
from nbpipe.history.attempts import AttemptRepository
from nbpipe.history.claims import ClaimRepository
from nbpipe.history.database import Database, DatabaseSnapshot, is_ours
from nbpipe.history.datasets import DatasetRepository
from nbpipe.history.digest_cache import DigestRepository
from nbpipe.history.event_log import EventLog
from nbpipe.history.executions import ExecutionRepository
from nbpipe.history.lost_runs import LostRunRepository
from nbpipe.history.object_digests import ObjectDigestRepository
from nbpipe.history.pipelines import PipelineRepository
from nbpipe.history.results import ResultRepository
from nbpipe.history.runs import RunRepository
from nbpipe.history.schema import meta
from nbpipe.history.schema_version import create_or_check

if TYPE_CHECKING:
    from nbpipe.history.condemnation import CondemnationRepository
    from nbpipe.history.deliveries import DeliveryRepository
    from nbpipe.history.retention import RetentionRepository

# Loaded by their names: an unchanged plan needs none of them.
_CONDEMNATION = "nbpipe.history.condemnation:CondemnationRepository"
_DELIVERIES = "nbpipe.history.deliveries:DeliveryRepository"
_RETENTION = "nbpipe.history.retention:RetentionRepository"


class History:
    """What happened in a workspace, and who computes what now.

    Each method of its repositories is one short transaction (reads see a consistent snapshot) and thread-safe. Times
    are passed in as seconds since the epoch, owners are opaque. A forked process must open its own history.

    Only verification and repair inspect, rebuild or salvage a history: they make those repositories from ``database``.
    """

    def __init__(self, database: Database) -> None:
        self.database = database
        self.pipelines = PipelineRepository(database)
        self.runs = RunRepository(database)
        self.executions = ExecutionRepository(database)
        self.attempts = AttemptRepository(database)
        self.log = EventLog(database)
        self.results = ResultRepository(database)
        self.claims = ClaimRepository(database)
        self.lost_runs = LostRunRepository(database)
        self.digests = DigestRepository(database)
        self.datasets = DatasetRepository(database)
        self.object_digests = ObjectDigestRepository(database)

    @cached_property
    def deliveries(self) -> DeliveryRepository:
        """What was delivered to datastores."""
        repository: DeliveryRepository = load_entry_point(_DELIVERIES)(self.database)
        return repository

    @cached_property
    def condemnation(self) -> CondemnationRepository:
        """What is to be deleted."""
        repository: CondemnationRepository = load_entry_point(_CONDEMNATION)(self.database)
        return repository

    @cached_property
    def retention(self) -> RetentionRepository:
        """What is kept and what was collected."""
        repository: RetentionRepository = load_entry_point(_RETENTION)(self.database)
        return repository

    @classmethod
    def open(cls, path: Path, *, shares_memory: bool = True) -> Self:
        """Return the history in this file, created if it is missing.

        ``shares_memory`` says whether all who open the file share its mapped memory, as on a local disk. Raise
        HistoryOutOfReach if it cannot be read and written: damaged, read-only, with another schema, or locked for too
        long.
        """
        return cls._opened(Database(path, shares_memory=shares_memory))

    @classmethod
    def read(cls, path: Path, *, shares_memory: bool = True) -> Self:
        """Return the history in this file for reading.

        The owner of the file gets the history itself if he may write it. All others get a private copy, of a missing
        file an empty one, and leave nothing behind.
        """
        if is_ours(path) and path.exists():
            return cls.open(path, shares_memory=shares_memory)
        return cls.copied(path)

    @classmethod
    def copied(cls, path: Path) -> Self:
        """Return a private copy of the history in this file: nothing is written to the file or beside it."""
        return cls._opened(DatabaseSnapshot(path))

    @classmethod
    def _opened(cls, database: Database) -> Self:
        opened = False
        try:
            with database.writing() as connection:
                create_or_check(connection, database.path)
                # SQLite opens a read-only file without an error; this changes nothing, and fails there at once.
                connection.execute(update(meta).where(false()).values(value=""))
            database.settle()
            opened = True
        finally:
            if not opened:
                database.close()
        return cls(database)

    @property
    def is_private(self) -> bool:
        """Return whether writes are visible to this process only."""
        return self.database.is_private

    def is_in_place(self) -> bool:
        """Return whether the opened file was neither deleted nor replaced since."""
        return self.database.is_in_place()

    def close(self) -> None:
        """Close the database."""
        self.database.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()
