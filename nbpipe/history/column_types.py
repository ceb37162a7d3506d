"""Column types that check every value they read: a value that nbpipe cannot have written raises ValueError.

SQLite stores any value in any column, so the declared type of a column says nothing about what a damaged one holds.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import PurePosixPath
from typing import Any, ClassVar

from sqlalchemy import BigInteger, Boolean, Dialect, Double, LargeBinary, Text
from sqlalchemy.types import TypeDecorator, TypeEngine

# What SQLite can hold.
_LARGEST = 1 << 63
# Times in seconds since the epoch that any calendar can name.
_LONGEST = 2e12


class CheckedType(TypeDecorator[Any]):
    """A column type whose values are checked when they are read; only an ``optional`` one may be NULL."""

    impl: TypeEngine[Any] | type[TypeEngine[Any]] = Text
    cache_ok = True
    meaning: ClassVar[str] = ""

    def __init__(self, *, optional: bool = False) -> None:
        super().__init__()
        self.optional = optional

    def result_processor(self, dialect: Dialect, coltype: object) -> Callable[[Any], Any]:  # noqa: ARG002  # theirs
        """Return the check of values that the driver gives."""
        return self.checked

    def checked(self, value: Any) -> Any:
        """Return the value as it is stored in a column of this type; raise ValueError if it cannot be."""
        if value is None and self.optional:
            return None
        if not self.accepts(value):
            raise ValueError(f"{value!r:.60} is not {self.meaning}")
        return value

    def accepts(self, value: Any) -> bool:
        """Return whether a value that is not NULL may be in a column of this type."""
        raise NotImplementedError


class StoredText(CheckedType):
    """Text."""

    cache_ok = True
    meaning = "a text"

    def accepts(self, value: Any) -> bool:
        """Return whether it is a text."""
        return type(value) is str


class StoredName(CheckedType):
    """The name of a file or a folder, without those above it."""

    cache_ok = True
    meaning = "a name"

    def accepts(self, value: Any) -> bool:
        """Return whether it is such a name."""
        return type(value) is str and value not in ("", ".", "..") and "/" not in value and "\0" not in value


class StoredPath(CheckedType):
    """The path of a file or a folder in the workspace, relative to its folder; it never leads out of it."""

    cache_ok = True
    meaning = "a path in the workspace"

    def accepts(self, value: Any) -> bool:
        """Return whether it is such a path."""
        return type(value) is str and leads_inside(value)


class StoredNumber(CheckedType):
    """A count, a position or a size."""

    impl = BigInteger
    cache_ok = True
    meaning = "a count"

    def accepts(self, value: Any) -> bool:
        """Return whether it is a whole number that counts something."""
        return type(value) is int and 0 <= value < _LARGEST


class StoredInteger(CheckedType):
    """A whole number, of either sign."""

    impl = BigInteger
    cache_ok = True
    meaning = "a whole number"

    def accepts(self, value: Any) -> bool:
        """Return whether it is a whole number."""
        return type(value) is int


class StoredTime(CheckedType):
    """A time in seconds since the epoch."""

    impl = Double
    cache_ok = True
    meaning = "a time"

    def accepts(self, value: Any) -> bool:
        """Return whether it is a time that a calendar can show."""
        return type(value) in (float, int) and math.isfinite(value) and abs(value) < _LONGEST


class StoredDuration(CheckedType):
    """A duration, in seconds."""

    impl = Double
    cache_ok = True
    meaning = "a duration"

    def accepts(self, value: Any) -> bool:
        """Return whether it is a finite number."""
        return type(value) in (float, int) and math.isfinite(value)


class StoredFlag(CheckedType):
    """True or false."""

    impl = Boolean
    cache_ok = True
    meaning = "true or false"

    def accepts(self, value: Any) -> bool:
        """Return whether it is the number of a truth value."""
        return type(value) in (int, bool) and value in (0, 1)

    def checked(self, value: Any) -> Any:
        """Return the truth value."""
        return bool(super().checked(value))


class StoredBytes(CheckedType):
    """Bytes."""

    impl = LargeBinary
    cache_ok = True
    meaning = "bytes"

    def accepts(self, value: Any) -> bool:
        """Return whether it is bytes."""
        return type(value) is bytes


def leads_inside(reference: str) -> bool:
    """Return whether a relative path stays below the folder that it is relative to, as far as its text says."""
    path = PurePosixPath(reference)
    return not path.is_absolute() and ".." not in path.parts and "\0" not in reference
