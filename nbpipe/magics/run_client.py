"""Runs that go on beside the kernel: submitted without waiting, watched, shown on cards, taken up again."""

from __future__ import annotations

import contextlib
import dataclasses
import json
import os
import threading
import time
from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from nbpipe.data.previews import preview
from nbpipe.errors import NbpipeError, OutOfReach
from nbpipe.magics.run_view import RunView, StepDescription
from nbpipe.model import Artifact, Cell, Preview, Status
from nbpipe.resolve.resolved_request import PipelineRequest, declared_needs
from nbpipe.run.job_factory import definition_digests
from nbpipe.run.messages import Reply, ReplyKind
from nbpipe.run.runner_client import LOG_FILE, RunnerClient
from nbpipe.run.submission import Lifetime, RunOptions, Submission, new_run_id
from nbpipe.views.card_state import CardState
from nbpipe.views.html import Html
from nbpipe.views.rich_outputs import rich_outputs
from nbpipe.workspace import Workspace

_LOOK_SECONDS = 0.15
# Cells that are run together, by Run All, shall be one run.
_QUIET_SECONDS = 0.06
# The cells of one gesture follow each other at once: a kernel that has been idle for so long has begun a new one.
_GESTURE_SECONDS = 0.3
_BEGIN_SECONDS = 30.0
_STUMBLES = 3


@dataclass(slots=True)
class _Waiting:
    """A submission that more steps may still join."""

    cells: tuple[Cell, ...]
    request: PipelineRequest
    watched: RunView
    timer: threading.Timer


class RunClient:
    """All runs of one kernel that go on beside it."""

    def __init__(self, workspace: Callable[[], Workspace], notebook: str, connection_file: str) -> None:
        self._workspace = workspace
        self._notebook = notebook
        self._connection_file = connection_file
        self._runner: RunnerClient | None = None
        self._runs: list[RunView] = []
        self._waiting: _Waiting | None = None
        self._lock = threading.RLock()
        self._eyes: threading.Thread | None = None
        self._numbers: dict[str, int] = {}
        self._displayed: dict[str, tuple[Html, ...]] = {}
        self._seen: dict[Artifact, Preview] = {}
        self._gesture = 0
        self._is_busy = False
        self._release_timer = threading.Timer(_GESTURE_SECONDS, self._release)
        self.landed: Callable[[], None] = lambda: None

    def submit(self, request: PipelineRequest, cells: tuple[Cell, ...]) -> RunView:
        """Submit steps of a kernel's cells with what they need, or join a run that makes them already.

        What is wrong with the notebook's words is raised; the rest is told by the run.
        """
        needs = declared_needs(request)
        texts = _texts(request, needs)
        with self._lock:
            joined = self._joined(request, texts)
            if joined is not None:
                return joined
            if self._waiting is not None and self._may_join(self._waiting, request):
                return self._join(self._waiting, request, cells, texts=texts, needs=needs)
            self._flush()
            watched = self._submitted(self._joinable(), texts, needs)
            with _telling(watched):
                self._waiting = _Waiting(cells, request, watched, self._timer())
            return watched

    def submit_alone(self, request: PipelineRequest, cells: tuple[Cell, ...], run_options: RunOptions) -> RunView:
        """Submit a run of its own, with run_options that no other has."""
        needs = declared_needs(request)
        with self._lock:
            self._flush()
            watched = self._submitted("", _texts(request, needs), needs)
            watched.alone = bool(request.texts)
            run_options = dataclasses.replace(run_options, run=watched.request, attach=True)
            with _telling(watched):
                self._send(cells, request, run_options)
            return watched

    def watch(self, run: str) -> RunView:
        """Watch a whole run, whoever carries it."""
        with self._lock:
            known = next((one for one in self._runs if one.id == run and not one.request), None)
            return known or self._look_after(RunView(self._workspace().runs.watch(run), self.picture))

    def begin_cell(self) -> None:
        """Note that a cell begins: the runs that go on are held until no cell has run for a moment."""
        with self._lock:
            self._is_busy = True
            self._release_timer.cancel()

    def end_cell(self) -> None:
        """Note that a cell has ended; the next one of the same gesture follows at once."""
        with self._lock:
            self._is_busy = False
            self._release_soon()

    def _release_soon(self) -> None:
        self._release_timer.cancel()
        self._release_timer = threading.Timer(_GESTURE_SECONDS, self._release)
        self._release_timer.daemon = True
        self._release_timer.start()

    def _release(self) -> None:
        with self._lock:
            if not self._is_busy:
                self._gesture += 1
                if self._runner is not None:
                    self._runner.release()

    def _joinable(self) -> str:
        """Return the run of this kernel that goes on and takes more steps; empty if there is none."""
        for watched in reversed(self._runs):
            if watched.request and not (watched.over or watched.alone or watched.error):
                return watched.request if watched.is_unconfirmed else watched.id
        return ""

    def _submitted(
        self, joins: str, texts: Mapping[str, StepDescription], needs: Mapping[str, tuple[str, ...]]
    ) -> RunView:
        request = new_run_id(time.time())
        watcher = self._workspace().runs.watch(joins or request)
        watched = RunView(watcher, self.picture, request, is_unconfirmed=bool(joins), texts=texts, needs=needs)
        return self._look_after(watched)

    def _look_after(self, watched: RunView) -> RunView:
        self._runs = [one for one in self._runs if not one.over] + [watched]
        self._watch_on()
        return watched

    def newest(self) -> RunView | None:
        """Get the run under way that was submitted last."""
        return next((watched for watched in reversed(self._runs) if not watched.over), None)

    def picture(self, watched: RunView, focus: str | None) -> CardState:
        """Get what a card with this focus shows of a run."""
        steps = watched.steps()
        origins = {step.origin.run for step in steps if step.origin}
        if origins - self._numbers.keys():
            self._numbers |= self._workspace().runs.numbers(origins)
        if focus is None and len(steps) == 1:
            focus = steps[0].step
        note = str(watched.error) if watched.error else _queued_because(watched, focus)
        return CardState(
            run=watched.run, steps=steps, needs=watched.needs, focus=focus, told=watched.told(),
            previews=self._previews(watched, focus), numbers=self._numbers, now=time.time(), note=note,
            error_line=watched.failing_line(focus), displays=self._displays(watched, focus),
        )  # fmt: skip

    def _displays(self, watched: RunView, focus: str | None) -> tuple[Html, ...]:
        """Get what a step displayed that has ended."""
        record = watched.record(focus) if focus else None
        if record is None or not record.status.terminal or record.notebook is None:
            return ()
        if record.notebook not in self._displayed:
            self._displayed[record.notebook] = rich_outputs(read_executed(record.notebook))
        return self._displayed[record.notebook]

    def _previews(self, watched: RunView, focus: str | None) -> dict[str, Preview]:
        """Get a look at each output of a step that has its outputs."""
        record = watched.succeeded(focus) if focus else None
        found: dict[str, Preview] = {}
        for artifact in record.artifacts if record else ():
            if artifact not in self._seen:
                self._seen[artifact] = preview(artifact, self._workspace().materializer)
            found[f"{focus}.{artifact.name}"] = self._seen[artifact]
        return found

    def close(self) -> None:
        """Let go of what goes on."""
        with self._lock:
            self._release_timer.cancel()
            self._flush()
            runner, self._runner = self._runner, None
            runs, self._runs = self._runs, []
        for watched in runs:
            watched.leave()
        if runner is not None:
            runner.close()

    def begun(self, patience: float = _BEGIN_SECONDS) -> None:
        """Return when what was submitted has begun, or does not in time."""
        self._flush()
        ends = time.monotonic() + patience
        for watched in list(self._runs):
            while (watched.run is None or watched.is_unconfirmed) and not watched.error and time.monotonic() < ends:
                with watched.changed:
                    watched.changed.wait(_LOOK_SECONDS)

    @property
    def _root(self) -> Any:
        return self._workspace().layout.root

    def _joined(self, request: PipelineRequest, texts: Mapping[str, StepDescription]) -> RunView | None:
        """Get a run that carries out just these steps already."""
        if request.force is not None or request.start is not None:
            return None
        for watched in reversed(self._runs):
            if all(watched.goes_on_with(step) and watched.texts[step] == texts[step] for step in request.steps):
                return watched
        return None

    def _timer(self) -> threading.Timer:
        timer = threading.Timer(_QUIET_SECONDS, self._flush)
        timer.daemon = True
        timer.start()
        return timer

    def _may_join(self, waiting: _Waiting, request: PipelineRequest) -> bool:
        other = waiting.request
        plain = all(one.force is None and one.start is None and not one.texts for one in (other, request))
        return plain and other.notebook == request.notebook and not waiting.watched.is_done("")

    def _join(
        self,
        waiting: _Waiting,
        request: PipelineRequest,
        cells: tuple[Cell, ...],
        *,
        texts: Mapping[str, StepDescription],
        needs: Mapping[str, tuple[str, ...]],
    ) -> RunView:
        steps = tuple(dict.fromkeys((*waiting.request.steps, *request.steps)))
        watched, before = waiting.watched, waiting.timer
        watched.needs = {**watched.needs, **needs}
        waiting.request = dataclasses.replace(request, steps=steps)
        waiting.cells = cells
        watched.texts = {**watched.texts, **texts}
        # The earlier one goes last: interrupted in between, the cells are submitted all the same.
        waiting.timer = self._timer()
        before.cancel()
        return watched

    def _flush(self) -> None:
        with self._lock:
            waiting, self._waiting = self._waiting, None
            if waiting is None:
                return
            waiting.timer.cancel()
            watched = waiting.watched
            joins = watched.id if watched.is_unconfirmed else ""
            run_options = RunOptions(run=watched.request, attach=True)
            with _telling(watched):
                self._send(waiting.cells, waiting.request, run_options, joins)

    def _send(
        self, cells: tuple[Cell, ...], request: PipelineRequest, run_options: RunOptions, joins: str = ""
    ) -> None:
        submission = Submission(
            cells, request, run_options, self._root, dict(os.environ), joins, self._gesture, Lifetime.KERNEL,
            self._connection_file, holds=True,
        )  # fmt: skip
        if not self._is_busy:
            self._release_soon()
        if self._runner is None:
            self._runner = RunnerClient(self._root, self._replied, self._runner_ended)
        self._runner.submit(submission)

    def _replied(self, reply: Reply) -> None:
        for watched in list(self._runs):
            if watched.request != reply.run:
                continue
            if reply.error is not None:
                watched.fail(reply.error.to_error())
            elif reply.kind is ReplyKind.JOINED:
                watched.confirm()
            elif watched.is_unconfirmed:
                watched.confirm(self._workspace().runs.watch(reply.run))

    def _runner_ended(self, carried: frozenset[str]) -> None:
        """Take note that the process has ended that carried these runs: what it left is found lost."""
        gone = OutOfReach("the process that was to carry the run ended", f"See {LOG_FILE}, and run the cell again.")
        try:
            workspace = self._workspace()
            workspace.runs.live(self._notebook)
            begun = workspace.runs.numbers(carried)
        except NbpipeError as error:
            begun, gone = {}, OutOfReach(error.message, error.hint)
        for watched in list(self._runs):
            if watched.request in carried - begun.keys() and (watched.is_unconfirmed or watched.id == watched.request):
                watched.fail(gone)

    def _look(self) -> None:
        try:
            while self._look_once():
                time.sleep(_LOOK_SECONDS)
        finally:
            # Whatever ended this thread, somebody may still wait for another run.
            self._watch_on()

    def _look_once(self) -> bool:
        """Look at all runs; False when none goes on, and whoever comes then has to start a thread."""
        with self._lock:
            runs = [watched for watched in self._runs if not watched.over]
            if not runs:
                self._eyes = None
                return False
        for watched in runs:
            _look_at(watched)
        # The kernel's loop may be closed: then nobody runs cells any more.
        with contextlib.suppress(RuntimeError):
            self.landed()
        return True

    def _watch_on(self) -> None:
        with self._lock:
            if self._eyes is threading.current_thread():
                self._eyes = None
            if self._eyes is None and any(not watched.over for watched in self._runs):
                self._eyes = threading.Thread(target=self._look, name="nbpipe-live", daemon=True)
                self._eyes.start()


def _look_at(watched: RunView) -> None:
    """Look at a run; one that cannot be followed is over for all who wait for it, whatever the reason."""
    watched.stumbles += 1
    try:
        watched.look()
        watched.stumbles = 0
    except NbpipeError as error:
        watched.give_up(error)
    finally:
        if watched.stumbles > _STUMBLES:
            watched.give_up(OutOfReach("the run cannot be followed any more", "%nbpipe status tells how it stands."))


@contextlib.contextmanager
def _telling(watched: RunView) -> Iterator[None]:
    """Let nobody wait for a run that could not be handed over: whatever goes wrong meanwhile ends it."""
    done = False
    try:
        yield
        done = True
    finally:
        if not done:
            watched.fail(OutOfReach("the run was not submitted: the cell was interrupted", "Run the cell again."))


def read_executed(path: str) -> dict[str, Any]:
    """Get an executed notebook; an empty one where it cannot be read any more."""
    try:
        notebook: dict[str, Any] = json.loads(Path(path).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return notebook


def _texts(request: PipelineRequest, selected: Collection[str]) -> dict[str, StepDescription]:
    """Get what each step is: its cells, and the definitions and values that it reaches."""
    found: dict[str, StepDescription] = {}
    reading = request.reading
    values = {parameter.name: parameter.default for parameter in reading.parameters} | dict(reading.injected)
    values |= request.texts
    for step in reading.steps:
        if step.name in selected:
            code = reading.code[step.name]
            read = {name: repr(values.get(name)) for name in code.parameters}
            found[step.name] = StepDescription(step.pieces, definition_digests(code), read)
    return found


def _queued_because(watched: RunView, focus: str | None) -> str:
    """Get what a step that has not begun waits for."""
    record = watched.record(focus) if focus else None
    if focus is None or (record is not None and record.status is not Status.QUEUED):
        return ""
    if record is not None and record.notes:
        return record.notes[0]
    open_ = [need for need in watched.needs.get(focus, ()) if not watched.is_done(need)]
    return f"waits for {', '.join(open_)}" if open_ else ""
