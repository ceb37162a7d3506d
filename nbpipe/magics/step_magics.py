"""The magics: parse the line, call the verb, show the response."""

from __future__ import annotations

import re
from typing import Any

from IPython.core.magic import Magics, line_cell_magic, line_magic, magics_class, no_var_expand

from nbpipe.errors import NbpipeError, Refusals
from nbpipe.language.cell_markers import CellMarker
from nbpipe.language.directives import marker, read_step
from nbpipe.language.misspelled_steps import misspelled
from nbpipe.magics.blocking_run import raise_failure
from nbpipe.magics.card_actions import show_card
from nbpipe.magics.display import ErrorDisplay, RunTableDisplay, show_lines, show_outputs
from nbpipe.magics.front_end_metadata import is_watched
from nbpipe.magics.in_kernel_steps import run_here
from nbpipe.magics.kernel_caller import KernelCaller
from nbpipe.magics.kernel_session import KernelSession
from nbpipe.magics.quick_fix_offer import QuickFixOffer
from nbpipe.magics.rendering import render
from nbpipe.magics.widget_models import open_models
from nbpipe.model import Cell
from nbpipe.resolve.resolved_request import PipelineRequest
from nbpipe.resolve.workspace_layout import owner_named
from nbpipe.verbs.options import DEBUG_WORKSPACE
from nbpipe.verbs.parser import parse, split
from nbpipe.verbs.syntax import Face, HelpRequest, Invocation
from nbpipe.verbs.table import verbs_in
from nbpipe.verbs.usage import help_text, verbs_help
from nbpipe.verbs.verb_call import call
from nbpipe.views import language_help
from nbpipe.workspace.step_contexts import context_now

_VERBS = tuple(dict.fromkeys(verb.name.partition(" ")[0] for verb in verbs_in(Face.NOTEBOOK)))
# IPython itself would look for an object with the verb's name.
_HELP = re.compile(r"(\s*%nbpipe\s+\w+)\s*\?{1,2}\s*")


@magics_class
class StepMagics(Magics):
    """``%%step``, ``%%nbstep`` and ``%nbpipe``."""

    def __init__(self, shell: Any, session: KernelSession) -> None:
        super().__init__(shell)
        self.session = session
        self.mending = QuickFixOffer()

    @no_var_expand
    @line_cell_magic
    def step(self, line: str, cell: str | None = None) -> None:
        """Declare a step and run it with the steps it needs; then bind its outputs."""
        self._step(line, cell)

    @no_var_expand
    @line_cell_magic
    def nbstep(self, line: str, cell: str | None = None) -> None:
        """Do the same as ``%%step``, in case another extension owns that name."""
        self._step(line, cell)

    @no_var_expand
    @line_magic
    def nbpipe(self, line: str) -> Any:
        """Plan, run and explain the steps declared in this kernel: ``%nbpipe plan | run | status | why …``."""
        with ErrorDisplay(), owner_named():
            words = split(line)
            if not words:
                return show_lines([f"The verbs: {', '.join(_VERBS)}. For example: %nbpipe plan"])
            invocation = parse(words, Face.NOTEBOOK)
            if isinstance(invocation, HelpRequest):
                return show_lines([help_text(invocation, Face.NOTEBOOK)])
            return self._call(invocation)

    def _call(self, invocation: Invocation) -> None:
        named = invocation[DEBUG_WORKSPACE] if DEBUG_WORKSPACE in invocation.verb.options else None
        with KernelCaller(self.session, invocation.verb, named) as caller:
            response = call(invocation, caller)
        if response is not None:
            render(self.session, response)

    def _step(self, line: str, cell: str | None) -> None:
        with ErrorDisplay():
            if cell is None:
                raise self.session.cells.refused(line)
            self._declare(f"%%step {line}\n{cell}")

    def _declare(self, source: str) -> None:
        current = self.session.cells.declare(source)
        cells: tuple[Cell, ...] = ()
        try:
            declared = read_step(current)
            name = declared.name
            cells = self.session.executed_cells()
            reading = self.session.parse(cells)
            missing = reading.unbound.get(name, ())
            ours = [error for error in reading.errors if error.place.step == name]
            if missing and not ours:
                show_lines([f"step {name} is declared, incomplete: it does not bind {', '.join(missing)} yet"])
                return
            if not ours and self.session.is_continued_below(name, reading):
                show_lines([f"step {name} is declared; it runs with its last cell, further below"])
                return
            if declared.here:
                self._here(self.session.request([name], reading), name)
                return
            if reading.defaults.get("run") == "manual" and not ours:
                show_lines([f"step {name} is declared; `%nbpipe run` runs it"])
                return
            request = self.session.request([name], reading)
            if is_watched(self.shell):
                show_card(self.session, self.session.submit(request, cells), name)
            else:
                self._run_cell(request, name)
        except NbpipeError as error:
            own = [one for one in _each(error) if one.exit_code == 2 and one.place.cell == current.number]
            if own:
                self.session.cells.forget(current)
            if own and is_watched(self.shell):
                self.mending.offer(current, own, cells)
            raise

    def _run_cell(self, request: PipelineRequest, name: str) -> None:
        progress = RunTableDisplay(self.session, is_part=True)
        report = self.session.run_cell(request, progress.updated, progress.begin)
        progress.end(report)
        for step in report.steps:
            if step.step == name:
                log = self.session.workspace.results.shown_again(step)
                open_models(log.notebook_json)
                show_outputs(log)
        raise_failure(self.session, report)

    def _here(self, request: PipelineRequest, step: str) -> None:
        show_lines(run_here(self.session, context_now(self.session.workspace, request, step)))


# What `%%step?` and `%nbpipe?` show.
StepMagics.step.__doc__ = StepMagics.nbstep.__doc__ = language_help.STEP
StepMagics.nbpipe.__doc__ = verbs_help(Face.NOTEBOOK)


def _each(error: NbpipeError) -> tuple[NbpipeError, ...]:
    return error.errors if isinstance(error, Refusals) else (error,)


def as_magic(lines: list[str]) -> list[str]:
    """Return the transformed lines of a cell for IPython.

    A ``#| step:`` cell becomes ``%%step``, its continued first line is joined, and ``%nbpipe VERB?`` shows help. A
    misspelled step becomes ``%step``, which raises an error; a cell without a body gets an empty line as its body.
    """
    if help_asked := _HELP.fullmatch("".join(lines)):
        return [f"{help_asked[1]} --help\n"]
    first = next((place for place, line in enumerate(lines) if line.strip()), None)
    if first is None:
        return lines
    source = "".join(lines)
    if marker(source) is not CellMarker.STEP:
        return lines if misspelled(Cell(0, source)) is None else ["%step\n"]
    head = lines[first]
    if head.startswith("#"):
        head = "%%step " + head.partition(":")[2].lstrip()
    following = first + 1
    while head.rstrip("\n").endswith("\\") and following < len(lines):
        head = head.rstrip("\n")[:-1] + " " + lines[following]
        following += 1
    return [head if head.endswith("\n") else head + "\n", *(lines[following:] or ["\n"])]
