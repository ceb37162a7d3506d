"""Completion in a shell: bash runs the command itself with the line in its environment (``complete -C nbpipe``)."""

from __future__ import annotations

import shlex
from collections.abc import Mapping, Sequence
from pathlib import Path

from nbpipe.errors import NbpipeError
from nbpipe.language.completion import CompletionNames
from nbpipe.language.notebook_file import read_notebook
from nbpipe.language.notebook_parser import parse_cells
from nbpipe.verbs.completion import complete
from nbpipe.verbs.syntax import Face


def completions(words: Sequence[str], environ: Mapping[str, str]) -> list[str] | None:
    """Return what may stand at the cursor; None if no shell asks for that.

    bash hands over the command's name, the word at the cursor as it divides words, and the word before it.
    """
    line, point = environ.get("COMP_LINE"), environ.get("COMP_POINT", "")
    if line is None or not point.isdecimal() or len(words) != 3:
        return None
    begun = line[: int(point)]
    try:
        before = shlex.split(begun)[1:]
    except ValueError:
        return []
    fragment = "" if not before or begun[-1].isspace() else before.pop()
    found = complete(before, fragment, Face.SHELL, _known(before))
    # To bash, `=` ends a word: what it has before that stays.
    kept = len(fragment) - len(words[1]) if fragment.endswith(words[1]) else 0
    return [word[kept:] for word in found]


def _known(words: Sequence[str]) -> CompletionNames:
    """Return what can be named in the notebook on the line; nothing where it cannot be read."""
    notebook = next((Path(word) for word in words if word.endswith(".ipynb")), None)
    if notebook is None:
        return CompletionNames()
    try:
        reading = parse_cells(read_notebook(notebook).cells)
    except NbpipeError:
        return CompletionNames()
    steps = {step.name: tuple(output.name for output in step.outputs) for step in reading.steps}
    return CompletionNames(steps, tuple(parameter.name for parameter in reading.parameters))
