"""What code does to objects, which are known by their origins: where they came from."""

from __future__ import annotations

import ast
from dataclasses import dataclass
from enum import Enum

Origin = tuple[str, str]
Origins = frozenset[Origin]

NOTHING: Origins = frozenset()


class Use(Enum):
    """What code does with an object."""

    PASSED = "passed"
    CALLED = "called"
    ITEM = "item"
    ADDED = "added"


@dataclass(frozen=True, slots=True)
class Change:
    """A change in place of an object, with the code that makes it; not ``certain`` if a function is only stored.

    It is not ``known`` if the code only calls a method of which nothing is known, for its effect. It ``restores``
    what other code has replaced, if the code puts the original back.
    """

    origin: Origin
    node: ast.AST
    certain: bool = True
    known: bool = True
    restores: bool = False


@dataclass(frozen=True, slots=True)
class CallEffects:
    """What a call of a function changes: parameters, and what global names hold; and what it returns.

    ``possible`` is what functions that it stores or returns would change, ``suspected`` what methods may change of
    which nothing is known, ``uses`` what it calls or passes on, ``restores`` what it puts back, ``parts`` what a new
    list or dict holds that it returns.
    """

    changes: tuple[Origin, ...] = ()
    possible: tuple[Origin, ...] = ()
    rebinds: tuple[str, ...] = ()
    returns: Origins = NOTHING
    draws: frozenset[str] = frozenset()
    suspected: tuple[Origin, ...] = ()
    uses: tuple[tuple[Use, Origin], ...] = ()
    restores: tuple[Origin, ...] = ()
    parts: Origins = NOTHING
