"""The magics themselves: parse, call, show."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import Any

from IPython.core.magic import Magics, line_cell_magic, line_magic, magics_class, no_var_expand

from nbpipe.errors import BadParameter, BadUsage, NbpipeError, Refusals, StepFailed
from nbpipe.language.directives import marker, read_step
from nbpipe.language.misspelling import misspelled
from nbpipe.language.reading import read_cells
from nbpipe.language.text import nearest
from nbpipe.magics.acting import show_card
from nbpipe.magics.front_end import is_watched
from nbpipe.magics.mending import Mending
from nbpipe.magics.saved import laid_out_file
from nbpipe.magics.screen import (
    Failing,
    Progress,
    show_accepted,
    show_comparison,
    show_lines,
    show_log,
    show_outputs,
    show_plan,
    show_runs,
    show_steps,
    show_verified,
    show_why,
)
from nbpipe.magics.session import Session
from nbpipe.magics.trial import bind_locals, debug, run_here
from nbpipe.magics.words import Words, read_words
from nbpipe.model import Cell, Status
from nbpipe.run.answers import Report
from nbpipe.run.situation import Request
from nbpipe.run.submission import Wishes
from nbpipe.views import reminder
from nbpipe.views.comparison import Side
from nbpipe.workspace import LATER_VERBS, Workspace

VERBS = (
    "plan", "run", "cancel", "status", "why", "debug", "accept", "logs", "pull", "runs", "show", "compare", "verify",
    "lint", "fmt", "defaults",
)  # fmt: skip
SHELL_VERBS = ("init",)


@magics_class
class StepMagics(Magics):
    """``%%step``, ``%%nbstep`` and ``%nbpipe``."""

    def __init__(self, shell: Any, session: Session) -> None:
        super().__init__(shell)
        self.session = session
        self.mending = Mending()

    @no_var_expand
    @line_cell_magic
    def step(self, line: str, cell: str | None = None) -> None:
        """Declare a step and run it with what it needs; its outputs are bound here afterwards."""
        self._step(line, cell)

    @no_var_expand
    @line_cell_magic
    def nbstep(self, line: str, cell: str | None = None) -> None:
        """Do what ``%%step`` does, where another extension owns that name."""
        self._step(line, cell)

    @no_var_expand
    @line_magic
    def nbpipe(self, line: str) -> Any:
        """Plan, run and explain the steps declared in this kernel: ``%nbpipe plan | run | status | why …``."""
        with Failing():
            verb, _, rest = line.strip().partition(" ")
            if not verb:
                return show_lines([f"The verbs: {', '.join(VERBS)}. For example: %nbpipe plan"])
            if verb in LATER_VERBS:
                raise BadUsage(f"`%nbpipe {verb}` is not supported yet")
            if verb in SHELL_VERBS:
                raise BadUsage(f"`{verb}` is a verb of the command line", f"In a shell: nbpipe {verb}")
            if verb not in VERBS:
                raise BadUsage(f"there is no verb `{verb}`", nearest(verb, VERBS) or f"The verbs: {', '.join(VERBS)}.")
            return getattr(self, f"_{verb}")(rest.strip())

    def _step(self, line: str, cell: str | None) -> None:
        with Failing():
            if cell is None:
                raise self.session.cells.refused(line)
            self._declare(f"%%step {line}\n{cell}")

    def _declare(self, source: str) -> None:
        current = self.session.cells.declare(source)
        try:
            name = read_step(current).name
            cells = self.session.cells.all()
            reading = read_cells(cells)
            missing = reading.unbound.get(name, ())
            ours = [error for error in reading.errors if error.place.step == name]
            if missing and not ours:
                show_lines([f"step {name} is declared, incomplete: it does not bind {', '.join(missing)} yet"])
                return
            if read_step(current).here:
                self._here(self.session.request([name]), name)
                return
            if reading.defaults.get("run") == "manual" and not ours:
                show_lines([f"step {name} is declared; `%nbpipe run` runs it"])
                return
            request = self.session.request([name], reading)
            if is_watched(self.shell):
                show_card(self.session, self.session.submit(request, cells), name)
            else:
                self._carry_out(request, Wishes(), name)
        except NbpipeError as error:
            own = [one for one in _each(error) if one.exit_code == 2 and one.place.cell == current.number]
            if own:
                self.session.cells.forget(current)
            if own and is_watched(self.shell):
                self.mending.offer(current, own)
            raise

    def _carry_out(self, request: Request, wishes: Wishes, cell: str | None = None) -> None:
        progress = Progress(self.session)
        report = self.session.run(request, wishes, progress.step, progress.begin)
        progress.end(report)
        for step in report.steps:
            if step.step == cell and step.notebook is not None:
                show_outputs(Path(step.notebook))
        if report.run.status is not Status.SUCCEEDED:
            self.session.unbind(report)
            raise _ending(report)

    def _here(self, request: Request, step: str) -> None:
        show_lines(run_here(self.session, self.session.workspace.scene(request, step)))

    def _plan(self, rest: str) -> None:
        words = read_words(rest, takes=("param",))
        show_plan(self.session.workspace, self.session.workspace.plan(self._asked(words, ())))

    def _run(self, rest: str) -> None:
        takes = ("param", "to", "from", "force", "keep-going", "experiment", "tag", "detach")
        words = read_words(rest, takes=(*takes, "here"))
        if "here" in words.given:
            words = read_words(rest, takes=("param", "here"), names=1)
            self._here(self._asked(words, words.names), words.names[0])
            return
        request = self._asked(words, (*words.names, *words.many("to")))
        wishes = Wishes("keep-going" in words.given, words.one("experiment") or "", words.pairs("tag"))
        if "detach" in words.given:
            run, _ = self.session.launch(request, wishes)
            show_lines([f"run {run.number} goes on by itself: %nbpipe status, %nbpipe cancel"])
        elif is_watched(self.shell):
            show_card(self.session, self.session.submit(request, self.session.cells.all(), wishes), None)
        else:
            self._carry_out(request, wishes)

    def _cancel(self, rest: str) -> None:
        read_words(rest, takes=(), names=0)
        self.session.live.begun()
        for run in self.session.workspace.cancel(self.session.identity):
            show_steps(self.session.workspace, *self.session.workspace.show(run.id))

    def _asked(self, words: Words, steps: tuple[str, ...]) -> Request:
        texts = words.pairs("param")
        request = self.session.request(steps, texts=texts, start=words.one("from"), force=words.forced())
        refused = any(error.place.step is None for error in request.reading.errors)
        if texts and not request.reading.parameters and not refused:
            message = f"there is no parameter `{next(iter(texts))}`: this kernel knows no parameters cell"
            raise BadParameter(message, "Mark the cell with `#| parameters`: a kernel is not told tags.")
        return request

    def _status(self, rest: str) -> None:
        read_words(rest, takes=(), names=0)
        newest = self.session.live.newest()
        if newest is not None and is_watched(self.shell):
            show_card(self.session, newest, None)
            return
        run, steps = self.session.workspace.last(self.session.identity)
        if is_watched(self.shell) and not run.status.terminal:
            show_card(self.session, self.session.live.watch(run.id), None)
        else:
            show_steps(self.session.workspace, run, steps)

    def _why(self, rest: str) -> None:
        words = read_words(rest, takes=("param",), names=1)
        request = self._asked(words, (words.names[0],))
        show_why(self.session.workspace, self.session.workspace.why(request, words.names[0]))

    def _debug(self, rest: str) -> None:
        words = read_words(rest, takes=("locals", "workspace"), names=1)
        named = words.one("workspace")
        if named is None:
            scene = self.session.workspace.recorded_scene(self.session.identity, words.names[0])
        else:
            with Workspace.open(self.session.base, Path(named)) as other:
                scene = other.recorded_scene(self.session.identity, words.names[0])
        show_lines((bind_locals if "locals" in words.given else debug)(self.session, scene))

    def _accept(self, rest: str) -> None:
        words = read_words(rest, takes=("param",), names=1)
        request = self._asked(words, (words.names[0],))
        show_accepted(self.session.workspace, self.session.workspace.accept(request, words.names[0]))

    def _logs(self, rest: str) -> None:
        words = read_words(rest, takes=(), names=1)
        show_log(self.session.workspace.log(self.session.identity, words.names[0]))

    def _pull(self, rest: str) -> None:
        words = read_words(rest, takes=("to",), names=1)
        name, target = words.names[0].rpartition(".")[2], words.one("to")
        # What cannot be loaded here can be written to a file all the same.
        self.session.outputs.await_made(name)
        workspace = self.session.workspace
        if target is not None:
            workspace.pull(self.session.identity, words.names[0], self.session.base / target)
            show_lines([f"{words.names[0]} → {target}"])
            return
        self.session.outputs.await_names([name])
        artifact = workspace.output(self.session.identity, words.names[0])
        self.session.outputs.bind(artifact, again=True)
        show_lines([f"{artifact.name} is bound: {artifact.format}, {artifact.bytes:,} bytes"])

    def _runs(self, rest: str) -> None:
        read_words(rest, takes=(), names=0)
        show_runs(self.session.workspace, self.session.workspace.runs())

    def _show(self, rest: str) -> None:
        words = read_words(rest, takes=(), names=1)
        show_steps(self.session.workspace, *self.session.workspace.show(words.names[0]))

    def _compare(self, rest: str) -> None:
        words, workspace = read_words(rest, takes=(), names=2), self.session.workspace
        show_comparison(
            *(Side(*workspace.show(run), workspace.metrics(workspace.show(run)[0].id)) for run in words.names)
        )

    def _verify(self, rest: str) -> None:
        words = read_words(rest, takes=("full", "repair"), names=0)
        full, repair = "full" in words.given, "repair" in words.given
        show_verified(Workspace.verify(self.session.base, full=full, repair=repair))

    def _lint(self, rest: str) -> None:
        read_words(rest, takes=(), names=0)
        warnings = self.session.workspace.check(self.session.request())
        show_lines([f"{w.place.words()}: {w.message}. {w.hint}" for w in warnings] or ["nothing to say"])

    def _fmt(self, rest: str) -> None:
        words = read_words(rest, takes=("check", "long", "short"), names=0)
        style = next((style for style in ("long", "short") if style in words.given), "auto")
        show_lines(laid_out_file(self.session, style, dry="check" in words.given))

    def _defaults(self, rest: str) -> None:
        reading = self.session.reading()
        refused = [error for error in reading.errors if error.place.step is None]
        if refused:
            raise refused[0]
        told = " ".join(f"{key}={value}" for key, value in reading.defaults.items())
        show_lines([f"defaults: {told or shlex.join(rest.split()) or 'none'}"])


# What `%%step?` and `%nbpipe?` show.
StepMagics.step.__doc__ = StepMagics.nbstep.__doc__ = reminder.STEP
StepMagics.nbpipe.__doc__ = reminder.VERBS


def _each(error: NbpipeError) -> tuple[NbpipeError, ...]:
    return error.errors if isinstance(error, Refusals) else (error,)


def _ending(report: Report) -> NbpipeError:
    """Get the error for a run that did not succeed: the first step that failed, in notebook order."""
    failed = next((step for step in report.steps if step.failure is not None), None)
    if failed is None or failed.failure is None:
        return StepFailed(f"the run was {report.run.status.value}", "Run the cell again to go on.")
    failure = failed.failure
    where = f"cell {failure.cell}, line {failure.line}: " if failure.cell and failure.line else ""
    error = StepFailed(f"step {failed.step} failed: {where}{failure.message}")
    if failure.kind == "user":
        error.add_note(failure.traceback)
    return error


def as_magic(lines: list[str]) -> list[str]:
    """Turn a ``#| step:`` cell into ``%%step`` and join a continued first line, before IPython looks at the cell.

    A cell that is nearly a step becomes ``%step``, which says so; one without a body gets an empty line as its body.
    """
    first = next((place for place, line in enumerate(lines) if line.strip()), None)
    if first is None:
        return lines
    source = "".join(lines)
    if marker(source) != "step":
        return lines if misspelled(Cell(0, source)) is None else ["%step\n"]
    head = lines[first]
    if head.startswith("#"):
        head = "%%step " + head.partition(":")[2].lstrip()
    following = first + 1
    while head.rstrip("\n").endswith("\\") and following < len(lines):
        head = head.rstrip("\n")[:-1] + " " + lines[following]
        following += 1
    return [head if head.endswith("\n") else head + "\n", *(lines[following:] or ["\n"])]
