"""The table ``[keep]`` of ``nbpipe.toml``, checked."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path

from nbpipe.errors import BadUsage
from nbpipe.language.source_text import nearest
from nbpipe.model.retention import RetentionPolicy
from nbpipe.resolve.workspace_layout import SETTINGS, WorkspaceLayout

_KEYS = ("runs", "days", "size", "failed")
_SIZE = re.compile(r"(\d+(?:\.\d+)?)\s*(B|kB|MB|GB|TB|KiB|MiB|GiB|TiB)?")
_UNITS = {"B": 1, "kB": 10**3, "MB": 10**6, "GB": 10**9, "TB": 10**12, "KiB": 1 << 10, "MiB": 1 << 20, "GiB": 1 << 30,
          "TiB": 1 << 40}  # fmt: skip


def retention_policy(layout: WorkspaceLayout) -> RetentionPolicy:
    """Return what keeps results in a workspace; raise BadUsage if the settings are wrong."""
    return policy_in(layout.keep, f"[keep] in {layout.settings_file or Path(SETTINGS)}")


def policy_in(table: object, where: str) -> RetentionPolicy:
    """Return the policy in a table of the settings file."""
    if not isinstance(table, Mapping):
        raise BadUsage(f"{where} is not a table", "Write it as [keep].")
    for key in table:
        if key not in _KEYS:
            raise BadUsage(f"{where} has the key `{key}`", nearest(key, _KEYS) or f"It knows: {', '.join(_KEYS)}.")
    default = RetentionPolicy()
    days = table.get("days", default.days)
    if isinstance(days, bool) or not isinstance(days, int | float) or not 0 <= days < float("inf"):
        raise BadUsage(f"`days` of {where} is {days!r}", "It is a number of days, for example 30.")
    return RetentionPolicy(
        _count(table, "runs", default.runs, where), float(days), _size(table.get("size"), where),
        _count(table, "failed", default.failed, where),
    )  # fmt: skip


def _count(table: Mapping[str, object], key: str, default: int, where: str) -> int:
    value = table.get(key, default)
    if isinstance(value, bool) or not isinstance(value, int) or value < 0:
        raise BadUsage(f"`{key}` of {where} is {value!r}", f"It is a number, for example {default}.")
    return value


def _size(value: object, where: str) -> int | None:
    if value is None:
        return None
    match = _SIZE.fullmatch(value) if isinstance(value, str) else None
    if match is None:
        raise BadUsage(f"`size` of {where} is {value!r}", 'It is a size, for example "200 GiB".')
    return int(float(match[1]) * _UNITS[match[2] or "B"])
