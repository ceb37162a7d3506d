"""Whether two values are equal, whatever their types are. Sent to kernels as source: only the standard library."""

from __future__ import annotations

import functools
import pickle
import reprlib
import sys
import types
from typing import Any

_PLAIN = (bool, int, str, bytes, type(None), range, slice, type(...))
_SKIPPED = ("matplotlib", "ipywidgets", "IPython", "_io")
_ADDRESSES = ("_stop_words_id", "__networkx_cache__")
_SHORT = reprlib.Repr()
_SHORT.maxother = _SHORT.maxstring = 60


def compare(first: Any, second: Any) -> tuple[str, str]:
    """Return ``equal``, ``differs`` or ``not compared``, and a text that says more about the latter two.

    Classes of libraries and of the author may raise anything when they are compared.
    """
    same = _Comparison().same(first, second)
    if same is None:
        return "not compared", f"nothing is known of how to compare values of the type {type(first).__qualname__}"
    if same:
        return "equal", ""
    return "differs", f"{_SHORT.repr(first)} in the notebook, {_SHORT.repr(second)} in the pipeline"


class _Comparison:
    """One comparison; pairs that are being compared already count as equal, so that cycles end."""

    def __init__(self) -> None:
        self.seen = set[tuple[int, int]]()
        # What is made on the way is kept, so that no other object gets its address.
        self.kept: list[Any] = []

    def same(self, first: Any, second: Any) -> bool | None:
        """Return whether two values are equal; None if that cannot be told."""
        if first is second:
            return True
        pair = (id(first), id(second))
        if pair in self.seen:
            return True
        self.seen.add(pair)
        if not _same_type(first, second):
            return False
        for kind, compared in _KINDS:
            if isinstance(first, kind):
                same: bool | None = compared(self, first, second)
                return same
        root = type(first).__module__.partition(".")[0]
        if root in _SKIPPED:
            return None
        library: Any = getattr(self, f"_{root}", None)
        known: Any = library(first, second) if library is not None else NotImplemented
        return self._state(first, second) if known is NotImplemented else None if known is None else bool(known)

    def all(self, pairs: Any) -> bool | None:
        """Return whether all pairs are equal; False as soon as one is not."""
        unknown = False
        for first, second in pairs:
            same = self.same(first, second)
            if same is False:
                return False
            unknown = unknown or same is None
        return None if unknown else True

    # Types of Python

    def plain(self, first: Any, second: Any) -> bool:
        return bool(first == second)

    def number(self, first: Any, second: Any) -> bool:
        return bool(first == second or (first != first and second != second))  # noqa: PLR0124 - not a number

    def sequence(self, first: Any, second: Any) -> bool | None:
        return len(first) == len(second) and self.all(zip(first, second, strict=True))

    def mapping(self, first: Any, second: Any) -> bool | None:
        if first.keys() != second.keys():
            return False
        pairs = [(first[key], second[key]) for key in first]
        states = [getattr(value, "__dict__", None) for value in (first, second)]
        if all(states):
            # A subclass may hold more than its items, and need not store it.
            pairs.append((states[0], states[1]))
        return self.all(pairs)

    def code(self, first: Any, second: Any) -> bool:
        ours, theirs = first.__code__, second.__code__
        return bool(ours.co_code == theirs.co_code and ours.co_names == theirs.co_names)

    def named(self, first: Any, second: Any) -> bool:
        return bool(getattr(first, "__qualname__", first) == getattr(second, "__qualname__", second))

    # Types of libraries

    def _numpy(self, first: Any, second: Any) -> Any:
        numpy = sys.modules["numpy"]
        if not isinstance(first, numpy.ndarray):
            return self.number(first, second) if isinstance(first, numpy.generic) else NotImplemented
        if first.dtype != second.dtype or first.shape != second.shape:
            return False
        if first.dtype.hasobject:
            return self.all(zip(first.ravel().tolist(), second.ravel().tolist(), strict=True))
        if first.dtype.names:
            return bool(first.tobytes() == second.tobytes())
        return bool(((first == second) | ((first != first) & (second != second))).all())  # noqa: PLR0124

    def _pandas(self, first: Any, second: Any) -> Any:
        return bool(first.equals(second)) if hasattr(first, "equals") else NotImplemented

    def _polars(self, first: Any, second: Any) -> Any:
        return bool(first.equals(second)) if hasattr(first, "equals") else NotImplemented

    def _torch(self, first: Any, second: Any) -> Any:
        torch = sys.modules["torch"]
        if not isinstance(first, torch.Tensor):
            return NotImplemented
        return first.dtype == second.dtype and bool(torch.equal(first.detach(), second.detach()))

    def _scipy(self, first: Any, second: Any) -> Any:
        if not hasattr(first, "nnz"):
            return NotImplemented
        return first.shape == second.shape and first.dtype == second.dtype and (first != second).nnz == 0

    # All others

    def _state(self, first: Any, second: Any) -> bool | None:
        """Return whether pickle would write the same; None for what it cannot write."""
        try:
            parts = (first.__reduce_ex__(4), second.__reduce_ex__(4))
        except (TypeError, AttributeError, pickle.PicklingError):
            return None
        if any(isinstance(part, str) for part in parts):
            return bool(parts[0] == parts[1])
        lists = [tuple(list(item) if hasattr(item, "__next__") else item for item in part) for part in parts]
        cached = _cached_names(type(first))
        lists = [tuple(_without(item, cached) for item in part) for part in lists]
        self.kept.append((parts, lists))
        return self.sequence(*lists)


def _cached_names(kind: type) -> frozenset[str]:
    """Return the attributes that hold no part of a value: cached properties, and addresses of other objects."""
    every = [(name, value) for each in kind.__mro__ for name, value in vars(each).items()]
    return frozenset([*_ADDRESSES, *(name for name, value in every if isinstance(value, functools.cached_property))])


def _without(state: Any, names: frozenset[str]) -> Any:
    return {key: value for key, value in state.items() if key not in names} if type(state) is dict else state


def _same_type(first: Any, second: Any) -> bool:
    ours, theirs = type(first), type(second)
    return ours is theirs or (ours.__qualname__, ours.__module__) == (theirs.__qualname__, theirs.__module__)


_KINDS: tuple[tuple[Any, Any], ...] = (
    (_PLAIN, _Comparison.plain),
    ((float, complex), _Comparison.number),
    ((list, tuple), _Comparison.sequence),
    ((set, frozenset), _Comparison.plain),
    (dict, _Comparison.mapping),
    (types.FunctionType, _Comparison.code),
    ((type, types.ModuleType, types.BuiltinFunctionType), _Comparison.named),
)
