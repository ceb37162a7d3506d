"""Notebooks as text, read by jupytext: ``.py`` in the percent, light and hydrogen formats, and ``.md``.

They have no ids of cells, so each gets one that stays when other cells change: from the name of its step, else from its
text. A file counts as a notebook if it says so: by a header as jupytext and Jupyter write it, or by marks of cells.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping
from difflib import SequenceMatcher
from typing import Any

from nbpipe.errors import NotebookUnreadable, Refused
from nbpipe.language.cell_markers import CellMarker
from nbpipe.language.directives import marker, read_declaration_text
from nbpipe.model import Cell

_FORMATS = ("percent", "light", "hydrogen", "markdown", "myst")
_HEADER = re.compile(r"\ufeff?(?:# )?---\n(?:.*\n)*?(?:# )?(?:jupyter|jupytext|kernelspec):(?:.*\n)*?(?:# )?---\s*\n")
_MARK = re.compile(r"^# (?:%%(?=\s|$)|\+(?=\s|$))", re.MULTILINE)
_INSTALL = "Install it: pip install 'nbpipe[jupytext]'"
_MARK_CELLS = {
    ".py": "Begin its cells with `# %%`, or write it with jupytext: jupytext --to py:percent notebook.ipynb",
    ".md": "Give it jupytext's header: jupytext --set-formats md FILE",
}
_ID_LENGTH = 16


def text_document(path: str, text: str) -> dict[str, Any]:
    """Return the text of the file at ``path`` in the form of a notebook of format 4, with ids of its cells.

    Raise NotebookUnreadable if it is no notebook, or if jupytext is not installed or cannot read it.
    """
    document = _parsed(_jupytext(path, text), path, text)
    seen: dict[str, int] = {}
    for cell in document["cells"]:
        name = _id_of(cell)
        seen[name] = seen.get(name, 0) + 1
        cell["id"] = name if seen[name] == 1 else f"{name}-{seen[name]}"
    return dict(document)


def with_new_text_sources(path: str, text: str, sources: Mapping[int, str], above: Mapping[int, str]) -> str:
    """Return a text notebook with new sources for some cells, and new code cells above some; other lines stay.

    Cells are counted from 1 among all cells as they are before. Raise NotebookUnreadable if that is not possible.
    """
    jupytext = _jupytext(path, text)
    fresh, document = text, _parsed(jupytext, path, text)
    representation = document["metadata"]["jupytext"]["text_representation"]
    form = {name: representation[name] for name in ("extension", "format_name")}
    for number in sorted({*sources, *above}, reverse=True):
        old = jupytext.writes(document, form).splitlines(keepends=True)
        cells = document["cells"]
        cells[number - 1]["source"] = sources.get(number, cells[number - 1]["source"])
        if number in above:
            cells.insert(number - 1, type(cells[number - 1])(_code_cell(above[number])))
        new = jupytext.writes(document, form).splitlines(keepends=True)
        fresh = _replaced(fresh, old, new) or ""
    expected = [cell["source"] for cell in document["cells"]]
    if [cell["source"] for cell in _parsed(jupytext, path, fresh)["cells"]] != expected:
        message = f"the declarations in {path} cannot be changed without other changes of the file"
        raise NotebookUnreadable(message, "Change them by hand, as the message says.")
    return fresh


def _code_cell(source: str) -> dict[str, Any]:
    return {"cell_type": "code", "execution_count": None, "metadata": {}, "outputs": [], "source": source}


def _jupytext(path: str, text: str) -> Any:
    """Return jupytext for a text that is a notebook."""
    if not _HEADER.match(text) and (_suffix(path) != ".py" or not _MARK.search(text)):
        kind = "a Python script" if _suffix(path) == ".py" else "a text"
        raise NotebookUnreadable(f"{path} is {kind}, not a notebook: it has no cells", _MARK_CELLS[_suffix(path)])
    try:
        # Imported here: it is optional, and loads slowly.
        import jupytext
    except ImportError:
        raise NotebookUnreadable(f"{path} is a text notebook, which nbpipe reads by jupytext", _INSTALL) from None
    return jupytext


def _suffix(path: str) -> str:
    return "." + path.rpartition(".")[2]


def _parsed(jupytext: Any, path: str, text: str) -> Any:
    try:
        document = jupytext.reads(text, _suffix(path))
    except Exception as error:  # noqa: BLE001 - jupytext raises whatever its parsers of headers and cells meet
        raise NotebookUnreadable(f"jupytext cannot read {path}: {error}", "Open it in Jupyter to see more.") from None
    name = document["metadata"].get("jupytext", {}).get("text_representation", {}).get("format_name")
    if name not in _FORMATS:
        hint = f"It reads the formats {', '.join(_FORMATS)}."
        raise NotebookUnreadable(f"{path} has jupytext's format {name}, which nbpipe does not read", hint)
    return document


def _id_of(cell: Mapping[str, Any]) -> str:
    source = cell["source"]
    if cell["cell_type"] == "code" and marker(source) is CellMarker.STEP:
        try:
            return f"step-{read_declaration_text(Cell(0, source)).name}"
        except Refused:
            pass
    return hashlib.sha256(source.encode("utf-8", "surrogatepass")).hexdigest()[:_ID_LENGTH]


def _replaced(text: str, old: list[str], new: list[str]) -> str | None:
    """Return a text with the changes between two versions of it; None if a place of them is not found exactly once.

    The versions may differ from the text in lines that do not change, such as jupytext's version in the header.
    """
    lines = text.splitlines(keepends=True)
    for kind, start, end, new_start, new_end in reversed(SequenceMatcher(None, old, new, autojunk=False).get_opcodes()):
        if kind == "equal":
            continue
        before, after = _around(lines, old, start, end)
        if before is None:
            return None
        lines[before:after] = new[new_start:new_end]
    return "".join(lines)


def _around(lines: list[str], old: list[str], start: int, end: int) -> tuple[int | None, int]:
    """Return the place in ``lines`` of the lines ``start`` to ``end`` of ``old``, with as many above as it takes."""
    for more in range(start + 1):
        block = old[start - more : end]
        places = [at for at in range(len(lines) - len(block) + 1) if block and lines[at : at + len(block)] == block]
        if len(places) == 1:
            return places[0] + more, places[0] + len(block)
        if block and not places:
            return None, 0
    return None, 0
