"""Hooks for the files that polars and pyarrow read and write in native code, which raises no audit events.

Shipped to steps' kernels as source. Below are the Python functions and classes that take the paths.
"""

from __future__ import annotations

import glob
import os
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import wraps
from types import ModuleType
from typing import Any
from urllib.parse import unquote, urlsplit

from nbpipe.execution.kernel_runtime.import_hooks import when_loaded

Hear = Callable[[str], None]

# By module: a class in it or none, prefixes of names, whether they write.
_PLACES: Mapping[str, Sequence[tuple[str, tuple[str, ...], bool]]] = {
    "polars": (
        ("", ("read_", "scan_"), False),
        ("DataFrame", ("write_",), True),
        ("LazyFrame", ("sink_",), True),
    ),
    "pyarrow.parquet.core": (
        ("ParquetFile", ("__init__",), False),
        ("ParquetDataset", ("__init__",), False),
        ("ParquetWriter", ("__init__",), True),
    ),
    "pyarrow.dataset": (
        ("", ("_filesystem_dataset", "parquet_dataset"), False),
        ("", ("write_dataset",), True),
    ),
}
# These take no path.
_OTHERS = ("_clipboard", "_database", "_database_uri", "_external_reader", "_arrow_c_stream", "_pyarrow_dataset")
_NAMES = ("source", "path_or_paths", "metadata_path", "file", "path", "where", "target", "base_dir", "workbook")


def watch(reads: Hear, writes: Hear) -> None:
    """Report every path that these libraries read or write from now on."""
    when_loaded(dict.fromkeys(_PLACES, lambda module: _watch(module, reads, writes)))


def paths_below(spelled: str) -> Iterator[tuple[str, bool]]:
    """Yield the paths that are read for a file, folder or pattern, and whether each is a folder that is listed."""
    if os.path.isdir(spelled):
        for above, _, files in os.walk(spelled):
            yield above, True
            yield from ((os.path.join(above, file), False) for file in files)
    elif glob.has_magic(spelled) and not os.path.lexists(spelled):
        matches = glob.glob(spelled, recursive=True)
        yield from ((folder, True) for folder in dict.fromkeys(os.path.dirname(each) or "." for each in matches))
        yield from ((each, False) for each in matches)
    else:
        yield spelled, False


def _watch(module: ModuleType, reads: Hear, writes: Hear) -> None:
    for inside, beginnings, writing in _PLACES[module.__name__]:
        holder: Any = getattr(module, inside) if inside else module
        for name, real in list(vars(holder).items()):
            if name.startswith(beginnings) and not name.endswith(_OTHERS) and callable(real):
                _replace(holder, name, _telling(real, writes if writing else reads, 1 if inside else 0))


def _replace(holder: Any, name: str, replacement: Callable[..., Any]) -> None:
    setattr(holder, name, replacement)
    home = sys.modules.get(replacement.__module__)
    # Pickle looks up a function where it was defined, and requires the same object.
    if isinstance(holder, ModuleType) and home is not None and hasattr(home, name):
        setattr(home, name, replacement)


def _telling(real: Callable[..., Any], hear: Hear, place: int) -> Callable[..., Any]:
    @wraps(real)
    def telling(*arguments: Any, **named: Any) -> Any:
        first = arguments[place] if len(arguments) > place else next((named[n] for n in _NAMES if n in named), None)
        for each in first if isinstance(first, list | tuple) else (first,):
            spelled = _local(each)
            if spelled is not None:
                hear(spelled)
        return real(*arguments, **named)

    return telling


def _local(arguments: Any) -> str | None:
    """Return the path of a local file; None for a file object, bytes, or an address."""
    if not isinstance(arguments, str | os.PathLike):
        return None
    spelled = os.path.expanduser(os.fsdecode(arguments))
    parts = urlsplit(spelled) if "://" in spelled else None
    if parts is None:
        return spelled
    return unquote(parts.path) if parts.scheme == "file" else None
