"""Places in datastores as authors write them: ``store:NAME/path``."""

from __future__ import annotations

import re
from dataclasses import dataclass

from nbpipe.errors import BadUsage

SCHEME = "store:"
_PLACE = re.compile(r"(?:store:)?([A-Za-z][A-Za-z0-9_-]*)(?:/(.*))?", re.DOTALL)


@dataclass(frozen=True, slots=True)
class StorePath:
    """A place in a datastore: ``key`` is empty for its root, and ends in a slash for what is said to be a folder."""

    store: str
    key: str

    def __str__(self) -> str:
        return f"{SCHEME}{self.store}/{self.key}"

    @property
    def is_folder(self) -> bool:
        """Return whether its text says that it is a folder."""
        return not self.key or self.key.endswith("/")

    def below(self, relative: str) -> StorePath:
        """Return a place below this one as a folder."""
        return StorePath(self.store, f"{self.key.rstrip('/')}/{relative}".lstrip("/"))


def parse_store_path(text: str) -> StorePath:
    """Return the place that a text names, with or without ``store:``; raise BadUsage if it names none."""
    match = _PLACE.fullmatch(text)
    if match is None:
        raise BadUsage(f"`{text}` is not a place in a datastore", "For example: store:lake/raw/data.csv")
    return StorePath(match[1], match[2] or "")
