"""Executed notebooks as they are read again: checked against their attempts' records, and by their form."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from nbpipe.data.digests import bytes_digest
from nbpipe.data.regular_file import read_regular
from nbpipe.errors import StoreOutOfReach


def read_executed(path: Path, digest: str | None) -> dict[str, Any]:
    """Return an executed notebook; raise StoreOutOfReach if it is damaged, OSError if it cannot be read.

    ``digest`` is what its attempt recorded of its bytes: empty if the attempt was lost before, None without an attempt.
    """
    problem, document = _checked(path, digest)
    if problem is not None:
        message = f"the executed notebook {path} {problem}, so it is not shown"
        raise StoreOutOfReach(message, "`nbpipe verify --repair` sets it aside; --force runs the step again.")
    return document


def damage_of_executed(path: Path, digest: str) -> str | None:
    """Return the damage of an executed notebook in words; None if it is intact."""
    try:
        problem, _ = _checked(path, digest)
    except OSError as error:
        problem = f"cannot be read: {error.strerror}"
    return problem and f"the executed notebook {problem}"


def _checked(path: Path, digest: str | None) -> tuple[str | None, dict[str, Any]]:
    try:
        content = read_regular(path)
    except IsADirectoryError:
        return "is a folder", {}
    if digest is None or digest not in ("", bytes_digest(content)):
        return "was changed after its run", {}
    try:
        document = json.loads(content)
    except (ValueError, RecursionError) as error:
        return f"is damaged: {error}", {}
    problem = damage_of_document(document)
    return problem, {} if problem else document


def damage_of_document(document: object) -> str | None:
    """Return what is wrong with a document that should be an executed notebook; None if it has that form."""
    return None if _is_executed(document) else "is damaged: it is another document"


def _is_executed(document: object) -> bool:
    cells = document.get("cells") if isinstance(document, dict) else None
    return isinstance(cells, list) and all(_is_cell(cell) for cell in cells)


def _is_cell(cell: object) -> bool:
    if not isinstance(cell, dict):
        return False
    source, metadata, outputs = cell.get("source", ""), cell.get("metadata", {}), cell.get("outputs", [])
    return (
        isinstance(metadata, dict)
        and isinstance(metadata.get("nbpipe", {}), dict)
        and isinstance(outputs, list)
        and all(isinstance(output, dict) and isinstance(output.get("data", {}), dict) for output in outputs)
        and all(isinstance(line, str) for output in outputs for line in output.get("traceback", []))
        and (isinstance(source, str) or (isinstance(source, list) and all(isinstance(line, str) for line in source)))
    )
