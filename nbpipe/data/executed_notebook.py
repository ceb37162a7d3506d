"""Executed notebooks as they are read again: checked, so that a damaged one is an error and no surprise."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from nbpipe.errors import REPAIR, StoreOutOfReach


def read_executed(path: Path) -> Mapping[str, Any]:
    """Return the document; raise StoreOutOfReach if it is damaged, OSError if it cannot be read."""
    try:
        document = json.loads(path.read_bytes())
    except (ValueError, RecursionError, IsADirectoryError) as error:
        raise StoreOutOfReach(f"the executed notebook {path} is damaged: {error}", REPAIR) from error
    if not _is_executed(document):
        raise StoreOutOfReach(f"the executed notebook {path} is damaged: it is another document", REPAIR)
    return dict(document)


def _is_executed(document: object) -> bool:
    cells = document.get("cells") if isinstance(document, dict) else None
    return isinstance(cells, list) and all(_is_cell(cell) for cell in cells)


def _is_cell(cell: object) -> bool:
    if not isinstance(cell, dict) or not isinstance(cell.get("source"), str | list):
        return False
    metadata, outputs = cell.get("metadata", {}), cell.get("outputs", [])
    return (
        isinstance(metadata, dict)
        and isinstance(metadata.get("nbpipe", {}), dict)
        and isinstance(outputs, list)
        and all(isinstance(output, dict) and isinstance(output.get("data", {}), dict) for output in outputs)
        and all(isinstance(line, str) for output in outputs for line in output.get("traceback", []))
        and (isinstance(cell["source"], str) or all(isinstance(line, str) for line in cell["source"]))
    )
