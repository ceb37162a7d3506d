"""What a database consists of: the tables and indexes of a history, and nothing that acts when they are used.

A view, a trigger or a virtual table computes something whenever a row is read or written: it may say anything, or never
end. A history has none. The statement of an object decides what it is, not the type that stands beside it.
"""

from __future__ import annotations

from collections.abc import Iterable

from nbpipe.history.schema import metadata

STATEMENTS = "SELECT name, sql FROM sqlite_master WHERE sql IS NOT NULL"
_PASSIVE = ("CREATE TABLE ", "CREATE INDEX ", "CREATE UNIQUE INDEX ")

Statements = Iterable[tuple[str, str]]


def acting_objects(statements: Statements) -> list[str]:
    """Return the names of the objects that are neither tables nor indexes."""
    return [str(name) for name, statement in statements if not str(statement).startswith(_PASSIVE)]


def real_tables(statements: Statements) -> set[str]:
    """Return the names of a history's tables that are tables."""
    made = [str(statement) for _, statement in statements]
    return {name for name in metadata.tables if any(each.startswith(f"CREATE TABLE {name} (") for each in made)}
