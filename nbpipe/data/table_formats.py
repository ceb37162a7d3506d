"""Tables as Arrow, Parquet and CSV files: tables of pandas, polars and pyarrow are read back as the same type.

What Arrow cannot represent is recorded in the schema's metadata: the table's library, and pandas' labels that are not
plain strings. Anything else is refused, never changed. Shipped to steps' kernels beside ``formats``.
"""

from __future__ import annotations

import base64
import json
import mmap
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from nbpipe.data.mapped_frames import frame_over, map_privately
from nbpipe.data.value_types import UnsupportedValue, kind_of, library, same

_HEAD = 1000
_PLAIN_NAMES = (type(None), str, int)
_KEY, _COLUMNS, _CATEGORIES = b"nbpipe", b"nbpipe.columns", b"nbpipe.categories."


def write_arrow(value: Any, path: Path) -> str:
    """Write a table as an uncompressed Arrow IPC file; raise UnsupportedValue if a reader would get another one."""
    pyarrow = library("pyarrow")
    table = _record_categories(_to_table(value), parquet=False)
    _write_ipc(table, path)
    back = library("pyarrow.ipc").open_file(pyarrow.memory_map(str(path))).read_all()
    _require_same_table(table, back, "arrow")
    return ""


def _write_ipc(table: Any, path: Path) -> None:
    pyarrow, ipc = library("pyarrow"), library("pyarrow.ipc")
    with pyarrow.OSFile(str(path), "wb") as sink, ipc.new_file(sink, table.schema) as writer:
        writer.write_table(table)


def read_arrow(path: Path) -> Any:
    """Return the table that was written, as its own type; the file is mapped if the type allows."""
    pyarrow, ipc = library("pyarrow"), library("pyarrow.ipc")
    mapped = pyarrow.memory_map(str(path))
    schema = ipc.open_file(mapped).schema
    _know_pandas_types(schema)
    # Before copy-on-write, pandas shares columns in ways that only its own blocks are safe for.
    is_frame = _recorded(schema)["type"].startswith("pandas.") and _pandas_version() >= (3, 0)
    own = map_privately(path) if is_frame else None
    table = ipc.open_file(mapped if own is None else pyarrow.py_buffer(own)).read_all()
    return _from_table(_with_recorded_categories(table, table.schema), own)


def write_parquet(value: Any, path: Path) -> str:
    """Write a table as a Parquet file; raise UnsupportedValue if its column types would change."""
    parquet = library("pyarrow.parquet")
    table = _record_categories(_to_table(value), parquet=True)
    parquet.write_table(table, str(path))
    if parquet.read_metadata(str(path)).num_rows != table.num_rows:
        raise UnsupportedValue("parquet does not keep the rows of a table without columns")
    empty = parquet.read_schema(str(path)).empty_table()
    _require_same_table(table.slice(0, 0), _as_written(empty, path), "parquet")
    return ""


def read_parquet(path: Path) -> Any:
    """Return the table that was written, as its own type."""
    parquet = library("pyarrow.parquet")
    _know_pandas_types(parquet.read_schema(str(path)))
    table = parquet.ParquetFile(str(path), memory_map=True).read()
    return _from_table(_as_written(table, path))


def _know_pandas_types(schema: Any) -> None:
    """Register pandas' periods and intervals with Arrow before it opens a pandas table, else they become numbers.

    pandas registers them on first use only, which in a new process is too late for an index or labels.
    """
    if _recorded(schema)["type"].startswith("pandas."):
        # The module is private: other versions of pandas may have it elsewhere.
        with suppress(ModuleNotFoundError):
            library("pandas.core.arrays.arrow.extension_types")


def _as_written(table: Any, path: Path) -> Any:
    """Restore column types that Parquet lacks, such as seconds, from the footer."""
    recorded = (library("pyarrow.parquet").read_metadata(str(path)).metadata or {}).get(b"ARROW:schema")
    if recorded is None:
        return table
    schema = library("pyarrow.ipc").read_schema(library("pyarrow").py_buffer(base64.b64decode(recorded)))
    if table.schema.equals(schema, check_metadata=True) and table.num_rows:
        return table
    return _with_recorded_categories(table, schema).cast(schema)


def _record_categories(table: Any, *, parquet: bool) -> Any:
    """Record the categories that a file does not keep: those of an empty table, and in Parquet numbers and times."""
    pyarrow, metadata = library("pyarrow"), dict(table.schema.metadata or {})
    for place, type_ in enumerate(table.schema.types):
        is_lost = table.num_rows == 0 or (parquet and not _is_text(getattr(type_, "value_type", None)))
        if is_lost and pyarrow.types.is_dictionary(type_):
            chunks = table.column(place).chunks
            categories = chunks[0].dictionary if chunks else pyarrow.array([], type_.value_type)
            metadata[_CATEGORIES + str(place).encode()] = _stream(pyarrow.table({"": categories}))
    return table.replace_schema_metadata(metadata or None)


def _with_recorded_categories(table: Any, schema: Any) -> Any:
    for place, field in enumerate(schema):
        stream = (schema.metadata or {}).get(_CATEGORIES + str(place).encode())
        if stream is not None:
            table = table.set_column(place, field, _categorical(table.column(place), field.type, stream))
    return table


def _categorical(column: Any, type_: Any, stream: bytes) -> Any:
    """Return a column of values as one of categories, in their recorded order."""
    pyarrow = library("pyarrow")
    categories = library("pyarrow.ipc").open_stream(stream).read_all().column(0).combine_chunks()
    values = column.cast(type_.value_type).combine_chunks()
    codes = library("pyarrow.compute").index_in(values, value_set=categories).cast(type_.index_type)
    return pyarrow.DictionaryArray.from_arrays(codes, categories, ordered=type_.ordered)


def _is_text(type_: Any) -> bool:
    types = library("pyarrow").types
    return type_ is not None and bool(types.is_string(type_) or types.is_large_string(type_))


def _require_same_table(table: Any, back: Any, format: str) -> None:
    if back.num_rows != table.num_rows or not back.schema.equals(table.schema, check_metadata=True):
        raise UnsupportedValue(f"{format} does not keep its rows or column types")


def _to_table(value: Any) -> Any:
    kind = kind_of(value)
    if kind.startswith("pandas."):
        table = _pack_pandas(value)
        _require_same_pandas(value)
    elif kind.startswith("polars."):
        table = _pack_polars(value)
    elif kind.startswith("pyarrow."):
        table = library("pyarrow").Table.from_batches([value]) if kind == "pyarrow.RecordBatch" else value
        table = _marked(table, {"type": kind})
    else:
        raise UnsupportedValue("it is not a table")
    # Chunks are not part of a table's value, and must not affect its bytes.
    return table.combine_chunks() if any(column.num_chunks > 1 for column in table.columns) else table


def _marked(table: Any, recorded: Mapping[str, Any], **more: bytes) -> Any:
    metadata = {**(table.schema.metadata or {}), _KEY: json.dumps(recorded).encode()}
    if "columns" in more:
        metadata[_COLUMNS] = more["columns"]
    return table.replace_schema_metadata(metadata)


def _recorded(schema: Any) -> Any:
    """Return the metadata that nbpipe recorded; for other files, the type DataFrame."""
    return json.loads((schema.metadata or {}).get(_KEY, b'{"type": "pandas.DataFrame"}'))


def _from_table(table: Any, mapped: mmap.mmap | None = None) -> Any:
    recorded = _recorded(table.schema)
    if recorded["type"].startswith("pandas."):
        return _unpack_pandas(table, recorded, mapped)
    items = (table.schema.metadata or {}).items()
    metadata = {key: item for key, item in items if key != _KEY and not key.startswith(_CATEGORIES)}
    bare = table.replace_schema_metadata(metadata or None)
    if recorded["type"].startswith("polars."):
        frame = library("polars").from_arrow(bare)
        return frame.to_series().alias(recorded["name"]) if recorded["type"] == "polars.Series" else frame
    if recorded["type"] == "pyarrow.RecordBatch":
        batches = bare.combine_chunks().to_batches()
        return batches[0] if batches else library("pyarrow").RecordBatch.from_pylist([], schema=bare.schema)
    return bare


def _pack_polars(value: Any) -> Any:
    kind = kind_of(value)
    # A column without a name would be read back with one.
    frame = value.alias(value.name or "value").to_frame() if kind == "polars.Series" else value
    table = frame.to_arrow()
    head = library("polars").from_arrow(table.slice(0, _HEAD))
    if head.schema != frame.schema or table.num_rows != frame.height:
        raise UnsupportedValue("arrow does not keep its column types")
    return _marked(table, {"type": kind, "name": getattr(value, "name", "")})


# pandas: labels that are not plain strings are stored as a separate index, as Arrow's names are text


def _pack_pandas(value: Any) -> Any:
    kind = kind_of(value)
    frame = value.to_frame() if kind == "pandas.Series" else value
    metadata = {"type": kind, "freq": getattr(frame.index, "freqstr", None)}
    if kind == "pandas.Series":
        metadata |= _name_metadata(value.name)
    if _plain_labels(frame.columns):
        return _marked(library("pyarrow").Table.from_pandas(frame), metadata)
    texts = [str(label) for label in frame.columns]
    texts = texts if len(set(texts)) == len(texts) else [str(number) for number in range(len(texts))]
    # One extra column: without any, Arrow loses the number of rows.
    labels = library("pyarrow").Table.from_pandas(library("pandas").DataFrame({"": False}, index=frame.columns))
    labels = _marked(labels, {"type": "pandas.Index", "freq": getattr(frame.columns, "freqstr", None)})
    table = library("pyarrow").Table.from_pandas(frame.set_axis(texts, axis=1))
    return _marked(table, metadata, columns=_stream(labels))


def _stream(table: Any) -> bytes:
    sink = library("pyarrow").BufferOutputStream()
    with library("pyarrow.ipc").new_stream(sink, table.schema) as writer:
        writer.write_table(table)
    stream: bytes = sink.getvalue().to_pybytes()
    return stream


def _plain_labels(columns: Any) -> bool:
    plain = type(columns) is library("pandas").Index and columns.name is None and columns.is_unique
    return plain and len(columns) > 0 and all(type(label) is str for label in columns)


def _unpack_pandas(table: Any, recorded: Mapping[str, Any], mapped: mmap.mmap | None) -> Any:
    frame = frame_over(table, mapped)
    labels = (table.schema.metadata or {}).get(_COLUMNS)
    if labels is not None:
        frame.columns = _from_table(library("pyarrow.ipc").open_stream(labels).read_all()).index
    if recorded.get("freq") and hasattr(frame.index, "freq") and frame.index.freq is None:
        frame.index.freq = recorded["freq"]
    if _pandas_version() < (3, 0):
        # Before copy-on-write, the only column of a type was a view of the mapped file.
        frame = frame.copy()
    if recorded["type"] != "pandas.Series":
        return frame
    series = frame.iloc[:, 0]
    name = recorded.get("name", series.name)
    series.name = tuple(name) if isinstance(name, list) else name
    return series


def _name_metadata(name: Any) -> dict[str, Any]:
    """Return a Series' name as metadata if JSON can represent it; else it must survive as a column label."""
    parts = name if type(name) is tuple else (name,)
    plain = all(type(part) in _PLAIN_NAMES for part in parts)
    return {"name": name} if plain else {}


def _pandas_version() -> tuple[int, ...]:
    return tuple(int(part) for part in library("pandas").__version__.split(".")[:2])


def _require_same_pandas(value: Any) -> None:
    """Raise unless Arrow preserves the value: all of it if it has columns of objects, else its head."""
    objects = _object_columns(value)
    sample = value if objects or value.index.dtype == object else value.iloc[:_HEAD]
    packed = _pack_pandas(sample)
    back = _from_table(packed)
    testing = library("pandas.testing")
    if kind_of(value) == "pandas.Series":
        testing.assert_series_equal(sample, back, check_exact=True, check_index_type="exact")
    else:
        testing.assert_frame_equal(sample, back, check_exact=True, check_index_type="exact", check_column_type="exact")
    for was, now in zip(objects, _object_columns(back), strict=True):
        _require_same_items(was, now)
    if value.index.dtype == object:
        _require_same_items(sample.index, back.index)
    if not same(getattr(value, "name", None), getattr(back, "name", None)):
        raise UnsupportedValue("arrow does not keep its name")
    if not same(value.attrs, back.attrs):
        raise UnsupportedValue("arrow does not keep its attrs")


def _object_columns(value: Any) -> list[Any]:
    if kind_of(value) == "pandas.Series":
        return [value] if str(value.dtype) == "object" else []
    return [value.iloc[:, at] for at, dtype in enumerate(value.dtypes) if str(dtype) == "object"]


def _require_same_items(was: Any, now: Any) -> None:
    if not all(same(left, right) for left, right in zip(was, now, strict=True)):
        raise UnsupportedValue(f"arrow changes the types of the objects in `{was.name}`")


# CSV: tables as text, on request


CSV_SUFFIXES: Mapping[str, str] = {"polars.DataFrame": ".polars.csv", "pyarrow.Table": ".pyarrow.csv"}


def write_csv(value: Any, path: Path) -> str:
    """Write a table as CSV and return a note of what CSV does not keep."""
    kind = kind_of(value)
    if kind == "polars.DataFrame":
        value.write_csv(path)
        return ""
    if kind == "pyarrow.Table":
        library("pyarrow.csv").write_csv(value, str(path))
        return ""
    if kind != "pandas.DataFrame":
        raise UnsupportedValue("csv takes a DataFrame or an Arrow table")
    plain = value.index.equals(library("pandas").RangeIndex(len(value))) and value.index.name is None
    (value if plain else value.reset_index()).to_csv(path, index=False, lineterminator="\n")
    notes = [] if plain else ["the index comes back as ordinary columns"]
    return _csv_note([*notes, *_changed_columns(value, read_csv(path))])


def _changed_columns(value: Any, back: Any) -> list[str]:
    if not value.columns.is_unique:
        return ["column names that are not unique are numbered"]
    return [
        f"column `{label}` comes back as {back[label].dtype}, not {value[label].dtype}"
        for label in value.columns
        if label in back and value[label].dtype != back[label].dtype
    ]


def _csv_note(notes: list[str]) -> str:
    return f"csv does not keep everything: {'; '.join(notes)}; arrow and parquet do" if notes else ""


def read_csv(path: Path) -> Any:
    """Return a DataFrame, or another library's table according to the file's suffix."""
    if path.name.endswith(".polars.csv"):
        return library("polars").read_csv(path)
    if path.name.endswith(".pyarrow.csv"):
        return library("pyarrow.csv").read_csv(str(path))
    # The default since pandas 3.1.
    exactly = {"float_precision": "round_trip"} if _pandas_version() < (3, 1) else {}
    return library("pandas").read_csv(path, **exactly)
