"""The results of queries, read from a database as Arrow tables; a query never changes anything there."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlsplit

from nbpipe.data.stores.credentials import credential_values
from nbpipe.data.value_types import library
from nbpipe.errors import BadData, DatastoreUnavailable, NbpipeError, StoreOutOfReach
from nbpipe.model.datastores import DatastoreConfiguration


def read_table(configuration: DatastoreConfiguration, environment: Mapping[str, str], query: str) -> Any:
    """Return a query's result as an Arrow table.

    Raise BadData if the query fails or a column has no single type, StoreOutOfReach if the database cannot be used.
    """
    names, rows = _result(configuration, environment, query)
    if not names:
        raise BadData("the statement has no result", "A query begins with SELECT.")
    repeated = sorted({name for name in names if names.count(name) > 1})
    if repeated:
        raise BadData(f"the query has two columns called `{repeated[0]}`", f"Rename one: … AS {repeated[0]}_2")
    columns = [_column(name, [row[at] for row in rows]) for at, name in enumerate(names)]
    return library("pyarrow").table(columns, names=names)


def read_value(configuration: DatastoreConfiguration, environment: Mapping[str, str], query: str) -> str:
    """Return the one value of a query as text; raise BadData if it has another number of values."""
    _, rows = _result(configuration, environment, query)
    if len(rows) != 1 or len(rows[0]) != 1:
        raise BadData("the query for the version does not give one value", "For example: SELECT max(updated_at) FROM t")
    return str(rows[0][0])


def _column(name: str, values: Sequence[Any]) -> Any:
    pyarrow = library("pyarrow")
    try:
        column = pyarrow.array(values)
    except (pyarrow.ArrowException, TypeError, ValueError) as error:
        message = f"column `{name}` of the query has values of several types: {str(error).splitlines()[0][:150]}"
        raise BadData(message, f"Give it one type: CAST({name} AS TEXT) AS {name}") from error
    return column.cast(pyarrow.string()) if pyarrow.types.is_null(column.type) else column


def _result(
    configuration: DatastoreConfiguration, environment: Mapping[str, str], query: str
) -> tuple[list[str], list[tuple[Any, ...]]]:
    """Return the names of a result's columns, and its rows."""
    connect = _CONNECT[urlsplit(configuration.url).scheme]
    with connect(configuration, environment) as connection, closing(connection.cursor()) as cursor:
        cursor.execute(query)
        described = cursor.description or ()
        return [column[0] for column in described], cursor.fetchall() if described else []


@contextmanager
def _sqlite(configuration: DatastoreConfiguration, _environment: Mapping[str, str]) -> Iterator[Any]:
    path = Path(configuration.url.removeprefix("sqlite:///"))
    if not path.is_file():
        message = f"the database `{configuration.name}` is not there: {path}"
        raise StoreOutOfReach(message, "Correct its `url` in nbpipe.toml.")
    try:
        with closing(sqlite3.connect(f"file:{quote(str(path))}?mode=ro", uri=True)) as connection:
            connection.execute("PRAGMA query_only = ON")
            yield connection
    except sqlite3.Error as error:
        raise _failed(configuration, error) from None


@contextmanager
def _postgresql(configuration: DatastoreConfiguration, environment: Mapping[str, str]) -> Iterator[Any]:
    values = credential_values(configuration, environment)
    try:
        psycopg = library("psycopg")
    except ImportError:
        message = f"the datastore `{configuration.name}` needs psycopg, which is not installed"
        raise DatastoreUnavailable(message, "Run: pip install 'nbpipe[postgresql]'") from None
    try:
        with closing(psycopg.connect(configuration.url, **values)) as connection:
            connection.read_only = True
            yield connection
    except psycopg.errors.ConnectionFailure as error:
        raise _out_of_reach(configuration, error) from None
    except psycopg.OperationalError as error:
        # Without a state of its own it is about the connection.
        raise (_failed if error.sqlstate else _out_of_reach)(configuration, error) from None
    except psycopg.Error as error:
        raise _failed(configuration, error) from None


_CONNECT: Mapping[str, Callable[..., Any]] = {"sqlite": _sqlite, "postgresql": _postgresql}


def _out_of_reach(configuration: DatastoreConfiguration, error: Exception) -> NbpipeError:
    message = f"the database `{configuration.name}` is out of reach ({configuration.url}): {_reason(error)}"
    return StoreOutOfReach(message, "Check its address and its credentials.")


def _failed(configuration: DatastoreConfiguration, error: Exception) -> NbpipeError:
    return BadData(f"the query of the database `{configuration.name}` fails: {_reason(error)}", "Correct the query.")


def _reason(error: Exception) -> str:
    lines = str(error).strip().splitlines()
    return lines[0][:200] if lines else type(error).__name__
