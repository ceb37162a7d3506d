"""Pickles that are loaded with the reader's own definitions of the same classes and functions.

cloudpickle writes a class or a function of ``__main__`` with everything that belongs to it. Loaded as it is, that would
replace the attributes of a class that the reader has defined equally, and a function would have other constants than
the reader's. So functions are written with their mark (:mod:`nbpipe.data.notebook_classes`) in place of a name that
cloudpickle sets afterwards, and with the digests of the definitions that they read: the loader uses the reader's equal
definitions, unchanged. Plain cloudpickle can load such a pickle too.
"""

from __future__ import annotations

import pickle
from collections.abc import Callable
from types import FunctionType
from typing import IO, Any

from nbpipe.data.notebook_classes import DIGESTS, MARKED, MARKS, digests_of, mark, tracked

_DIGESTS = "__nbpipe_definitions__"
_MODULE = "cloudpickle.cloudpickle"


def writer(cloudpickle: Any, file: IO[bytes]) -> Any:
    """Return a pickler that writes into a file; ``cloudpickle`` is the library."""

    class Writer(cloudpickle.Pickler):  # type: ignore[misc]  # it is loaded only here
        """cloudpickle's pickler, which adds the marks of functions."""

        def reducer_override(self, value: Any) -> Any:
            reduced = super().reducer_override(value)
            if isinstance(value, FunctionType) and isinstance(reduced, tuple):
                return _marked(value, reduced)
            return reduced

    return Writer(file, protocol=5)


def _marked(function: FunctionType, reduced: tuple[Any, ...]) -> tuple[Any, ...]:
    make, (code, space, name, *more), state, *rest = reduced
    reached = state[1]["__globals__"]
    digests = digests_of(function)
    recorded = {name: digests[name] for name in reached if name in digests}
    if recorded:
        reached[_DIGESTS] = recorded
    return (make, (code, space, MARKS.get(function, name), *more), state, *rest)


class NotebookUnpickler(pickle.Unpickler):
    """Loads one pickle with the reader's own definitions."""

    def __init__(self, file: IO[bytes]) -> None:
        super().__init__(file)
        self._own: list[Any] = []
        self._instead: dict[str, Callable[[Callable[..., Any]], Callable[..., Any]]] = {
            "_make_function": self._function,
            "_function_setstate": self._function_state,
            "_make_skeleton_class": self._class,
            "_make_skeleton_enum": self._class,
            "_class_setstate": self._class_state,
        }

    def find_class(self, module: str, name: str) -> Any:
        """Return the object that a pickle refers to by name."""
        value = super().find_class(module, name)
        return self._instead[name](value) if module == _MODULE and name in self._instead else value

    def _is_own(self, value: Any) -> bool:
        return any(value is own for own in self._own)

    def _function(self, make: Callable[..., Any]) -> Callable[..., Any]:
        def function(code: Any, space: Any, identity: Any, *more: Any) -> Any:
            own = MARKED.get(identity)
            if isinstance(own, FunctionType):
                self._own.append(own)
                return own
            created = make(code, space, identity, *more)
            if identity is not None:
                MARKS[created] = identity
            return created

        return function

    def _function_state(self, set_state: Callable[..., Any]) -> Callable[..., Any]:
        def function_state(function: FunctionType, state: Any) -> Any:
            if self._is_own(function):
                return function
            reached = state[1]["__globals__"]
            digests = reached.pop(_DIGESTS, {})
            marks = {name: mark(name, digest) for name, digest in digests.items()}
            reached.update({name: MARKED[identity] for name, identity in marks.items() if identity in MARKED})
            DIGESTS[function] = digests
            return set_state(function, state)

        return function_state

    def _class(self, make: Callable[..., Any]) -> Callable[..., Any]:
        def class_(*arguments: Any) -> Any:
            *_, identity, _ = arguments
            own = tracked(identity)
            if own is None:
                return make(*arguments)
            self._own.append(own)
            return own

        return class_

    def _class_state(self, set_state: Callable[..., Any]) -> Callable[..., Any]:
        def class_state(class_: type, state: Any) -> Any:
            return class_ if self._is_own(class_) else set_state(class_, state)

        return class_state
