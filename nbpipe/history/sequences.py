"""Numbers that only grow, whatever is deleted."""

from __future__ import annotations

from functools import cache

from sqlalchemy import Connection, bindparam, update

from nbpipe.errors import REPAIR, HistoryDamaged
from nbpipe.history.schema import counters

# Far more than any workspace counts, and far less than a database can count up to.
_MOST = 1_000_000_000

_NEXT = cache(
    lambda: (
        update(counters)
        .where(counters.c.name == bindparam("counter"))
        .values(value=counters.c.value + 1)
        .returning(counters.c.value)
    )
)


def is_plausible(number: int) -> bool:
    """Return whether a workspace may have counted up to a number, so that there is room for more."""
    return number <= _MOST


def raise_to(connection: Connection, name: str, value: int) -> None:
    """Raise the counter to at least this value."""
    low = (counters.c.name == name) & (counters.c.value < value)
    connection.execute(update(counters).where(low).values(value=value))


def next_number(connection: Connection, name: str) -> int:
    """Return the counter's next value; two writers never get the same one."""
    number: int | None = connection.scalar(_NEXT(), {"counter": name})
    if number is None:
        raise HistoryDamaged(f"the history is damaged: it does not count any {name} more", REPAIR)
    return number
