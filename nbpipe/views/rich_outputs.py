"""The rich displays of a step's cells as HTML, for the cell that declares the step: pictures, tables, formulas."""

from __future__ import annotations

from base64 import b64encode
from collections.abc import Iterator, Mapping
from typing import Any

from nbpipe.views.html import Html, element
from nbpipe.views.log_text import joined, plain, shown

_ROOM = 4_000_000
_IMAGE = "max-width:100%"
_TEXT = "white-space:pre-wrap"
_RASTER = ("image/png", "image/jpeg", "image/gif")
_SOURCES = ("text/markdown", "text/latex")


def rich_outputs(notebook: Mapping[str, Any]) -> tuple[Html, ...]:
    """Return each rich display of an executed one-step notebook as HTML; plain text belongs to the printed output.

    The HTML of a display is the author's own and is not changed. Together they take up to four million characters.
    """
    room, displays, omitted = _ROOM, list[Html](), 0
    for output in shown(notebook):
        html = next(_forms(output.get("data") or {}), Html())
        size = len(html.text)
        if html and size <= room:
            displays.append(html)
            room -= size
        else:
            omitted += bool(html)
    if omitted:
        displays.append(element("div", f"{omitted} more displays are in the executed notebook"))
    return tuple(displays)


def _forms(data: Mapping[str, Any]) -> Iterator[Html]:
    """Return the representations of a display that a saved notebook can show anywhere, best first."""
    if isinstance(html := joined(data.get("text/html")), str):
        yield Html.trusted(html)
    if isinstance(svg := joined(data.get("image/svg+xml")), str):
        yield _picture("image/svg+xml", b64encode(svg.encode()).decode("ascii"))
    for media in _RASTER:
        if isinstance(drawn := joined(data.get(media)), str):
            yield _picture(media, "".join(drawn.split()))
    for media in _SOURCES:
        if isinstance(source := joined(data.get(media)), str):
            yield element("div", plain(source).expandtabs(4), style=_TEXT)


def _picture(media: str, data: str) -> Html:
    return element("img", src=f"data:{media};base64,{data}", alt="a picture that the step displayed", style=_IMAGE)
