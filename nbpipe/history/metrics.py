"""The numbers that steps logged, by name."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict

from sqlalchemy import select

from nbpipe.history.database import Part, insert_absent
from nbpipe.history.schema import metrics
from nbpipe.model import Metric


class Metrics(Part):
    """What running steps measured."""

    def put_metrics(self, found: Sequence[Metric]) -> None:
        """Keep the metrics; one that is kept already stays."""
        if found:
            with self._database.writing() as connection:
                insert_absent(connection, metrics, [{**asdict(each), "value": repr(each.value)} for each in found])

    def metrics(self, run: str, step: str | None = None) -> list[Metric]:
        """Get the metrics of a run, or of one of its steps, in the order in which they were logged."""
        wanted = select(metrics).where(metrics.c.run == run)
        if step is not None:
            wanted = wanted.where(metrics.c.step == step)
        with self._database.reading() as connection:
            rows = connection.execute(wanted.order_by(metrics.c.step, metrics.c.time, metrics.c.number)).all()
            return [
                Metric(row.run, row.step, row.attempt, row.number, row.name, float(row.value), row.at, row.time)
                for row in rows
            ]
