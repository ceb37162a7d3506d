"""The calls behind the verbs about notebook files and settings, and their responses."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from nbpipe.authoring.linter_settings import LinterSettingsReport, write_linter_settings
from nbpipe.authoring.notebook_edits import formatted_cells, rewrite_notebook
from nbpipe.authoring.notebook_linting import LintResult, find_ruff, quick_fixed_cells, ruff_warnings
from nbpipe.errors import Refusals, Refused, refuse
from nbpipe.model import PipelineWarning
from nbpipe.resolve.resolved_request import PipelineRequest
from nbpipe.verbs import options
from nbpipe.verbs.caller import Caller
from nbpipe.verbs.syntax import Invocation
from nbpipe.workspace import Workspace
from nbpipe.workspace.notebook_check import check_notebook


@dataclass(frozen=True, slots=True)
class LintResponse:
    """Advice on ``steps`` steps; ``fixed`` are the cells that were rewritten, None without ``--fix``."""

    steps: int
    warnings: Sequence[PipelineWarning]
    fixed: Sequence[int] | None
    note: str
    errors: Sequence[Refused]


@dataclass(frozen=True, slots=True)
class FormatResponse:
    """The cells of each notebook whose declarations changed, or would change if only ``checked``."""

    notebooks: Sequence[tuple[Path, Sequence[int]]]
    checked: bool

    @property
    def changed(self) -> bool:
        """Return whether a notebook changes."""
        return any(cells for _, cells in self.notebooks)


@dataclass(frozen=True, slots=True)
class InitResponse:
    """A workspace's folder, and the linter settings for step cells."""

    root: Path
    guarded: LinterSettingsReport


@dataclass(frozen=True, slots=True)
class DefaultsResponse:
    """The defaults of the notebook's steps."""

    values: Mapping[str, Any]


def lint(invocation: Invocation, caller: Caller) -> LintResponse:
    """Check the notebook without planning or running it."""
    fixed = _rewritten(caller.saved, quick_fixed_cells) if invocation[options.FIX] else None
    request = caller.request(texts=invocation[options.PARAM])
    checked = check_notebook(caller.workspace, request)
    linted = _by_ruff(caller.saved, request) if caller.reads_file and invocation[options.RUFF] else LintResult()
    return LintResponse(
        len(request.reading.steps), (*checked.warnings, *linted.warnings), fixed, linted.note, checked.errors
    )


def _by_ruff(notebook: Path, request: PipelineRequest) -> LintResult:
    ruff = find_ruff()
    return ruff_warnings(notebook, request.reading, ruff) if ruff else LintResult(note="ruff is not installed")


def _rewritten(path: Path, change: Callable[[Path], dict[int, str]]) -> list[int]:
    """Rewrite cells of a notebook file, and return their numbers."""
    sources = change(path)
    rewrite_notebook(path, sources)
    return sorted(sources)


def fmt(invocation: Invocation, caller: Caller) -> FormatResponse:
    """Format the declarations of steps."""
    style = "long" if invocation[options.LONG] else "short" if invocation[options.SHORT] else "auto"
    notebooks = invocation[options.NOTEBOOKS] or (caller.saved,)
    changed: list[tuple[Path, list[int]]] = []
    refused: list[Refused] = []
    for notebook in notebooks:
        try:
            cells = formatted_cells(notebook, style)
            if not invocation[options.CHECK]:
                rewrite_notebook(notebook, cells)
        except Refused as error:
            refused.append(_named(error, notebook, several=len(notebooks) > 1))
        except Refusals as errors:
            refused += [_named(error, notebook, several=len(notebooks) > 1) for error in errors.errors]
        else:
            changed.append((notebook, sorted(cells)))
    refuse(refused)
    return FormatResponse(changed, invocation[options.CHECK])


def _named(error: Refused, notebook: Path, *, several: bool) -> Refused:
    """Return an error that names its notebook if there are several."""
    return type(error)(f"{error.message} ({notebook})", error.hint, error.place) if several else error


def init(invocation: Invocation, caller: Caller) -> InitResponse:
    """Create a workspace in a folder, and configure linters for step cells."""
    folder = invocation[options.FOLDER] or Path()
    folder = folder.parent if folder.is_file() or folder.suffix == ".ipynb" else folder
    with Workspace.create(folder, caller.named_workspace) as opened:
        root = opened.layout.root
    return InitResponse(root, write_linter_settings(folder))


def defaults(_invocation: Invocation, caller: Caller) -> DefaultsResponse:
    """Return the defaults of the notebook's steps; the cell that sets them is parsed with all others."""
    reading = caller.request().reading
    refused = [error for error in reading.errors if error.place.step is None]
    if refused:
        raise refused[0]
    return DefaultsResponse(reading.defaults)
