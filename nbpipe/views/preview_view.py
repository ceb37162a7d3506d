"""Previews of outputs as HTML and as plain lines, for live cards and saved notebooks."""

from __future__ import annotations

from base64 import b64encode

from nbpipe.model import Artifact, Preview, PreviewImage
from nbpipe.views.html import Html, element
from nbpipe.views.log_text import plain
from nbpipe.views.terminal_text import fit, harmless, one_line, pad, width
from nbpipe.views.wording import size

_MEDIA = frozenset({"image/png", "image/jpeg", "image/gif"})
_COLUMNS = 60
_LINES = 24

# Colours come from the surroundings: a saved notebook is read in any theme, and also without styles.
_TABLE = "border-collapse:collapse;color:inherit;background:none;font-size:0.92em;margin:4px 0"
_HEAD = "text-align:left;padding:2px 12px 2px 0;border-bottom:1px solid currentColor;font-weight:600"
_CELL = "text-align:left;padding:2px 12px 2px 0;white-space:nowrap"
_TYPE = "font-weight:400;opacity:0.65"
_TEXT = (
    "font-family:monospace;color:inherit;background:none;margin:4px 0;padding:0;white-space:pre-wrap;font-size:0.92em"
)
_IMAGE = "max-width:100%;max-height:360px;background:#fff"


def title(artifact: Artifact, preview: Preview | None) -> str:
    """Return an output's shape, format and size in words, and the version of a dataset that it is."""
    facts = [preview.summary if preview is not None else "", artifact.format, size(artifact.bytes), artifact.dataset]
    return one_line(" · ".join(text for text in facts if text))


def glimpse_html(preview: Preview) -> Html:
    """Return a preview of an output's content; empty if its summary is complete."""
    parts = [*map(_picture, preview.pictures)]
    if preview.columns or preview.rows:
        parts.append(_table(preview))
    if preview.text:
        parts.append(element("pre", "\n".join(_lines(preview.text)), style=_TEXT))
    if preview.files:
        parts.append(_files(preview))
    return Html.join(parts)


def glimpse_lines(preview: Preview) -> list[str]:
    """Return a preview of an output's content as plain lines."""
    if preview.columns or preview.rows:
        heads = [[one_line(name) for name, _ in preview.columns]] if preview.columns else []
        return _aligned([*heads, *([one_line(cell) for cell in row] for row in preview.rows)])
    if preview.files:
        return [f"{one_line(name)}  {size(count)}" for name, count in preview.files]
    return _lines(preview.text)


def _table(preview: Preview) -> Html:
    head = [element("th", _text(name), *_type(kind), scope="col", style=_HEAD) for name, kind in preview.columns]
    rows = [element("tr", *(element("td", _text(cell), style=_CELL) for cell in row)) for row in preview.rows]
    heads = [element("thead", element("tr", *head))] if head else []
    return element("table", *heads, element("tbody", *rows), style=_TABLE)


def _type(kind: str) -> list[Html]:
    return [element("br"), element("span", _text(kind), style=_TYPE)] if kind else []


def _files(preview: Preview) -> Html:
    rows = [
        element("tr", element("td", _text(name), style=_CELL), element("td", size(count), style=_CELL))
        for name, count in preview.files
    ]
    return element("table", element("tbody", *rows), style=_TABLE)


def _picture(picture: PreviewImage) -> Html:
    if picture.media not in _MEDIA:
        return Html()
    data = b64encode(picture.data).decode("ascii")
    return element("img", src=f"data:{picture.media};base64,{data}", alt=_text(picture.name), style=_IMAGE)


def _lines(text: str) -> list[str]:
    lines = [fit(harmless(plain(line).expandtabs(4)), _COLUMNS * 3) for line in text.splitlines()]
    return [*lines[:_LINES], "…"] if len(lines) > _LINES else lines


def _aligned(rows: list[list[str]]) -> list[str]:
    columns = max(map(len, rows))
    full = [[fit(cell, _COLUMNS // 3) for cell in row] + [""] * (columns - len(row)) for row in rows]
    widths = [max(width(row[place]) for row in full) for place in range(columns)]
    return ["  ".join(pad(cell, room) for cell, room in zip(row, widths, strict=True)).rstrip() for row in full]


def _text(text: str) -> str:
    return fit(one_line(text), _COLUMNS)
