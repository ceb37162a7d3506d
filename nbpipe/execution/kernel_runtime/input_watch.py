"""Whether a step's inputs are at its end what it was handed: looked at where that costs little. Shipped as source."""

from __future__ import annotations

import time
import weakref
from collections.abc import Callable, Collection, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from nbpipe.data import formats
from nbpipe.data.value_types import kind_of, library, same

# Reading a value again and comparing it may take this part of the step's time, by these rates in bytes per second.
_PART = 0.05
_RATES = {"json": 2e7, "npy": 4e8, "arrow": 2e8}
# The step's time also has the start of its kernel.
_START_SECONDS = 0.2
_INCOMPARABLE = (
    ArithmeticError, AttributeError, EOFError, ImportError, LookupError, OSError, RuntimeError, TypeError, ValueError,
)  # fmt: skip
# A second copy must not exhaust the memory, and what cannot be referred to weakly must not be kept alive.
_LARGEST = 64 << 20
_LARGEST_KEPT = 1 << 20


@dataclass(slots=True)
class InputWatch:
    """The inputs that were loaded, referred to weakly."""

    began: float = field(default_factory=time.monotonic)
    _loaded: dict[str, tuple[Callable[[], Any], str, Path, int]] = field(default_factory=dict)

    def loaded(self, name: str, format: str, path: Path, value: Any) -> None:
        """Record a loaded input, if it can be compared later."""
        size = path.stat().st_size if format in _RATES else _LARGEST + 1
        if size > _LARGEST:
            return
        try:
            reference: Callable[[], Any] = weakref.ref(value)
        except TypeError:
            if size > _LARGEST_KEPT:
                return
            reference = _Kept(value)
        self._loaded[name] = (reference, format, path, size)

    def changed(self, outputs: Collection[str]) -> list[str]:
        """Return the inputs that are not what was handed in, except those that are outputs too."""
        budget = _PART * (time.monotonic() - self.began + _START_SECONDS)
        names = []
        for name, (reference, format, path, size) in self._loaded.items():
            budget -= size / _RATES[format]
            value = reference()
            if name in outputs or value is None or budget < 0:
                continue
            # What the author's objects raise when they are compared is no error of the step.
            with suppress(*_INCOMPARABLE):
                if not _equal(value, formats.load(path, format)):
                    names.append(name)
        self._loaded.clear()
        return names


@dataclass(frozen=True, slots=True)
class _Kept:
    value: Any

    def __call__(self) -> Any:
        return self.value


def _equal(value: Any, fresh: Any) -> bool:
    kind = kind_of(value)
    comparer = _COMPARERS.get(kind)
    return comparer(value, fresh) if comparer is not None else same(value, fresh)


def _same_array(value: Any, fresh: Any) -> bool:
    numpy = library("numpy")
    return value.dtype == fresh.dtype and value.shape == fresh.shape and bool(
        numpy.array_equal(value, fresh, equal_nan=value.dtype.kind in "fc")
    )  # fmt: skip


def _same_table(value: Any, fresh: Any) -> bool:
    return bool(value.equals(fresh))


_COMPARERS: Mapping[str, Callable[[Any, Any], bool]] = {
    "numpy.ndarray": _same_array, "pandas.DataFrame": _same_table, "pandas.Series": _same_table,
    "polars.DataFrame": _same_table, "polars.Series": _same_table, "pyarrow.Table": _same_table,
    "pyarrow.RecordBatch": _same_table,
}  # fmt: skip
