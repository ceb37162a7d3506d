"""The identity of a notebook's classes and functions across the kernels of its steps.

Each step's kernel defines them again in ``__main__``. Pickles refer to them (:mod:`nbpipe.data.notebook_definitions`);
older ones hold them by value, with a mark derived from the name and the definition, by which a reader recognises its
own equal definition.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from types import FunctionType
from typing import Any

from nbpipe.data.notebook_definitions import HERE, Source

# The objects defined here by mark.
MARKED: dict[str, Any] = {}


def share_classes(namespace: Mapping[str, Any], definitions: Mapping[str, str], sources: Iterable[Source] = ()) -> None:
    """Identify the definitions in ``namespace`` with those of the same name in other kernels.

    ``definitions`` maps the names of shared definitions to their digests; with ``sources`` pickles can refer to them.
    """
    HERE.declare(namespace, definitions, sources)
    defined = {name: namespace[name] for name in definitions if name in namespace}
    MARKED.update({mark(name, definitions[name]): value for name, value in defined.items()})
    for name, value in defined.items():
        for within, part in _parts(name, value):
            MARKED[mark(within, definitions[name])] = part


def mark(name: str, digest: str) -> str:
    """Return the mark of a definition, which is the same in all kernels."""
    return f"{name}-{digest}"


def _parts(name: str, value: Any) -> Iterator[tuple[str, Any]]:
    """Yield a defined function or class, and those within it, by qualified name."""
    if isinstance(value, FunctionType):
        yield name, value
    elif isinstance(value, type) and value.__module__ == "__main__":
        yield name, value
        for within, part in tuple(vars(value).items()):
            function = getattr(part, "__func__", part)
            if getattr(function, "__qualname__", "") == f"{value.__qualname__}.{within}":
                yield from _parts(f"{name}.{within}", function)
