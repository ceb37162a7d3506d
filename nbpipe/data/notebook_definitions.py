"""The notebook's definitions in this process, and references to them that a pickle holds in their place.

As in one kernel, an instance does not bring its class along: a pickle names the definition, and whoever loads it uses
the definition of that name that is there. A process that lacks it makes it from the texts in the reference, which has
everything that the definition needs in turn. So equal values with equal definitions have equal bytes, and a change of
a definition changes the bytes of every value that refers to it.
"""

from __future__ import annotations

import builtins
import functools
import importlib.abc
import linecache
import sys
import threading
from collections.abc import Iterable, Iterator, Mapping
from types import FunctionType, ModuleType
from typing import Any

from nbpipe.data.value_types import same

# The names that a definition binds, its text, and the names that it needs.
Source = tuple[tuple[str, ...], str, tuple[str, ...]]

# What a reference means to a process without nbpipe.
LOOKUP = (
    "(lambda main: [exec(text, main) for names, text, _ in sources if not set(names) <= main.keys()]"
    " and __import__('functools').reduce(getattr, path, main[name]))(__import__('__main__').__dict__)"
)
_FUTURE = "from __future__ import annotations\n"
_DEFINING = ("def ", "async def ", "class ", "@")
# Objects without content: a copy of one is another one.
_BARE = (object, type(threading.Lock()), type(threading.RLock()))
_OF_THE_SHELL = frozenset({"In", "Out", "get_ipython", "exit", "quit", "display", "open", "_", "__", "___"})
_NONE = object()


class NotebookDefinitions:
    """The definitions of one process: the notebook's own, and those that loaded values have brought."""

    def __init__(self) -> None:
        self._sources: dict[str, Source] = {}
        self._own: dict[str, Any] = {}
        self._brought: dict[str, Any] = {}
        self._filled: dict[str, Any] = {}
        self._inputs: frozenset[str] = frozenset()

    def declare(self, namespace: Mapping[str, Any], names: Iterable[str], sources: Iterable[Source]) -> None:
        """Take the objects of these names in ``namespace`` as the definitions; ``sources`` are their texts."""
        self._filled.clear()
        listed = list(sources)
        for source in listed:
            self._sources |= dict.fromkeys(source[0], source)
        wanted = {*names, *(name for source in listed for name in source[0])}
        self._own |= {name: namespace[name] for name in wanted if name in namespace}

    def expect_inputs(self, names: Iterable[str]) -> None:
        """Leave these names to a step's inputs, also before they are bound."""
        self._inputs = frozenset(names)

    # Writing

    def references(self) -> dict[int, tuple[str, tuple[str, ...]]]:
        """Return the name and the attributes that lead to each object that pickles refer to, by its identity."""
        return {
            id(part): (name, path)
            for name, value in {**self._brought, **self._own}.items()
            if name in self._sources and _is_code(name, value, self._sources[name])
            for path, part in _parts((), value)
        }

    def is_own(self, name: str, value: Any) -> bool:
        """Return whether a global of the notebook's code is a definition that can be referred to."""
        return name in self._sources and (self._own.get(name, _NONE) is value or self._brought.get(name) is value)

    def closure(self, name: str) -> tuple[Source, ...]:
        """Return the texts of a definition and of all that it needs, in the order in which they can be executed."""
        todo, reached = [name], set[str]()
        while todo:
            at = todo.pop()
            if at not in reached and at in self._sources:
                reached |= {at, *self._sources[at][0]}
                todo += self._sources[at][2]
        unique = {id(source): source for at, source in self._sources.items() if at in reached}
        return tuple(unique.values())

    def loose(self, sources: Iterable[Source]) -> dict[str, Any]:
        """Return the globals that definitions need and that are none themselves: what the step itself has bound."""
        needed = {name for source in sources for name in source[2]} - self._sources.keys() - _OF_THE_SHELL
        space = main_namespace()
        return {name: space[name] for name in sorted(needed) if name in space and not hasattr(builtins, name)}

    # Reading

    def find(self, name: str, sources: Iterable[Source]) -> Any:
        """Return the definition of this name that is here, or else make it from the texts."""
        for source in sources:
            missing = [each for each in source[0] if self._here(each, source, strict=each == name) is _NONE]
            if missing:
                self._make(source)
            for each in source[0]:
                self._sources.setdefault(each, source)
        return self._here(name, self._sources[name])

    def _here(self, name: str, source: Source, *, strict: bool = False) -> Any:
        if name in self._own:
            return self._own[name]
        value = main_namespace().get(name, _NONE)
        if value is _NONE or ((strict or name in self._brought) and not _may_be(name, value, source)):
            return self._brought.get(name, _NONE)
        return value

    def _make(self, source: Source) -> None:
        main, names = sys.modules["__main__"], source[0]
        space = main_namespace()
        taken = {name: space[name] for name in names if name in space}
        _Text(source).exec_module(main)
        self._brought |= {name: space[name] for name in names if name in space}
        space.update(taken)

    def fill(self, values: Mapping[str, Any]) -> None:
        """Bind globals that loaded definitions need and that are not bound here; raise for two different values."""
        space = main_namespace()
        for name, value in values.items():
            if name in self._inputs:
                continue
            if name in self._filled and not _equal(self._filled[name], value):
                raise ValueError(f"`{name}` has two values: one for each of two inputs; declare it as an input, too")
            self._filled.setdefault(name, value)
            space.setdefault(name, value)


HERE = NotebookDefinitions()


def main_namespace() -> dict[str, Any]:
    """Return the namespace in which a kernel runs its cells."""
    return vars(sys.modules["__main__"])


class _Text(importlib.abc.InspectLoader):
    """Executes a definition's text in the module ``__main__``; tracebacks show its lines."""

    def __init__(self, source: Source) -> None:
        self._names, self._source, _ = source

    def get_source(self, _fullname: str) -> str:
        """Return the text."""
        return self._source

    def get_code(self, fullname: str) -> Any:
        """Return the compiled text."""
        file = f"<definition of {', '.join(self._names)}>"
        linecache.cache[file] = (len(self._source), None, self._source.splitlines(keepends=True), file)
        return self.source_to_code(self.get_source(fullname), file)

    def exec_module(self, module: ModuleType) -> None:
        """Execute the text."""
        super().exec_module(module)


def _is_code(name: str, value: Any, source: Source) -> bool:
    """Return whether pickles refer to a definition; a constant is stored with its present content."""
    names, text, _ = source
    if len(names) == 1 and text.removeprefix(_FUTURE).startswith(_DEFINING):
        return True
    if isinstance(value, ModuleType) or getattr(value, "__module__", None) != "__main__":
        return type(value) in _BARE
    qualified = getattr(value, "__qualname__", getattr(value, "__name__", None))
    return isinstance(value, type | FunctionType) or qualified == name


def _may_be(name: str, value: Any, source: Source) -> bool:
    """Return whether a name that is bound here may be the definition: not the value of an input of that name."""
    plain = source[1].removeprefix(_FUTURE).startswith(_DEFINING[:-1])
    return not plain or getattr(value, "__qualname__", None) == name


def _parts(path: tuple[str, ...], value: Any) -> Iterator[tuple[tuple[str, ...], Any]]:
    """Yield a definition, and the classes and functions within it, with the attributes that lead to them."""
    yield path, value
    if not isinstance(value, type) or value.__module__ != "__main__":
        return
    for name, part in tuple(vars(value).items()):
        inner = getattr(part, "__func__", part)
        if getattr(inner, "__qualname__", "") == f"{value.__qualname__}.{name}":
            yield from _parts((*path, name, *(("__func__",) if isinstance(part, classmethod) else ())), inner)


def _equal(left: Any, right: Any) -> bool:
    try:
        return left is right or same(left, right)
    except (ValueError, TypeError):
        # Arrays and tables have no single truth.
        return False


def attribute(owner: Any, path: Iterable[str]) -> Any:
    """Return what a path of attributes leads to."""
    return functools.reduce(getattr, path, owner)
