"""Notebook files: their code cells and their kernelspec. Text notebooks are read by jupytext."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from nbpipe.entry_points import load_entry_point
from nbpipe.errors import NotebookUnreadable, SourceLocation
from nbpipe.language.source_text import nearest
from nbpipe.model import NOTEBOOK_SUFFIXES, TEXT_NOTEBOOK_SUFFIXES, Cell

# Loaded by its name: other notebooks need none of it.
_TEXT = "nbpipe.language.text_notebook:text_document"
_SUFFIX = ".ipynb"
_SAVE_AGAIN = "Save it again from Jupyter."
_READ = f"{', '.join(NOTEBOOK_SUFFIXES[:-1])} and {NOTEBOOK_SUFFIXES[-1]}"
_CONVERT = "jupytext converts other notebooks: jupytext --to ipynb {}"
_JSON_TYPE_NAMES = {
    list: "a list",
    str: "text",
    int: "a number",
    float: "a number",
    bool: "true or false",
    type(None): "null",
}


@dataclass(frozen=True, slots=True)
class NotebookFile:
    """A parsed notebook file: its code cells, numbered among all cells from 1, and the kernelspec's name, if any.

    ``is_output`` says that papermill has written it under this name, by executing another one.
    """

    path: Path
    cells: tuple[Cell, ...]
    kernel: str | None
    language: str | None = None
    is_output: bool = False


def read_notebook(path: Path) -> NotebookFile:
    """Read a notebook of format 3 or 4, or a text notebook; raise NotebookUnreadable for any other file."""
    document = read_document(path)
    cells = document.get("cells")
    if not isinstance(cells, list):
        raise NotebookUnreadable(f"{path} is not a notebook: it has no list of cells", _SAVE_AGAIN)
    code_cells = tuple(
        _cell(cell, number, path)
        for number, cell in enumerate(cells, 1)
        if not isinstance(cell, dict) or cell.get("cell_type") == "code"
    )
    metadata = document.get("metadata")
    spec = metadata.get("kernelspec") if isinstance(metadata, dict) else None
    spec = spec if isinstance(spec, dict) else {}
    return NotebookFile(
        path, code_cells, _text(spec.get("name")), _text(spec.get("language")), _is_output(path, metadata)
    )


def _is_output(path: Path, metadata: object) -> bool:
    record = metadata.get("papermill") if isinstance(metadata, dict) else None
    names = (record.get("input_path"), record.get("output_path")) if isinstance(record, dict) else ()
    return [Path(name).name == path.name for name in names if isinstance(name, str)] == [False, True]


def _text(value: object) -> str | None:
    return value if isinstance(value, str) and value else None


def is_text_notebook(path: Path) -> bool:
    """Return whether a file with this name is a notebook as text."""
    return path.suffix in TEXT_NOTEBOOK_SUFFIXES


def read_document(path: Path) -> dict[str, Any]:
    """Return a notebook as a document of format 4; raise NotebookUnreadable if it is none."""
    document = _document(path)
    return document if document.get("nbformat") == 4 else _upgraded(document, path)


def _document(path: Path) -> dict[str, Any]:
    text = ""
    try:
        text = path.read_bytes().decode("utf-8-sig")
        if is_text_notebook(path):
            return _text_document(path, text)
        document = json.loads(text)
    except FileNotFoundError:
        raise _missing(path) from None
    except OSError as error:
        hint = (
            "Name the notebook itself."
            if isinstance(error, IsADirectoryError)
            else "Check the file's permissions and its disk."
        )
        raise NotebookUnreadable(f"{path} cannot be read: {error.strerror}", hint) from None
    except UnicodeDecodeError as error:
        raise NotebookUnreadable(
            f"{path} is not UTF-8 text (byte {error.start + 1})", "Notebooks are UTF-8; save it again from Jupyter."
        ) from None
    except (ValueError, RecursionError) as error:
        raise _broken(path, text, error) from None
    if not isinstance(document, dict):
        content = _JSON_TYPE_NAMES.get(type(document), "something else")
        raise NotebookUnreadable(f"{path} is not a notebook: it holds {content}", _SAVE_AGAIN)
    return document


def _text_document(path: Path, text: str) -> dict[str, Any]:
    if _conflict_line(text):
        raise _broken(path, text, ValueError())
    document: dict[str, Any] = load_entry_point(_TEXT)(str(path), text.replace("\r\n", "\n"))
    return document


def _missing(path: Path) -> NotebookUnreadable:
    folder = path.parent
    suffixes = {_SUFFIX, path.suffix} if is_text_notebook(path) else {_SUFFIX}
    others = [other.name for other in folder.iterdir() if other.suffix in suffixes] if folder.is_dir() else []
    hint = nearest(path.name, others) or (
        f"There are: {', '.join(sorted(others)[:5])}." if others else "Check the spelling of its path."
    )
    return NotebookUnreadable(f"there is no notebook {path}", hint)


def _broken(path: Path, text: str, error: Exception) -> NotebookUnreadable:
    line = getattr(error, "lineno", None)
    if begin := _conflict_line(text):
        return NotebookUnreadable(
            f"{path}, line {begin}: there is a merge conflict in the file",
            "Resolve it, for example with nbdime.",
        )
    if not text.strip():
        return NotebookUnreadable(f"{path} is empty", _SAVE_AGAIN)
    if path.suffix not in ("", *NOTEBOOK_SUFFIXES):
        return NotebookUnreadable(f"{path} is not a notebook: nbpipe reads {_READ}", _CONVERT.format(path.name))
    where = f", line {line}" if line else ""
    return NotebookUnreadable(f"{path}{where}: not JSON: {getattr(error, 'msg', error)}", _SAVE_AGAIN)


def _conflict_line(text: str) -> int:
    """Return the number of the line where a merge conflict begins; 0 if there is none."""
    begins = "\n<<<<<<< " in text or text.startswith("<<<<<<< ")
    return text[: text.index("<<<<<<< ")].count("\n") + 1 if begins else 0


def _upgraded(document: dict[str, Any], path: Path) -> dict[str, Any]:
    version = document.get("nbformat")
    if type(version) is not int or not 1 <= version <= 4:
        raise NotebookUnreadable(
            f"{path} has the notebook format {version!r}; nbpipe reads 3 and 4", "Save it as format 4 from Jupyter."
        )
    # Imported here: nbformat loads slowly, and hardly any notebook is older than format 4.
    import nbformat

    try:
        # The reader joins the lines of texts that are written as lists.
        read = nbformat.reader.reads(json.dumps(document))  # type: ignore[no-untyped-call]
        converted = nbformat.convert(read, 4)  # type: ignore[no-untyped-call]
    except Exception as error:  # noqa: BLE001 - nbformat raises whatever its attribute look-ups meet
        raise NotebookUnreadable(
            f"{path} is format {version} and cannot be converted to format 4: {error}", _SAVE_AGAIN
        ) from None
    return dict(converted)


def _cell(cell: object, number: int, path: Path) -> Cell:
    source = cell.get("source", "") if isinstance(cell, dict) else None
    if isinstance(source, list) and all(isinstance(line, str) for line in source):
        source = "".join(source)
    if not isinstance(cell, dict) or not isinstance(source, str):
        raise NotebookUnreadable(f"{path}: cell {number} is not a notebook cell", _SAVE_AGAIN, SourceLocation(number))
    metadata = cell.get("metadata")
    tags = metadata.get("tags") if isinstance(metadata, dict) else None
    tags = [tag for tag in tags if isinstance(tag, str)] if isinstance(tags, list) else []
    return Cell(number, source, _text(cell.get("id")) or "", frozenset(tags))
