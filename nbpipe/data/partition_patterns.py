"""Columns from the folders of files: patterns such as ``{day:date}/``, and the types that authors name.

Shipped to steps' kernels as source.
"""

from __future__ import annotations

import difflib
import re
from dataclasses import dataclass
from typing import Any

from nbpipe.data.value_types import library
from nbpipe.errors import BadData

_PLACE = re.compile(r"\{([A-Za-z_]\w*)(?::([^{}]+))?\}")
_SPOKEN = {
    "int": "int64", "float": "double", "str": "string", "text": "string", "date": "date32", "datetime": "timestamp[us]",
    "boolean": "bool",
}  # fmt: skip
_COMMON = (
    *_SPOKEN, "bool", "int8", "int16", "int32", "int64", "uint8", "uint16", "uint32", "uint64", "float32", "float64",
    "string", "binary", "date32", "timestamp[s]", "timestamp[ms]", "timestamp[us]", "timestamp[ns]",
)  # fmt: skip


def arrow_type(name: str) -> Any:
    """Return the Arrow type of this name; raise BadData, with the nearest one, if there is none."""
    try:
        return library("pyarrow").type_for_alias(_SPOKEN.get(name, name))
    except ValueError:
        close = difflib.get_close_matches(name, _COMMON, n=1)
        hint = f"Did you mean `{close[0]}`?" if close else f"For example: {', '.join(_COMMON[:8])}."
        raise BadData(f"there is no type `{name}`", hint) from None


@dataclass(frozen=True, slots=True)
class PartitionPattern:
    """A pattern for the folders of files, with a column for each name in it."""

    text: str
    columns: tuple[tuple[str, str], ...]

    @classmethod
    def of(cls, text: str) -> PartitionPattern:
        """Return the pattern; raise BadData if it has no name, or one twice."""
        columns = tuple((match[1], match[2] or "string") for match in _PLACE.finditer(text))
        if text and (not columns or len({name for name, _ in columns}) < len(columns) or "{" in _PLACE.sub("", text)):
            raise BadData(f"`{text}` is not a pattern for folders", "For example: {year:int}/{day:date}/")
        return cls(text, columns)

    @property
    def names(self) -> frozenset[str]:
        """Return the names of the columns."""
        return frozenset(name for name, _ in self.columns)

    def values(self, path: str) -> list[tuple[str, Any, Any]]:
        """Return the columns with the values that a file's path has, and their Arrow types.

        Raise BadData if the path does not fit.
        """
        if not self.columns:
            return []
        match = re.match(self._expression(), path)
        if match is None:
            raise BadData(f"`{path}` does not fit the pattern `{self.text}`", "Change the pattern, or move the file.")
        return [(name, self._value(path, match[name], type_), arrow_type(type_)) for name, type_ in self.columns]

    def _expression(self) -> str:
        parts, end = [], 0
        for match in _PLACE.finditer(self.text):
            parts += [re.escape(self.text[end : match.start()]), f"(?P<{match[1]}>[^/]+)"]
            end = match.end()
        rest = self.text[end:]
        return "".join([*parts, re.escape(rest), "" if rest.endswith("/") else "/"])

    def _value(self, path: str, text: str, type_: str) -> Any:
        pyarrow = library("pyarrow")
        try:
            return pyarrow.scalar(text).cast(arrow_type(type_)).as_py()
        except pyarrow.ArrowException:
            hint = "Change its type in the pattern, or leave the type out."
            raise BadData(f"`{text}` in the path `{path}` is not {type_}", hint) from None
