"""A large pandas table over its Arrow file, mapped privately. Shipped to steps' kernels beside ``formats``.

Reading it costs nothing until a column is used, and steps that read the same output share the system's copy. Whoever
changes a value changes his own page of it, never the file.
"""

from __future__ import annotations

import mmap
from pathlib import Path
from typing import Any

from nbpipe.data.value_types import library

# Smaller tables, and those of many columns, are better off in pandas' own blocks.
_LARGE = 32 << 20
_MANY_COLUMNS = 256
_NUMBERS_AND_TIMES = "iufMm"


def map_privately(path: Path) -> mmap.mmap | None:
    """Return a large file mapped so that changes stay in memory; None if it is small, or the system refuses."""
    with path.open("rb") as file:
        if path.stat().st_size < _LARGE:
            return None
        try:
            return mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_COPY)
        except OSError:
            # Where memory is promised to nobody who may not need it, a file can be larger than what is left.
            return None


def frame_over(table: Any, mapped: mmap.mmap | None) -> Any:
    """Return an Arrow table as a DataFrame that can be changed; columns of numbers and times stay in the mapping."""
    if mapped is None or table.num_columns > _MANY_COLUMNS:
        return table.to_pandas()
    frame = table.to_pandas(split_blocks=True)
    columns = {place: _own_column(frame.iloc[:, place], mapped) for place in range(frame.shape[1])}
    own = library("pandas").DataFrame(columns, index=frame.index, copy=False)
    own.columns = frame.columns
    own.attrs = frame.attrs
    return own


def _own_column(column: Any, mapped: mmap.mmap) -> Any:
    numpy = library("numpy")
    if not isinstance(column.dtype, numpy.dtype) or column.dtype.kind not in _NUMBERS_AND_TIMES:
        return column
    values = column.to_numpy(copy=False)
    offset = values.__array_interface__["data"][0] - library("pyarrow").py_buffer(mapped).address
    if not 0 <= offset <= len(mapped) - values.nbytes:
        # pandas has converted it, into memory of its own.
        return column
    if offset % values.itemsize or not values.flags.c_contiguous:
        return values.copy()
    return numpy.frombuffer(mapped, values.dtype, len(values), offset)
