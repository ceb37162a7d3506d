"""The pipelines of the workspace, and the last known paths of their notebooks."""

from __future__ import annotations

from collections.abc import Sequence

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


def keep(connection: Connection, record: PipelineRecord) -> None:
    """Write a pipeline inside the caller's transaction, if it is new or has changed."""
    row = connection.execute(select(pipelines).where(pipelines.c.id == record.id)).first()
    if row is None:
        connection.execute(insert(pipelines).values(pipeline_to_row(record)))
    elif pipeline_from(row) != record:
        values = pipeline_to_row(record)
        del values["id"]
        connection.execute(update(pipelines).where(pipelines.c.id == record.id).values(values))
