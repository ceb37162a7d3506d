"""Edits of a table that are applied to each of its files when it is read."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from nbpipe.data.value_types import library
from nbpipe.errors import BadUsage
from nbpipe.language.source_text import nearest

_POSITION = "__nbpipe_position__"


@dataclass(frozen=True, slots=True)
class FilterRows:
    """Keep the rows for which an Arrow expression holds, and whose columns have these values."""

    expression: Any
    equal: Mapping[str, Any]

    def apply(self, table: Any) -> Any:
        """Return the rows that are kept."""
        compute = library("pyarrow.compute")
        for column, value in self.equal.items():
            _require_columns(table, [column])
            with _comparing(table, column, value):
                table = table.filter(compute.field(column) == library("pyarrow").scalar(value))
        if self.expression is None:
            return table
        if not isinstance(self.expression, compute.Expression):
            hint = "Build one, for example: pyarrow.compute.field('price') > 10"
            raise BadUsage(f"{self.expression!r:.80} is not an Arrow expression", hint)
        return table.filter(self.expression)


@dataclass(frozen=True, slots=True)
class SelectColumns:
    """Keep these columns, or drop them."""

    columns: tuple[str, ...]
    drops: bool

    def apply(self, table: Any) -> Any:
        """Return the table with the columns that are kept."""
        _require_columns(table, self.columns)
        if self.drops:
            return table.drop_columns(list(self.columns))
        hidden = [name for name in table.schema.names if name == _POSITION]
        return table.select([*self.columns, *hidden])


@dataclass(frozen=True, slots=True)
class RowsBetween:
    """Keep the rows whose column is between two values, both included; None leaves that side open."""

    column: str
    start: Any
    end: Any

    def apply(self, table: Any) -> Any:
        """Return the rows that are kept."""
        _require_columns(table, [self.column])
        pyarrow, field = library("pyarrow"), library("pyarrow.compute").field(self.column)
        type_ = table.schema.field(self.column).type
        if self.start is not None:
            with _comparing(table, self.column, self.start):
                table = table.filter(field >= pyarrow.scalar(self.start).cast(type_))
        if self.end is not None:
            with _comparing(table, self.column, self.end):
                table = table.filter(field <= pyarrow.scalar(self.end).cast(type_))
        return table


@dataclass(frozen=True, slots=True)
class SampleRows:
    """Keep a share of the rows, chosen by their file and their place in it; ``rest`` keeps the others."""

    share: float
    seed: int
    rest: bool = False

    def apply(self, table: Any) -> Any:
        """Return the rows that are kept."""
        numpy = library("numpy")
        with numpy.errstate(over="ignore"):
            mixed = table.column(_POSITION).to_numpy() + numpy.uint64(_number(str(self.seed)))
            # The finalizer of splitmix64: neighbouring numbers become independent ones.
            mixed = (mixed ^ (mixed >> numpy.uint64(30))) * numpy.uint64(0xBF58476D1CE4E5B9)
            mixed = (mixed ^ (mixed >> numpy.uint64(27))) * numpy.uint64(0x94D049BB133111EB)
            mixed ^= mixed >> numpy.uint64(31)
        chosen = mixed < numpy.float64(self.share) * 2.0**64
        return table.filter(library("pyarrow").array(chosen != self.rest))


TableEdit = FilterRows | SelectColumns | RowsBetween | SampleRows


def edited(table: Any, name: str, edits: Sequence[TableEdit]) -> Any:
    """Return the rows of the file called ``name``, edited."""
    if any(isinstance(edit, SampleRows) for edit in edits):
        numpy = library("numpy")
        # Far apart, so that the places in two files are different numbers.
        with numpy.errstate(over="ignore"):
            places = numpy.arange(table.num_rows, dtype="uint64") + numpy.uint64(_number(name))
        table = table.append_column(_POSITION, library("pyarrow").array(places))
    for edit in edits:
        table = edit.apply(table)
    return table.drop_columns([_POSITION]) if _POSITION in table.schema.names else table


def _number(text: str) -> int:
    return int.from_bytes(hashlib.blake2b(text.encode(), digest_size=8).digest(), "big")


@contextmanager
def _comparing(table: Any, column: str, value: Any) -> Iterator[None]:
    """Raise BadUsage if a value cannot be compared with those of a column."""
    try:
        yield
    except library("pyarrow").ArrowException as error:
        message = (
            f"{value!r:.80} cannot be compared with the column `{column}`, which is {table.schema.field(column).type}"
        )
        raise BadUsage(message, "Give a value of that type.") from error


def _require_columns(table: Any, columns: Sequence[str]) -> None:
    names = [name for name in table.schema.names if name != _POSITION]
    for column in columns:
        if column not in names:
            hint = nearest(column, names) or f"There are: {', '.join(names[:20])}."
            raise BadUsage(f"there is no column `{column}`", hint)
