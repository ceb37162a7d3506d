"""Numbers that only grow, whatever is deleted."""

from __future__ import annotations

from sqlalchemy import Connection, update

from nbpipe.errors import REPAIR, HistoryDamaged
from nbpipe.history.schema import counters


def raise_to(connection: Connection, name: str, value: int) -> None:
    """Raise the counter to at least this value."""
    low = (counters.c.name == name) & (counters.c.value < value)
    connection.execute(update(counters).where(low).values(value=value))


def next_number(connection: Connection, name: str) -> int:
    """Return the counter's next value; two writers never get the same one."""
    step = update(counters).where(counters.c.name == name).values(value=counters.c.value + 1)
    number: int | None = connection.scalar(step.returning(counters.c.value))
    if number is None:
        raise HistoryDamaged(f"the history is damaged: it does not count any {name} more", REPAIR)
    return number
