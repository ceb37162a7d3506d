"""Insert code cells into a notebook's text and keep everything else as it is written."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from typing import Any

from nbpipe.errors import NotebookUnreadable
from nbpipe.language.notebook_text_edits import cell_spans

_SOURCE_LINE = re.compile(r"[^\n]*\n|[^\n]+")
_NOT_IN_IDS = re.compile(r"[^a-zA-Z0-9_-]")
_ID_LETTERS = 64


def with_new_cells(text: str, above: Mapping[int, str]) -> str:
    """Return a notebook's text with new code cells above cells, which are counted from 1 among all cells.

    Raise NotebookUnreadable if the text is not a notebook of format 4; it must be JSON.
    """
    document = json.loads(text)
    spans = cell_spans(text)
    fresh = text
    for number in sorted(above, reverse=True):
        start = spans[number - 1][0]
        cell = _code_cell(above[number], document, number)
        fresh = fresh[:start] + _written(cell, text, start, ascii_only=text.isascii()) + fresh[start:]
        document["cells"].insert(number - 1, cell)
    if json.loads(fresh) != document:
        raise NotebookUnreadable("its text cannot be changed safely", "Save it again from Jupyter.")
    return fresh


def _code_cell(source: str, document: Mapping[str, Any], number: int) -> dict[str, Any]:
    cell: dict[str, Any] = {"cell_type": "code", "execution_count": None}
    below = document["cells"][number - 1]
    ids = {other.get("id") for other in document["cells"] if isinstance(other, dict)}
    if "id" in below:
        base = _NOT_IN_IDS.sub("-", str(below["id"]))[: _ID_LETTERS - 10] or "cell"
        names = (f"{base}-above{count if count > 1 else ''}" for count in range(1, 10_000))
        cell["id"] = next(name for name in names if name not in ids)
    return {**cell, "metadata": {}, "outputs": [], "source": _SOURCE_LINE.findall(source)}


def _written(cell: Mapping[str, Any], text: str, start: int, *, ascii_only: bool) -> str:
    """Return a cell as JSON with the comma after it, laid out as the cells around it."""
    line = text[:start].rpartition("\n")[2]
    if line.strip() or "\n" not in text:
        return json.dumps(cell, ensure_ascii=ascii_only) + ", "
    unit = line[: max(len(line) // 2, 1)]
    ending = "\r\n" if "\r\n" in text else "\n"
    written = json.dumps(cell, ensure_ascii=ascii_only, indent=unit).replace("\n", f"{ending}{line}")
    return f"{written},{ending}{line}"
