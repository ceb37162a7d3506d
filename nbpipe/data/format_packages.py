"""Formats that other packages add under the entry point ``nbpipe.formats``. Shipped to steps' kernels.

Which there are is read from the packages' metadata; a package is imported only where a value is written or read.
"""

from __future__ import annotations

import importlib.util
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

from nbpipe.data.value_format import ValueFormat
from nbpipe.data.value_types import UnsupportedValue
from nbpipe.entry_points import FORMATS, OfferedEntryPoint, offered
from nbpipe.errors import FormatUnavailable

_SUFFIX = re.compile(r"\.[A-Za-z0-9][A-Za-z0-9._+-]{0,49}")


def offered_as(format: str) -> tuple[OfferedEntryPoint, ...]:
    """Return the packages' offers of a format; more than one is an error of theirs."""
    return tuple(each for each in offered(FORMATS) if each.name == format)


def problem(format: str) -> tuple[str, str] | None:
    """Return why a format of other packages cannot be used here, as the end of a sentence, and the cure."""
    offers = offered_as(format)
    if not offers:
        return "is of no package that is installed here", "Install the package that adds it."
    if len(offers) > 1:
        packages = " and ".join(each.package for each in offers)
        return f"is added by more than one package: {packages}", "Uninstall all but one of them."
    try:
        is_there = importlib.util.find_spec(offers[0].module) is not None
    except (ImportError, ValueError):
        is_there = False
    if not is_there:
        what = f"is added by {offers[0].package}, whose module {offers[0].module} is not there"
        return what, "Install the package again."
    return None


def require_usable(format: str) -> OfferedEntryPoint:
    """Return the one offer of a format; raise FormatUnavailable if there is none, or one too many."""
    found = problem(format)
    if found is not None:
        raise FormatUnavailable(f"the format `{format}` {found[0]}", found[1])
    return offered_as(format)[0]


def as_value_format(offer: OfferedEntryPoint, added: Any) -> ValueFormat:
    """Return what a package adds as a format; raise FormatUnavailable if it lacks something."""
    suffix = getattr(added, "suffix", None)
    is_valid = isinstance(suffix, str) and _SUFFIX.fullmatch(suffix) is not None
    lacking = [] if is_valid else ["suffix"]
    lacking += [name for name in ("write", "read") if not callable(getattr(added, name, None))]
    if lacking:
        message = f"the format `{offer.name}` of {offer.package} has no valid {' and no valid '.join(lacking)}"
        hint = f"`{offer.target}` needs suffix (such as .{offer.name}), write(value, path) and read(path)."
        raise FormatUnavailable(message, hint)
    return ValueFormat(str(suffix), (offer.module,), _checked(added.write, offer), added.read)


def _checked(write: Callable[[Any, Path], str | None], offer: OfferedEntryPoint) -> Callable[[Any, Path], str]:
    """Return a writer that has written one file when it returns."""

    def written(value: Any, path: Path) -> str:
        note = write(value, path)
        if path.is_symlink() or not path.is_file():
            raise UnsupportedValue(f"{offer.package} wrote no file to the path that it was given")
        return note if isinstance(note, str) else ""

    return written
