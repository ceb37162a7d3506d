"""Tables as Dask DataFrames, a partition for each file."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from nbpipe.errors import BadUsage


def frame_of(load: Callable[[int], Any], count: int, empty: Any) -> Any:
    """Return a Dask DataFrame of ``count`` partitions, each a pandas DataFrame like ``empty`` that ``load`` returns."""
    try:
        import dask.dataframe
    except ImportError as error:
        raise BadUsage("Dask has no DataFrame here", "pip install 'dask[dataframe]'") from error
    indices: Sequence[int] = range(count)
    return dask.dataframe.from_map(load, indices, meta=empty)  # type: ignore[no-untyped-call]  # theirs
