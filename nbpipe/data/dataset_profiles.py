"""Profiles of tables: for each column its missing values, range, quantiles, and its most frequent values."""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import Any

from nbpipe.data.dataset_edits import SampleRows, edited
from nbpipe.data.value_types import library
from nbpipe.model.datasets import ColumnProfile, TableProfile

LIMIT = 1_000_000
"""The number of rows above which about so many of them are looked at."""

_QUANTILES = (0.25, 0.5, 0.75)
_TOP = 5
_LONGEST = 80


def profile_of(tables: Iterable[tuple[str, Any]], rows: int, limit: int = LIMIT) -> TableProfile:
    """Return the profile of a table of so many ``rows``; its parts come with the names of their files."""
    edits = [SampleRows(limit / rows, seed=0)] if rows > limit else []
    parts = [edited(table, name, edits) for name, table in tables]
    table = library("pyarrow").concat_tables(parts)
    columns = tuple(_column(field.name, str(field.type), table.column(field.name)) for field in table.schema)
    return TableProfile(rows, table.num_rows, columns)


def _column(name: str, type_: str, values: Any) -> ColumnProfile:
    compute, types = library("pyarrow.compute"), library("pyarrow").types
    nulls = values.null_count
    if types.is_dictionary(values.type):
        values = values.cast(values.type.value_type)
    if types.is_nested(values.type) or types.is_null(values.type):
        return ColumnProfile(name, type_, nulls)
    distinct = compute.count_distinct(values).as_py()
    lowest = highest = None
    if not types.is_binary(values.type):
        extremes = compute.min_max(values).as_py()
        lowest, highest = _plain(extremes["min"]), _plain(extremes["max"])
    quantiles: tuple[float, ...] = ()
    if types.is_integer(values.type) or types.is_floating(values.type):
        found = compute.tdigest(values, q=list(_QUANTILES)).to_pylist()
        quantiles = tuple(value for value in found if value is not None and math.isfinite(value))
    counted = compute.value_counts(values.drop_null()).to_pylist()
    top = sorted(counted, key=lambda each: -each["counts"])[:_TOP]
    frequent = tuple((_plain(each["values"]), each["counts"]) for each in top if each["counts"] > 1)
    return ColumnProfile(name, type_, nulls, lowest, highest, quantiles, distinct, frequent)


def _plain(value: Any) -> str | int | float | bool | None:
    if value is None or isinstance(value, bool | int):
        return value
    if isinstance(value, float):
        return value if math.isfinite(value) else str(value)
    text = value if isinstance(value, str) else str(value)
    return text if len(text) <= _LONGEST else f"{text[:_LONGEST]}…"
