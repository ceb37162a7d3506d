"""The one-step notebook: parameters, shared code, loads, the author's cells with their lines kept, saves."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from typing import Any

from nbpipe.language.python_literals import to_python
from nbpipe.model import Definition, Step, StepCode

_SHARED = "# Definitions that the step uses, from the notebook's other cells.\n"


def render_step_notebook(step: Step, code: StepCode, values: Mapping[str, Any], kernel: str | None) -> str:
    """Return the notebook as JSON text; the worker, which knows the paths, fills in the cell ``setup``."""
    cells = [_cell("setup", ""), _cell("parameters", _parameters(code.parameters, values))]
    if code.definitions:
        text, lines = _definitions(code.definitions)
        cells.append(_cell("shared", text))
        cells[-1]["metadata"]["nbpipe"]["lines"] = lines
    loads = [f'{item.name} = _nbpipe.load("{item.name}")' for item in step.inputs]
    loads += [f'{item.name} = _nbpipe.path("{item.name}")' for item in step.outputs if item.is_path]
    if loads:
        cells.append(_cell("inputs", "\n".join(loads)))
    cells += [_cell("step", piece.source, piece.cell, index) for index, piece in enumerate(step.pieces)]
    cells.append(_cell("outputs", "_nbpipe.save(globals())"))
    return json.dumps({"nbformat": 4, "nbformat_minor": 5, "metadata": _metadata(step, kernel), "cells": cells})


def _definitions(definitions: Iterable[Definition]) -> tuple[str, list[tuple[int, int, int]]]:
    """Return the definitions with the usual blank lines between them, and where the lines of each are from.

    For each definition these are its first line there, its cell, and its first line in that (0 if unknown).
    """
    listed = list(definitions)
    text, lines = _SHARED, list[tuple[int, int, int]]()
    for index, item in enumerate(listed):
        lines.append((text.count("\n") + 1, item.cell, item.line))
        text += item.source.rstrip() + "\n"
        following = listed[index + 1] if index + 1 < len(listed) else None
        both_short = following and "\n" not in item.source and "\n" not in following.source
        text += "" if both_short or following is None else "\n\n"
    return text.rstrip(), lines


def _parameters(names: Iterable[str], values: Mapping[str, Any]) -> str:
    return "\n".join(f"{name} = {to_python(values[name])}" for name in names)


def _cell(role: str, source: str, number: int | None = None, index: int | None = None) -> dict[str, Any]:
    tag = "parameters" if role == "parameters" else f"nbpipe-{role}"
    return {
        "cell_type": "code",
        "id": role if index is None else f"{role}-{index + 1}",
        "metadata": {"tags": [tag], "nbpipe": {"role": role, "cell": number}},
        "execution_count": None,
        "outputs": [],
        "source": source,
    }


def _metadata(step: Step, kernel: str | None) -> dict[str, Any]:
    return {
        "kernelspec": {"name": kernel or "python3", "display_name": kernel or "Python 3", "language": "python"},
        "language_info": {"name": "python"},
        "nbpipe": {"step": step.name},
    }
