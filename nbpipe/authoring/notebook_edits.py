"""Edits of notebook files: atomic, and only in the given cells."""

from __future__ import annotations

import json
import os
import stat
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from nbpipe.data.atomic_file import create_file, draft_beside, put_in_place
from nbpipe.errors import NotebookUnreadable, Refused, StoreOutOfReach, refuse
from nbpipe.language.declaration_formatter import format_declaration
from nbpipe.language.notebook_cell_insertion import with_new_cells
from nbpipe.language.notebook_file import is_text_notebook, read_notebook
from nbpipe.language.notebook_text_edits import with_new_sources
from nbpipe.language.text_notebook import with_new_text_sources
from nbpipe.model import Cell
from nbpipe.model.proposals import CellEdits

_MARK = "\ufeff"


def formatted_cells(path: Path, style: str = "auto") -> dict[int, str]:
    """Return the new sources of the step cells whose declaration changes in a style, by their numbers.

    Errors in declarations are raised together.
    """
    errors: list[Refused] = []

    def change(cell: Cell) -> str:
        try:
            return format_declaration(cell, style)
        except Refused as error:
            errors.append(error)
            return cell.source

    sources = changed_cells(path, change)
    refuse(errors)
    return sources


def changed_cells(path: Path, change: Callable[[Cell], str]) -> dict[int, str]:
    """Return the new sources of the code cells that a function changes, by their numbers."""
    versions = {cell.number: (cell.source, change(cell)) for cell in read_notebook(path).cells}
    return {number: fresh for number, (source, fresh) in versions.items() if fresh != source}


def rewrite_notebook(path: Path, sources: dict[int, str]) -> None:
    """Replace the sources of cells in a notebook file, atomically and with its permissions kept.

    Raise NotebookUnreadable if that is not possible without other changes.
    """
    if sources:
        edit_notebook(path, CellEdits(sources), path.read_bytes())


def edit_notebook(path: Path, edits: CellEdits, content: bytes) -> None:
    """Edit cells of a notebook file with this content and add others, atomically and with its permissions kept.

    Raise StoreOutOfReach if its content is another one by now, and NotebookUnreadable if the edits are not possible
    without other changes.
    """
    text = content.decode("utf-8")
    mark, text = (_MARK, text[1:]) if text.startswith(_MARK) else ("", text)
    if is_text_notebook(path):
        replace_file(path, (mark + _new_text(path, text, edits)).encode(), expected=content)
        return
    require_format_4(path, json.loads(text))
    text = with_new_cells(with_new_sources(text, edits.sources), edits.above)
    replace_file(path, (mark + text).encode(), expected=content)


def require_format_4(path: Path, document: Mapping[str, Any]) -> None:
    """Raise NotebookUnreadable if a notebook is of another format: it is not converted when it is edited."""
    if document.get("nbformat") != 4:
        raise NotebookUnreadable(f"{path} is not a notebook of format 4", "Save it as format 4 from Jupyter.")


def _new_text(path: Path, text: str, edits: CellEdits) -> str:
    """Return an edited text notebook with its own line ends."""
    end = "\r\n" if "\r\n" in text else "\n"
    return with_new_text_sources(str(path), text.replace("\r\n", "\n"), edits.sources, edits.above).replace("\n", end)


def replace_file(path: Path, content: bytes, *, expected: bytes | None = None) -> None:
    """Replace a file atomically, through links, keeping its permissions; ``expected`` is its required old content."""
    target = Path(os.path.realpath(path))
    mode = stat.S_IMODE(target.stat().st_mode) if target.exists() else 0o666 & ~_umask()
    try:
        with draft_beside(target) as draft:
            create_file(draft, content, mode=0o600, durable=True)
            draft.chmod(mode)
            if expected is not None and target.read_bytes() != expected:
                raise StoreOutOfReach(f"{path} was changed by another program meanwhile", "Try again.")
            put_in_place(draft, target, durable=False)
    except OSError as error:
        raise StoreOutOfReach(f"{path} cannot be written: {error.strerror}") from None


def _umask() -> int:
    umask = os.umask(0o077)
    os.umask(umask)
    return umask
