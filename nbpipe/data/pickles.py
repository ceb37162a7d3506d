"""Pickles that refer to the notebook's definitions, and are loaded with those that the reader has.

What the notebook's ordinary cells define is stored by reference (:mod:`nbpipe.data.notebook_definitions`). The rest of
``__main__``, such as lambdas and what a step's own cell defines, cloudpickle stores by value; such code, too, uses the
reader's definitions, and the globals of the reader unless it needs variables of the step that made it. Without nbpipe,
plain cloudpickle can load such a pickle.
"""

from __future__ import annotations

import functools
import pickle
import sys
from collections.abc import Callable, Mapping
from types import FunctionType
from typing import IO, Any

from nbpipe.data.notebook_classes import MARKED, mark
from nbpipe.data.notebook_definitions import HERE, LOOKUP, attribute, main_namespace
from nbpipe.data.shared_objects import SharedObjects
from nbpipe.data.value_types import UnsupportedValue

_DIGESTS = "__nbpipe_definitions__"
_IN_MAIN = "__nbpipe_main__"
_MODULE = "cloudpickle.cloudpickle"
_CACHED = type(functools.lru_cache(lambda: None))

Reduced = tuple[Any, ...]


class _Global:
    """A definition of any kind under its name, as the code that is stored by value refers to it."""

    def __init__(self, name: str) -> None:
        self.name = name


class _References:
    """How a pickler writes what refers to definitions; ``loose`` are the variables that these need besides."""

    def __init__(self) -> None:
        self.loose: dict[str, Any] = {}
        self._places = HERE.references()
        self._globals: dict[str, _Global] = {}
        self._space = {"__name__": "__main__", _IN_MAIN: True}
        self._figures = getattr(sys.modules.get("matplotlib.figure"), "Figure", ())
        self._transforms = getattr(sys.modules.get("matplotlib.transforms"), "TransformNode", ())

    def reduced(self, value: Any, usual: Callable[[Any], Any]) -> Any:
        """Return how an object is written, or NotImplemented for pickle's own way; ``usual`` is cloudpickle's."""
        if id(value) in self._places:
            return self._reference(*self._places[id(value)])
        if type(value) is _Global:
            return self._reference(value.name, ())
        if type(value) is _CACHED and value.__module__ == "__main__":
            return _cached(value)
        if isinstance(value, self._figures):
            return _with_state(value, _without_window)
        if isinstance(value, self._transforms):
            return _with_state(value, _without_addresses)
        reduced = usual(value)
        if isinstance(value, FunctionType) and isinstance(reduced, tuple):
            return self._linked(value, reduced)
        return reduced

    def _reference(self, name: str, path: tuple[str, ...]) -> Reduced:
        sources = HERE.closure(name)
        self.loose |= HERE.loose(sources)
        return eval, (LOOKUP, {"name": name, "path": path, "sources": sources})

    def _linked(self, function: FunctionType, reduced: Reduced) -> Reduced:
        make, (code, space, *more), state, *rest = reduced
        used = state[1]["__globals__"]
        if function.__globals__ is not main_namespace():
            return reduced
        shared = [name for name, item in used.items() if HERE.is_own(name, item)]
        used |= {name: self._globals.setdefault(name, _Global(name)) for name in shared}
        return (make, (code, self._space if len(shared) == len(used) else space, *more), state, *rest)


class _Numbers:
    """How a pickler writes objects that other values share: with the number by which a reader recognises them."""

    def __init__(self, together: SharedObjects) -> None:
        self._together = together
        self._inside: Any = None

    def persistent_id(self, value: Any) -> tuple[int, Any] | None:
        """Return the number of a shared object with the object itself, which is then written as usual."""
        if self._inside is not None and value is self._inside:
            self._inside = None
            return None
        number = self._together.number(value)
        if number is None:
            return None
        self._inside = value
        return number, value


def dump(cloudpickle: Any, value: Any, file: IO[bytes], together: SharedObjects | None = None) -> None:
    """Write a value, and after it the variables that its definitions need; ``cloudpickle`` is the library."""
    references = _References()

    class Writer(cloudpickle.Pickler):  # type: ignore[misc]  # it is loaded only here
        """cloudpickle's pickler, which refers to definitions."""

        def reducer_override(self, value: Any) -> Any:
            return references.reduced(value, super().reducer_override)

    class SharingWriter(Writer):
        """The same for a value that shares objects with others; slower, as it looks at every part."""

        def persistent_id(self, value: Any) -> Any:
            return numbers.persistent_id(value)

    numbers = _Numbers(together or SharedObjects({}))
    pickler = SharingWriter(file, protocol=5) if together else Writer(file, protocol=5)
    pickler.dump(value)
    written: set[str] = set()
    while more := {name: item for name, item in references.loose.items() if name not in written}:
        pickler.dump(more)
        written |= more.keys()


def _cached(value: Any) -> Reduced:
    """Write a function with its cache's settings; by default it would be a name that no reader has."""
    settings = value.cache_parameters()
    arguments = (value.__wrapped__, settings["maxsize"], settings["typed"], type(value.cache_info()))
    return _CACHED, arguments, vars(value)


def _with_state(value: Any, change: Callable[[dict[str, Any]], dict[str, Any]]) -> Reduced:
    make, arguments, state, *rest = value.__reduce_ex__(5)
    return make, arguments, change(state) if isinstance(state, dict) else state, *rest


def _without_window(state: dict[str, Any]) -> dict[str, Any]:
    """Return a figure's state without its window, which a reader would otherwise open."""
    return {key: item for key, item in state.items() if key != "_restore_to_pylab"}


def _without_addresses(state: dict[str, Any]) -> dict[str, Any]:
    """Return the state of a figure's transform, with numbers for addresses: equal figures have equal bytes."""
    return {**state, "_parents": dict(enumerate(state.get("_parents", {}).values()))}


class NotebookUnpickler(pickle.Unpickler):
    """Loads one pickle with the reader's own definitions."""

    def __init__(self, file: IO[bytes], together: dict[int, Any] | None = None) -> None:
        """Prepare; ``together`` holds the objects that the value shares with others, as far as they are loaded."""
        super().__init__(file)
        self._file = file
        self._together = {} if together is None else together
        self._own: list[Any] = []
        self._instead: dict[tuple[str, str], Callable[[Callable[..., Any]], Callable[..., Any]]] = {
            ("builtins", "eval"): self._reference,
            (_MODULE, "_make_function"): self._function,
            (_MODULE, "_function_setstate"): self._function_state,
            (_MODULE, "_make_skeleton_class"): self._class,
            (_MODULE, "_make_skeleton_enum"): self._class,
            (_MODULE, "_class_setstate"): self._class_state,
        }

    def read(self) -> Any:
        """Return the value, once its definitions have the variables that they need."""
        value = self.load()
        while getattr(self._file, "peek", bytes)(1):
            HERE.fill(self.load())
        return value

    def persistent_load(self, pid: Any) -> Any:
        """Return a shared object: the one that came with another value, else this one."""
        number, value = pid
        return self._together.setdefault(number, value)

    def find_class(self, module: str, name: str) -> Any:
        """Return the object that a pickle refers to by name."""
        value = super().find_class(module, name)
        instead = self._instead.get((module, name))
        return value if instead is None else instead(value)

    def _is_own(self, value: Any) -> bool:
        return any(value is own for own in self._own)

    def _reference(self, evaluate: Callable[..., Any]) -> Callable[..., Any]:
        def reference(text: str, space: Mapping[str, Any]) -> Any:
            if text != LOOKUP:
                return evaluate(text, space)
            return attribute(HERE.find(space["name"], space["sources"]), space["path"])

        return reference

    def _function(self, make: Callable[..., Any]) -> Callable[..., Any]:
        def function(code: Any, space: Any, identity: Any, *more: Any) -> Any:
            own = MARKED.get(identity)
            if isinstance(own, FunctionType):
                self._own.append(own)
                return own
            if _IN_MAIN in space:
                return FunctionType(code, main_namespace(), identity, *more)
            return make(code, space, identity, *more)

        return function

    def _function_state(self, set_state: Callable[..., Any]) -> Callable[..., Any]:
        def function_state(function: FunctionType, state: Any) -> Any:
            if self._is_own(function):
                return function
            reached, space = state[1]["__globals__"], main_namespace()
            marks = {name: mark(name, digest) for name, digest in reached.pop(_DIGESTS, {}).items()}
            reached.update({name: MARKED[identity] for name, identity in marks.items() if identity in MARKED})
            if function.__globals__ is space:
                reached = {name: space.get(name, value) for name, value in reached.items()}
                # cloudpickle would set the latter.
                reached["__builtins__"] = space["__builtins__"]
            set_state(function, (state[0], {**state[1], "__globals__": reached}))
            if function.__globals__ is space:
                space["__builtins__"] = reached["__builtins__"]
            return _offered(function)

        return function_state

    def _class(self, make: Callable[..., Any]) -> Callable[..., Any]:
        def class_(*arguments: Any) -> Any:
            *_, identity, _ = arguments
            own = MARKED.get(identity)
            made = make(*arguments) if own is None else own
            if own is not None or self._is_complete(made):
                self._own.append(made)
            return made

        return class_

    def _is_complete(self, _made: type) -> bool:
        return False

    def _class_state(self, set_state: Callable[..., Any]) -> Callable[..., Any]:
        def class_state(class_: type, state: Any) -> Any:
            return class_ if self._is_own(class_) else _offered(set_state(class_, state))

        return class_state


class CheckingUnpickler(NotebookUnpickler):
    """Loads a pickle in the process that wrote it, and refuses what no other process could load."""

    def find_class(self, module: str, name: str) -> Any:
        """Return the object that a pickle refers to by name; raise UnsupportedValue if a reader would not find it."""
        if module == "__main__":
            raise UnsupportedValue(f"it refers to `{name}` by its name, which no reader has")
        return super().find_class(module, name)

    def _is_complete(self, _made: type) -> bool:
        # The class that was written: it must not be changed.
        return True


def _offered(value: Any) -> Any:
    """Bind a top-level class or function of a step's cell under its name, as in one kernel, if that is free."""
    name = getattr(value, "__qualname__", "")
    if getattr(value, "__module__", None) == "__main__" and name.isidentifier():
        main_namespace().setdefault(name, value)
    return value
