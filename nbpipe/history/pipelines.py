"""The pipelines of the workspace, and the last known paths of their notebooks."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from sqlalchemy import Connection, insert, select, update

from nbpipe.history.database import Repository
from nbpipe.history.row_mapping import pipeline_from, pipeline_to_row
from nbpipe.history.schema import pipelines
from nbpipe.model import PipelineRecord


class PipelineRepository(Repository):
    """The pipelines of the workspace."""

    def at(self, notebook: str) -> PipelineRecord | None:
        """Return the pipeline whose notebook's last known path is this."""
        with self._database.reading() as connection:
            row = connection.execute(select(pipelines).where(pipelines.c.notebook == notebook)).first()
            return None if row is None else pipeline_from(row)

    def all(self) -> Sequence[PipelineRecord]:
        """Return all pipelines."""
        with self._database.reading() as connection:
            return [pipeline_from(row) for row in connection.execute(select(pipelines).order_by(pipelines.c.id))]


def register(connection: Connection, record: PipelineRecord) -> str:
    """Write the pipeline of a run that begins, inside the caller's transaction, and return its id.

    Two first runs of a notebook may begin at once, each with a new pipeline: the second one joins the first one's.
    """
    others = select(pipelines.c.id).where(pipelines.c.notebook == record.notebook, pipelines.c.id != record.id)
    known = connection.scalar(select(pipelines.c.id).where(pipelines.c.id == record.id))
    present = connection.scalar(others) if known is None else None
    if present is not None:
        record = replace(record, id=present)
    keep(connection, record)
    return record.id


def keep(connection: Connection, record: PipelineRecord) -> None:
    """Write a pipeline inside the caller's transaction, if it is new or has changed."""
    row = connection.execute(select(pipelines).where(pipelines.c.id == record.id)).first()
    if row is None:
        connection.execute(insert(pipelines).values(pipeline_to_row(record)))
    elif pipeline_from(row) != record:
        values = pipeline_to_row(record)
        del values["id"]
        connection.execute(update(pipelines).where(pipelines.c.id == record.id).values(values))
