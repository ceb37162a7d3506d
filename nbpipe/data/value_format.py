"""What makes a file format for values. Shipped to steps' kernels beside ``formats``."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, slots=True)
class ValueFormat:
    """A file format for values: ``write`` returns a note or raises UnsupportedValue, ``read`` returns the value.

    Both take a path; if the format is pickled, also what the value shares with others.
    """

    suffix: str
    libraries: tuple[str, ...]
    write: Callable[..., str]
    read: Callable[..., Any]
    is_pickled: bool = False
