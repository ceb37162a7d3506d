"""Edits of the datastores in ``nbpipe.toml``; its comments and its layout stay."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import tomlkit
from tomlkit.exceptions import TOMLKitError

from nbpipe.data.atomic_file import write_file
from nbpipe.errors import BadUsage, StoreOutOfReach
from nbpipe.resolve.datastore_settings import DEFAULT

_TABLE = "datastores"


def add_datastore(settings: Path, name: str, table: Mapping[str, object]) -> None:
    """Add a datastore to a settings file, which is created if it is missing; raise BadUsage if it has this name."""
    document = _read(settings)
    datastores: Any = document.setdefault(_TABLE, tomlkit.table(is_super_table=True))
    if name in datastores:
        raise BadUsage(f"{settings} has a datastore `{name}` already", "Choose another name, or edit it there.")
    datastores[name] = _table(table)
    _write(settings, document)


def choose_default(settings: Path, name: str | None) -> None:
    """Write the name of the default datastore into a settings file; None stands for the workspace's own folder."""
    document = _read(settings)
    datastores: Any = document.setdefault(_TABLE, tomlkit.table())
    if name is None:
        datastores.pop(DEFAULT, None)
    else:
        datastores[DEFAULT] = name
    _write(settings, document)


def _read(settings: Path) -> tomlkit.TOMLDocument:
    try:
        return tomlkit.parse(settings.read_text(encoding="utf-8") if settings.exists() else "")
    except (OSError, UnicodeDecodeError, TOMLKitError) as error:
        raise BadUsage(f"{settings} cannot be read: {error}") from None


def _write(settings: Path, document: tomlkit.TOMLDocument) -> None:
    mode = settings.stat().st_mode & 0o777 if settings.exists() else 0o644
    try:
        write_file(settings, tomlkit.dumps(document).encode(), mode=mode, durable=False)
    except OSError as error:
        raise StoreOutOfReach(f"{settings} cannot be written: {error.strerror}") from None


def _table(values: Mapping[str, object]) -> tomlkit.items.Table:
    table = tomlkit.table()
    for key, value in values.items():
        if isinstance(value, Mapping):
            inline = tomlkit.inline_table()
            inline.update(value)
            table[key] = inline
        else:
            table[key] = value
    return table
