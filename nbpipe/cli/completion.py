"""Completion in a shell: bash runs the command itself with the line in its environment (``complete -C nbpipe``)."""

from __future__ import annotations

import shlex
from collections.abc import Mapping, Sequence
from pathlib import Path

from nbpipe.entry_points import load_entry_point
from nbpipe.errors import NbpipeError
from nbpipe.language.completion import CompletionNames
from nbpipe.language.notebook_file import read_notebook
from nbpipe.language.notebook_parser import parse_cells
from nbpipe.model import NOTEBOOK_SUFFIXES
from nbpipe.verbs.completion import complete
from nbpipe.verbs.syntax import Face

# Loaded by its name: it brings more than all other completions need.
_DATASETS = "nbpipe.workspace.datasets:dataset_names_near"
_DATASTORES = "nbpipe.resolve.workspace_layout:datastores_near"


def completions(words: Sequence[str], environ: Mapping[str, str]) -> list[str] | None:
    """Return the completions at the cursor; None if this is not a completion request of a shell.

    bash passes the command's name, the word at the cursor as bash splits words, and the word before it.
    """
    line, point = environ.get("COMP_LINE"), environ.get("COMP_POINT", "")
    if line is None or not point.isdecimal() or len(words) != 3:
        return None
    typed = line[: int(point)]
    try:
        before = shlex.split(typed)[1:]
    except ValueError:
        return []
    fragment = "" if not before or typed[-1].isspace() else before.pop()
    candidates = complete(before, fragment, Face.SHELL, _names_in_notebook(before))
    # bash splits words at `=`: it keeps the part before that.
    shared = len(fragment) - len(words[1]) if fragment.endswith(words[1]) else 0
    return [word[shared:] for word in candidates]


def _names_in_notebook(words: Sequence[str]) -> CompletionNames:
    """Return the names in the notebook on the line; none if it cannot be read."""
    notebook = next((Path(word) for word in words if word.endswith(NOTEBOOK_SUFFIXES)), None)
    if words[:1] == ["datastores"]:
        return CompletionNames(datastores=load_entry_point(_DATASTORES)(Path.cwd()))
    if words[:1] == ["datasets"]:
        return CompletionNames(datasets=load_entry_point(_DATASETS)(Path.cwd()))
    if notebook is None:
        return CompletionNames()
    try:
        reading = parse_cells(read_notebook(notebook).cells)
    except NbpipeError:
        return CompletionNames()
    steps = {step.name: tuple(output.name for output in step.outputs) for step in reading.steps}
    return CompletionNames(steps, tuple(parameter.name for parameter in reading.parameters))
