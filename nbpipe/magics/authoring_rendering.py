"""The output of the verbs about notebook files and settings in a notebook."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from nbpipe.errors import refuse
from nbpipe.magics.display import show_lines
from nbpipe.magics.kernel_session import KernelSession
from nbpipe.verbs.authoring_calls import DefaultsResponse, FormatResponse, LintResponse
from nbpipe.views.wording import warning_line


def render_lint(session: KernelSession, response: LintResponse) -> None:
    """Show the advice on a notebook."""
    if response.fixed and session.notebook is not None:
        show_lines([_changed(session.notebook, response.fixed)])
    show_lines([warning_line(warning) for warning in response.warnings] or ["no warnings"])
    refuse(response.errors)


def render_format(_session: KernelSession, response: FormatResponse) -> None:
    """Show which cells were formatted, or would be."""
    for path, cells in response.notebooks:
        if not cells:
            show_lines([f"{path.name} is left unchanged"])
        elif response.checked:
            show_lines([f"cell {_numbers(cells)} of {path.name} would change"])
        else:
            show_lines([_changed(path, cells)])


def _changed(path: Path, cells: Sequence[int]) -> str:
    return f"cell {_numbers(cells)} of {path.name} changed on disk: reload it (Reload Notebook from Disk)"


def _numbers(cells: Sequence[int]) -> str:
    return ", ".join(map(str, cells))


def render_defaults(_session: KernelSession, response: DefaultsResponse) -> None:
    """Show the defaults of the notebook's steps."""
    settings = " ".join(f"{key}={value}" for key, value in response.values.items())
    show_lines([f"defaults: {settings or 'none'}"])
