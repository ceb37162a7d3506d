"""Long texts, stored once each under a name made from their content."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from functools import cache
from typing import Any

from blake3 import blake3
from sqlalchemy import Connection, bindparam, select

from nbpipe.codec import convert, pack, unpack
from nbpipe.history.database import chunks, insert_absent
from nbpipe.history.row_mapping import to_json
from nbpipe.history.schema import texts
from nbpipe.model import ComponentName, KeyComponent, Observation, ObservationKind

# Shorter texts are read faster as part of their list, although some lists repeat them.
_LONG = 2048
_ComponentRows = tuple[tuple[ComponentName, str, str, str, bool], ...]
_OBSERVED = tuple[tuple[ObservationKind, str, str, str], ...]
_STORED = cache(lambda: select(texts.c.digest).where(texts.c.digest.in_(bindparam("names", expanding=True))))
_TEXTS = cache(
    lambda: select(texts.c.digest, texts.c.text).where(texts.c.digest.in_(bindparam("names", expanding=True)))
)


class TextPool:
    """Collects texts to be stored, and names them."""

    def __init__(self) -> None:
        self._by_digest: dict[str, str] = {}

    def add(self, value: object) -> str:
        """Return the name under which ``value`` will be stored."""
        # JSON escapes what not every database stores in a text: NUL and lone surrogates.
        text = to_json(value)
        digest = _digest(text)
        self._by_digest[digest] = text
        return digest

    def add_components(self, components: Sequence[KeyComponent]) -> str | None:
        """Return the name of a list of components; long texts in it are stored separately and shared."""
        if not components:
            return None
        return self.add([[part.name, part.digest, part.summary, *self._reference(part.text)] for part in components])

    def add_observed(self, observed: Sequence[Observation]) -> str | None:
        """Return the name of a list of observations."""
        if not observed:
            return None
        return self.add([[item.kind, item.name, item.state, item.left] for item in observed])

    def store(self, connection: Connection) -> None:
        """Write the texts that are not stored yet."""
        stored: set[str] = set()
        for chunk in chunks(list(self._by_digest)):
            stored.update(connection.scalars(_STORED(), {"names": chunk}).all())
        rows = [{"digest": name, "text": pack(text)} for name, text in self._by_digest.items() if name not in stored]
        insert_absent(connection, texts, rows)

    def _reference(self, text: str) -> tuple[str, bool]:
        return (self.add(text), True) if len(text) > _LONG else (text, False)


def load_components(connection: Connection, names: Iterable[str | None]) -> dict[str | None, tuple[KeyComponent, ...]]:
    """Return the lists of components by name; None is the name of the empty list."""
    named = [name for name in names if name is not None]
    lists = {name: components_from(value) for name, value in load(connection, named).items()}
    inner = load(connection, [text for rows in lists.values() for *_, text, apart in rows if apart])
    components: dict[str | None, tuple[KeyComponent, ...]] = {None: ()}
    for name, rows in lists.items():
        components[name] = tuple(
            KeyComponent(part, digest, summary, inner[text] if apart else text)
            for part, digest, summary, text, apart in rows
        )
    return components


def components_from(value: object) -> _ComponentRows:
    """Return a stored list of components; raise ValueError if the value is something else."""
    return convert(value, _ComponentRows)


def load_observed(connection: Connection, names: Iterable[str | None]) -> dict[str | None, tuple[Observation, ...]]:
    """Return the lists of observations by name; None is the name of the empty list."""
    lists = load(connection, [name for name in names if name is not None])
    empty: dict[str | None, tuple[Observation, ...]] = {None: ()}
    return empty | {name: observed_from(value) for name, value in lists.items()}


def observed_from(value: object) -> tuple[Observation, ...]:
    """Return a stored list of observations; raise ValueError if the value is something else."""
    return tuple(Observation(*parts) for parts in convert(value, _OBSERVED))


def load(connection: Connection, names: Sequence[str]) -> dict[str, Any]:
    """Return what was stored under each name."""
    values: dict[str, Any] = {}
    for chunk in chunks(names):
        rows = connection.execute(_TEXTS(), {"names": chunk}).all()
        values.update((row.digest, text_from(row.digest, row.text)) for row in rows)
    lost = next((name for name in names if name not in values), None)
    if lost is not None:
        raise ValueError(f"the text {lost} is missing")
    return values


def text_from(digest: str, packed: bytes) -> Any:
    """Return the value of a stored text; raise ValueError if it is not the one that the digest names."""
    text = unpack(packed)
    if _digest(text) != digest:
        raise ValueError(f"the text {digest} is another one")
    return json.loads(text)


def _digest(text: str) -> str:
    return blake3(text.encode("ascii")).hexdigest()[:40]
