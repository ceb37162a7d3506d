"""What a step's cells displayed, for the cell that declares the step: pictures, tables, formulas, as HTML."""

from __future__ import annotations

from base64 import b64encode
from collections.abc import Iterator, Mapping
from html import escape
from typing import Any

from nbpipe.views.log_text import joined, shown

_ROOM = 4_000_000
_IMAGE = "max-width:100%"
_TEXT = "white-space:pre-wrap"
_RASTER = ("image/png", "image/jpeg", "image/gif")
_SOURCES = ("text/markdown", "text/latex")


def rich_outputs(notebook: Mapping[str, Any]) -> tuple[str, ...]:
    """Get each rich display of an executed one-step notebook as HTML; plain text is with what the step printed.

    The HTML of a display is the author's own and stays as it is. Together they take up to four million characters.
    """
    room, found, left = _ROOM, list[str](), 0
    for output in shown(notebook):
        html = _html(output.get("data") or {})
        if html and len(html) <= room:
            found.append(html)
            room -= len(html)
        else:
            left += bool(html)
    if left:
        found.append(f"<div>{left} more displays are in the executed notebook</div>")
    return tuple(found)


def _html(data: Mapping[str, Any]) -> str:
    return next(_forms(data), "")


def _forms(data: Mapping[str, Any]) -> Iterator[str]:
    """Get a display's forms that a saved notebook can show anywhere, best first."""
    if isinstance(html := joined(data.get("text/html")), str):
        yield html
    if isinstance(svg := joined(data.get("image/svg+xml")), str):
        yield _picture("image/svg+xml", b64encode(svg.encode()).decode("ascii"))
    for media in _RASTER:
        if isinstance(drawn := joined(data.get(media)), str):
            yield _picture(media, escape("".join(drawn.split()), quote=True))
    for media in _SOURCES:
        if isinstance(source := joined(data.get(media)), str):
            yield f'<div style="{_TEXT}">{escape(source)}</div>'


def _picture(media: str, data: str) -> str:
    return f'<img src="data:{media};base64,{data}" alt="a picture that the step displayed" style="{_IMAGE}">'
