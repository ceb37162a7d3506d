"""What ``nbpipe.toml`` allows inputs from the web, checked; nothing is looked up here."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path

from nbpipe.errors import BadUsage
from nbpipe.language.option_values import bytes_in
from nbpipe.language.source_text import nearest
from nbpipe.model.web import WebLimits, WebSettings
from nbpipe.resolve.workspace_layout import SETTINGS, WorkspaceLayout

_KEYS = ("allow", "unencrypted", "limit")
_HOST = re.compile(r"[^\s/:@\[\]*]+|[0-9a-fA-F:]+")


def web_settings(layout: WorkspaceLayout) -> WebSettings:
    """Return what the settings of a workspace allow; raise BadUsage if something in them is wrong."""
    where, table = f"[web] in {layout.settings_file or Path(SETTINGS)}", layout.web
    for key in table:
        if key not in _KEYS:
            raise BadUsage(f"{where} has the key `{key}`", nearest(key, _KEYS) or f"It knows: {', '.join(_KEYS)}.")
    limits = WebLimits()
    if "limit" in table:
        limits = WebLimits(content=_limit(where, table["limit"]))
    return WebSettings(_hosts(where, table, "allow"), _hosts(where, table, "unencrypted"), limits)


def _hosts(where: str, table: Mapping[str, object], key: str) -> frozenset[str]:
    listed = table.get(key, [])
    example = f'For example: {key} = ["data.lab"]'
    if not isinstance(listed, list):
        raise BadUsage(f"`{key}` of {where} is not a list of hosts", example)
    for host in listed:
        if not isinstance(host, str) or _HOST.fullmatch(host) is None:
            raise BadUsage(f"`{key}` of {where} has {host!r}, which is not the name of a host", example)
    return frozenset(_looked_up(host) for host in listed)


def _looked_up(host: str) -> str:
    try:
        return host.lower() if host.isascii() else host.lower().encode("idna").decode("ascii")
    except UnicodeError:
        return host


def _limit(where: str, text: object) -> int:
    amount = bytes_in(text) if isinstance(text, str) else None
    if not amount:
        raise BadUsage(f"`limit` of {where} is {text!r}, which is no size", 'For example: limit = "100 GiB"')
    return amount
