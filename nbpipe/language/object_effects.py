"""What code does to objects, which are known by their origins: where they came from."""

from __future__ import annotations

import ast
from dataclasses import dataclass

Origin = tuple[str, str]
Origins = frozenset[Origin]

NOTHING: Origins = frozenset()


@dataclass(frozen=True, slots=True)
class Change:
    """A change in place of an object, with the code that makes it; not ``certain`` if a function is only stored."""

    origin: Origin
    node: ast.AST
    certain: bool = True


@dataclass(frozen=True, slots=True)
class CallEffects:
    """What a call of a function changes: parameters, and what global names hold; and what it returns.

    ``possible`` is what functions that it stores or returns would change.
    """

    changes: tuple[Origin, ...] = ()
    possible: tuple[Origin, ...] = ()
    rebinds: tuple[str, ...] = ()
    returns: Origins = NOTHING
    draws: frozenset[str] = frozenset()
