"""The beginning of an output as HTML and as plain lines: the same in a live card and in a saved notebook."""

from __future__ import annotations

from base64 import b64encode
from html import escape

from nbpipe.model import Artifact, Preview, PreviewImage
from nbpipe.views.log_text import plain
from nbpipe.views.terminal_text import fit, harmless, one_line, pad, width
from nbpipe.views.wording import size

_MEDIA = frozenset({"image/png", "image/jpeg", "image/gif"})
_COLUMNS = 60
_LINES = 24

# Colours come from what is around: a saved notebook is read in any theme, and where styles are stripped.
_TABLE = "border-collapse:collapse;color:inherit;background:none;font-size:0.92em;margin:4px 0"
_HEAD = "text-align:left;padding:2px 12px 2px 0;border-bottom:1px solid currentColor;font-weight:600"
_CELL = "text-align:left;padding:2px 12px 2px 0;white-space:nowrap"
_TYPE = "font-weight:400;opacity:0.65"
_TEXT = (
    "font-family:monospace;color:inherit;background:none;margin:4px 0;padding:0;white-space:pre-wrap;font-size:0.92em"
)
_IMAGE = "max-width:100%;max-height:360px;background:#fff"


def title(artifact: Artifact, preview: Preview | None) -> str:
    """Get an output's shape, format and size in words."""
    told = [preview.summary if preview is not None else "", artifact.format, size(artifact.bytes)]
    return one_line(" · ".join(text for text in told if text))


def glimpse_html(preview: Preview) -> str:
    """Get what is in an output; empty when its summary says it all."""
    parts = [*map(_picture, preview.pictures)]
    if preview.columns or preview.rows:
        parts.append(_table(preview))
    if preview.text:
        parts.append(f'<pre style="{_TEXT}">{_escaped_lines(_lines(preview.text))}</pre>')
    if preview.files:
        parts.append(_files(preview))
    return "".join(parts)


def glimpse_lines(preview: Preview) -> list[str]:
    """Get what is in an output as plain lines."""
    if preview.columns or preview.rows:
        heads = [[one_line(name) for name, _ in preview.columns]] if preview.columns else []
        return _aligned([*heads, *([one_line(cell) for cell in row] for row in preview.rows)])
    if preview.files:
        return [f"{one_line(name)}  {size(count)}" for name, count in preview.files]
    return _lines(preview.text)


def _table(preview: Preview) -> str:
    head = "".join(
        f'<th scope="col" style="{_HEAD}">{_text(name)}'
        + (f'<br><span style="{_TYPE}">{_text(kind)}</span>' if kind else "")
        + "</th>"
        for name, kind in preview.columns
    )
    rows = "".join(
        f"<tr>{''.join(f'<td style={_quoted(_CELL)}>{_text(cell)}</td>' for cell in row)}</tr>" for row in preview.rows
    )
    heads = f"<thead><tr>{head}</tr></thead>" if head else ""
    return f'<table style="{_TABLE}">{heads}<tbody>{rows}</tbody></table>'


def _files(preview: Preview) -> str:
    rows = "".join(
        f'<tr><td style="{_CELL}">{_text(name)}</td><td style="{_CELL}">{size(count)}</td></tr>'
        for name, count in preview.files
    )
    return f'<table style="{_TABLE}"><tbody>{rows}</tbody></table>'


def _picture(picture: PreviewImage) -> str:
    if picture.media not in _MEDIA:
        return ""
    data = b64encode(picture.data).decode("ascii")
    return f'<img src="data:{picture.media};base64,{data}" alt="{_text(picture.name)}" style="{_IMAGE}">'


def _lines(text: str) -> list[str]:
    lines = [fit(harmless(plain(line).expandtabs(4)), _COLUMNS * 3) for line in text.splitlines()]
    return [*lines[:_LINES], "…"] if len(lines) > _LINES else lines


def _aligned(rows: list[list[str]]) -> list[str]:
    columns = max(map(len, rows))
    full = [[fit(cell, _COLUMNS // 3) for cell in row] + [""] * (columns - len(row)) for row in rows]
    widths = [max(width(row[place]) for row in full) for place in range(columns)]
    return ["  ".join(pad(cell, room) for cell, room in zip(row, widths, strict=True)).rstrip() for row in full]


def _escaped_lines(lines: list[str]) -> str:
    return escape("\n".join(lines), quote=True)


def _text(text: str) -> str:
    return escape(fit(one_line(text), _COLUMNS), quote=True)


def _quoted(style: str) -> str:
    return f'"{style}"'
