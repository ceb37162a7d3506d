"""Tables in files, read as a recipe says: delimited text, Parquet, JSON lines, typed by the schema of all files.

Shipped to steps' kernels as source, so it imports only what is shipped beside it; Arrow when it is used.
"""

from __future__ import annotations

import base64
import codecs
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from nbpipe.data.partition_patterns import PartitionPattern, arrow_type
from nbpipe.data.value_types import library
from nbpipe.errors import BadData
from nbpipe.language.source_text import nearest
from nbpipe.model.datasets import DatasetRecipe, OnError, RecipeKind

TableFile = tuple[str, Path]
"""A file's path in its dataset, and where it is."""

_UTF8 = "utf-8"


@dataclass(frozen=True, slots=True)
class ScannedTable:
    """What all files of a table are together: their schema, the number of rows, and how many rows do not fit."""

    schema: Any
    rows: int
    skipped: int


def scan(files: Sequence[TableFile], recipe: DatasetRecipe) -> ScannedTable:
    """Read all files, and return their common schema; raise BadData, naming the file, if one cannot be read."""
    pyarrow = library("pyarrow")
    schemas = {name: _read(name, path, recipe, None)[0].schema for name, path in files}
    try:
        schema = pyarrow.unify_schemas(list(schemas.values()), promote_options="permissive")
    except (pyarrow.ArrowInvalid, pyarrow.ArrowTypeError):
        raise _disagreement(schemas) from None
    for column in recipe.types:
        if column not in schema.names:
            hint = nearest(column, schema.names) or f"There are: {', '.join(schema.names[:20])}."
            raise BadData(f"no file has the column `{column}`, which is given a type", hint)
    schema = _without_null_types(_without_metadata(schema))
    rows = skipped = 0
    for name, path in files:
        table, left_out = _read(name, path, recipe, schema)
        rows, skipped = rows + table.num_rows, skipped + left_out
    return ScannedTable(schema, rows, skipped)


def read_file(name: str, path: Path, recipe: DatasetRecipe, schema: Any) -> Any:
    """Return the rows of one file as an Arrow table with this schema; raise BadData if it cannot be read."""
    return _read(name, path, recipe, schema)[0]


def read_files(files: Sequence[TableFile], recipe: DatasetRecipe, schema: Any) -> Any:
    """Return the rows of all files as one Arrow table, in the order of the files."""
    tables = [read_file(name, path, recipe, schema) for name, path in files]
    return library("pyarrow").concat_tables(tables) if tables else schema.empty_table()


def write_table(table: Any, path: Path) -> None:
    """Write an Arrow table to a new file."""
    with (
        library("pyarrow").OSFile(str(path), "wb") as sink,
        library("pyarrow.ipc").new_file(sink, table.schema) as writer,
    ):
        writer.write_table(table)


def load(recipe: DatasetRecipe, schema: str, names: Sequence[str], paths: Sequence[Path]) -> Any:
    """Return the files of an input, with the names that they have in their dataset, as a pandas DataFrame."""
    return read_files(list(zip(names, paths, strict=True)), recipe, schema_from_text(schema)).to_pandas()


def recipe_from(payload: Mapping[str, Any]) -> DatasetRecipe:
    """Return the recipe in parsed JSON."""
    values = {**payload, "kind": RecipeKind(payload["kind"])}
    if "on_error" in payload:
        values["on_error"] = OnError(payload["on_error"])
    return DatasetRecipe(**values)


def schema_to_text(schema: Any) -> str:
    """Return an Arrow schema as text."""
    return base64.b64encode(schema.serialize().to_pybytes()).decode("ascii")


def schema_from_text(text: str) -> Any:
    """Return the Arrow schema that :func:`schema_to_text` wrote."""
    pyarrow = library("pyarrow")
    return library("pyarrow.ipc").read_schema(pyarrow.py_buffer(base64.b64decode(text)))


def _read(name: str, path: Path, recipe: DatasetRecipe, schema: Any) -> tuple[Any, int]:
    """Return a file's rows, of this schema unless it is None, and the number of rows that were left out."""
    pyarrow = library("pyarrow")
    pattern = PartitionPattern.of(recipe.partitions)
    own = None if schema is None else pyarrow.schema([field for field in schema if field.name not in pattern.names])
    try:
        table, skipped = _READERS[recipe.kind](name, path, recipe, own)
    except (pyarrow.ArrowException, UnicodeError, OSError) as error:
        raise _unreadable(name, recipe, error) from error
    twice = [name for name, count in Counter(table.schema.names).items() if count > 1]
    if twice:
        raise BadData(f"`{name}` has two columns `{twice[0]}`", "Give each column a name of its own.")
    if own is not None:
        table = _conformed(name, table, own)
    for column, value, type_ in pattern.values(name):
        table = table.append_column(column, pyarrow.array([value] * table.num_rows, type_))
    return (table if schema is None else table.select(schema.names)), skipped


def _delimited(name: str, path: Path, recipe: DatasetRecipe, schema: Any) -> tuple[Any, int]:
    csv = library("pyarrow.csv")
    invalid: list[Any] = []

    def took(row: Any) -> str:
        invalid.append(row)
        return "skip" if recipe.on_error is OnError.COUNT else "error"

    types = {field.name: field.type for field in schema} if schema is not None else _given_types(recipe)
    read = partial(
        csv.read_csv, path,
        parse_options=csv.ParseOptions(
            delimiter=recipe.delimiter, newlines_in_values=recipe.multi_line, invalid_row_handler=took
        ),
        convert_options=csv.ConvertOptions(column_types=types),
    )  # fmt: skip
    pyarrow = library("pyarrow")
    try:
        table = read(read_options=_csv_options(recipe, threads=True))
    except pyarrow.ArrowInvalid as error:
        if not invalid or recipe.on_error is OnError.COUNT:
            raise
        raise _ragged(name, _first_invalid(read, recipe, invalid)) from error
    binary = [field.name for field in table.schema if pyarrow.types.is_binary(field.type)]
    if binary:
        raise _wrong_encoding(name, recipe, f"column `{binary[0]}` has bytes that are not {recipe.encoding}")
    return table, len(invalid)


def _first_invalid(read: Callable[..., Any], recipe: DatasetRecipe, invalid: list[Any]) -> Any:
    """Return the first row that does not fit: only without threads do rows have numbers."""
    invalid.clear()
    try:
        read(read_options=_csv_options(recipe, threads=False))
    except library("pyarrow").ArrowInvalid:
        return invalid[0] if invalid else None
    return None


def _csv_options(recipe: DatasetRecipe, *, threads: bool) -> Any:
    encoding = recipe.encoding if codecs.lookup(recipe.encoding).name != _UTF8 else "utf8"
    options = {"encoding": encoding, "autogenerate_column_names": not recipe.header, "use_threads": threads}
    return library("pyarrow.csv").ReadOptions(**options)


def _parquet(_name: str, path: Path, _recipe: DatasetRecipe, _schema: Any) -> tuple[Any, int]:
    return library("pyarrow.parquet").ParquetFile(str(path), memory_map=True).read(), 0


def _arrow(_name: str, path: Path, _recipe: DatasetRecipe, _schema: Any) -> tuple[Any, int]:
    mapped = library("pyarrow").memory_map(str(path))
    return library("pyarrow.ipc").open_file(mapped).read_all(), 0


def _json_lines(_name: str, path: Path, recipe: DatasetRecipe, schema: Any) -> tuple[Any, int]:
    json = library("pyarrow.json")
    pyarrow = library("pyarrow")
    explicit = schema if schema is not None else pyarrow.schema(list(_given_types(recipe).items()))
    parse = json.ParseOptions(explicit_schema=explicit, newlines_in_values=recipe.multi_line)
    if codecs.lookup(recipe.encoding).name == _UTF8:
        return json.read_json(str(path), parse_options=parse), 0
    text = path.read_bytes().decode(recipe.encoding).encode()
    return json.read_json(pyarrow.BufferReader(text), parse_options=parse), 0


_READERS: Mapping[RecipeKind, Callable[[str, Path, DatasetRecipe, Any], tuple[Any, int]]] = {
    RecipeKind.DELIMITED: _delimited,
    RecipeKind.PARQUET: _parquet,
    RecipeKind.JSON_LINES: _json_lines,
    RecipeKind.ARROW: _arrow,
}


def _given_types(recipe: DatasetRecipe) -> dict[str, Any]:
    return {name: arrow_type(type_) for name, type_ in recipe.types.items()}


def _conformed(name: str, table: Any, schema: Any) -> Any:
    """Return a table with exactly a schema's columns: one that a file lacks is empty there."""
    pyarrow = library("pyarrow")
    columns = []
    for field in schema:
        if field.name not in table.schema.names:
            columns.append(pyarrow.nulls(table.num_rows, field.type))
            continue
        try:
            columns.append(table.column(field.name).cast(field.type))
        except pyarrow.ArrowException as error:
            message = f"`{name}`: column `{field.name}` is not {field.type}: {_short(error)}"
            hint = f'Give it another type: types={{"{field.name}": "string"}}, in a shell --type {field.name}=string'
            raise BadData(message, hint) from error
    return pyarrow.table(columns, schema=schema)


def _without_metadata(schema: Any) -> Any:
    return schema.remove_metadata()


def _without_null_types(schema: Any) -> Any:
    """Return the schema with text where all files have no value at all."""
    pyarrow = library("pyarrow")
    fields = [field.with_type(pyarrow.string()) if pyarrow.types.is_null(field.type) else field for field in schema]
    return pyarrow.schema(fields)


def _disagreement(schemas: Mapping[str, Any]) -> BadData:
    """Return the error for files whose columns of one name have types that do not go together."""
    pyarrow = library("pyarrow")
    first: dict[str, tuple[str, Any]] = {}
    for name, schema in schemas.items():
        for field in schema:
            other, type_ = first.setdefault(field.name, (name, field.type))
            try:
                pair = [pyarrow.schema([(field.name, type_)]), pyarrow.schema([field])]
                pyarrow.unify_schemas(pair, promote_options="permissive")
            except (pyarrow.ArrowInvalid, pyarrow.ArrowTypeError):
                message = f"column `{field.name}` is {type_} in `{other}` and {field.type} in `{name}`"
                hint = f'Say what it is: types={{"{field.name}": "string"}}, in a shell --type {field.name}=string'
                return BadData(message, hint)
    return BadData(
        "the files have columns whose types do not go together", "Say what they are: types={…}, in a shell --type …"
    )


def _ragged(name: str, row: Any) -> BadData:
    where = f", row {row.number}" if row is not None and row.number is not None else ""
    counts = f" has {row.actual_columns} columns, not {row.expected_columns}" if row is not None else " does not fit"
    text = f": {row.text[:80]!r}" if row is not None else ""
    hint = 'Correct the file, or leave such rows out and count them: on_error="count", in a shell --on-error count'
    return BadData(f"`{name}`{where}{counts}{text}", hint)


def _wrong_encoding(name: str, recipe: DatasetRecipe, problem: str) -> BadData:
    hint = 'Say which encoding it has, for example: encoding="latin-1", in a shell --encoding latin-1'
    return BadData(f"`{name}` cannot be read as {recipe.encoding}: {problem}", hint)


def _unreadable(name: str, recipe: DatasetRecipe, error: Exception) -> BadData:
    text = _short(error)
    if isinstance(error, UnicodeError) or "UTF8" in text or "UTF-8" in text:
        return _wrong_encoding(name, recipe, text)
    if "Empty CSV" in text:
        return BadData(
            f"`{name}` cannot be read as {recipe.kind.value}: it is empty",
            "Write the names of its columns into it, or leave it out.",
        )
    if recipe.kind is RecipeKind.PARQUET:
        return BadData(f"`{name}` is not a complete Parquet file: {text}", "Write it again, or leave it out.")
    hint = "Check the delimiter, the types and the encoding." if recipe.kind is RecipeKind.DELIMITED else ""
    return BadData(f"`{name}` cannot be read as {recipe.kind.value}: {text}", hint or "Each line is one JSON object.")


def _short(error: Exception) -> str:
    lines = str(error).splitlines()
    return lines[0][:200] if lines else type(error).__name__
