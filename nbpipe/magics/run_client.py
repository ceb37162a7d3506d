"""The runs of a kernel in the runner: submitted without waiting, watched, and shown on cards."""

from __future__ import annotations

import contextlib
import dataclasses
import os
import threading
import time
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass

from nbpipe.errors import NbpipeError, OutOfReach
from nbpipe.magics.card_contents import CardContents
from nbpipe.magics.gestures import Gestures
from nbpipe.magics.run_view import RunView, StepDescription
from nbpipe.magics.watched_run import WatchedRun
from nbpipe.model import Cell, PipelineWarning
from nbpipe.resolve.resolved_request import PipelineRequest, declared_needs
from nbpipe.run.job_factory import definition_digests
from nbpipe.run.messages import Reply
from nbpipe.run.run_watcher import RunUpdate
from nbpipe.run.runner_client import LOG_FILE, RunnerClient
from nbpipe.run.submission import Lifetime, RunOptions, Submission, new_run_id
from nbpipe.workspace import Workspace
from nbpipe.workspace.run_watch import watch_run

# A look finds a change within this time; after a change, the cards rest, so that a busy run does not flood them.
_LOOK_SECONDS = 0.05
_REST_SECONDS = 0.15
# Cells that are run together, as by Run All, are one run.
_QUIET_SECONDS = 0.06
_BEGIN_SECONDS = 30.0
_CLOSE_SECONDS = 5.0
_STUMBLES = 3


@dataclass(slots=True)
class _Waiting:
    """A submission that other steps may still join."""

    cells: tuple[Cell, ...]
    request: PipelineRequest
    view: RunView
    joins: str
    timer: threading.Timer


class RunClient:
    """All active runs of a kernel."""

    def __init__(
        self,
        workspace: Callable[[], Workspace],
        readable: Callable[[], Workspace],
        notebook: Callable[[], str],
        connection_file: str,
        gestures: Gestures,
    ) -> None:
        self._writable = workspace
        self._readable = readable
        self._gestures = gestures
        self._notebook = notebook
        self._connection_file = connection_file
        self._runner: RunnerClient | None = None
        self._unanswered: dict[str, Submission] = {}
        self._views: list[RunView] = []
        self._picture = CardContents(readable).picture
        self._waiting: _Waiting | None = None
        self._lock = threading.RLock()
        self._watcher: threading.Thread | None = None
        self._shown_warnings: set[PipelineWarning] = set()
        self.landed: Callable[[], None] = lambda: None

    def submit(self, request: PipelineRequest, cells: tuple[Cell, ...]) -> RunView:
        """Submit steps of a kernel's cells with the steps they need; they join the kernel's active run.

        Errors in the notebook's text are raised; other errors are reported by the run.
        """
        needs = declared_needs(request)
        texts = _texts(request, needs)
        with self._lock:
            existing = self._same(request, texts)
            if existing is not None:
                return existing
            if self._waiting is not None and self._may_join(self._waiting, request):
                return self._join(self._waiting, request, cells, texts=texts, needs=needs)
            self._flush()
            joins = self._joinable()
            view = self._new_view(texts, needs)
            with _submitting(view):
                self._waiting = _Waiting(cells, request, view, joins, self._timer())
            return view

    def submit_alone(self, request: PipelineRequest, cells: tuple[Cell, ...], run_options: RunOptions) -> RunView:
        """Submit a run of its own, with its own options."""
        needs = declared_needs(request)
        with self._lock:
            self._flush()
            view = self._new_view(_texts(request, needs), needs)
            view.alone = bool(request.texts)
            with _submitting(view):
                self._send(cells, request, dataclasses.replace(run_options, run=view.request, attach=True))
            return view

    def watch(self, run: str) -> RunView:
        """Return a view of a whole run, whichever process carries it out."""
        with self._lock:
            whole_runs = (view for view in self._views if not (view.request or view.over))
            existing = next((view for view in whole_runs if view.watched is not None and view.watched.id == run), None)
            return existing or self._look_after(RunView(self._picture, self._watched(run)))

    def release(self) -> None:
        """Let the active runs end as soon as nothing is left to do in them: their gesture is over."""
        with self._lock:
            if self._runner is not None:
                self._runner.release()

    def newest(self) -> RunView | None:
        """Return the view of the active run that was submitted last."""
        return next((view for view in reversed(self._views) if not view.over), None)

    def close(self) -> None:
        """Disconnect from the active runs, which continue."""
        with self._lock:
            self._flush()
            runner, self._runner = self._runner, None
            views, self._views = self._views, []
            watcher = self._watcher
        if watcher is not None and watcher is not threading.current_thread():
            # It reads the workspace, which is about to be closed.
            watcher.join(_CLOSE_SECONDS)
        for view in views:
            view.leave()
        if runner is not None:
            runner.close()

    def await_begun(self, patience: float = _BEGIN_SECONDS) -> None:
        """Wait until the submitted runs have begun, up to a time limit."""
        self._flush()
        deadline = time.monotonic() + patience
        for view in list(self._views):
            while view.run is None and not view.error and time.monotonic() < deadline:
                with view.changed:
                    view.changed.wait(_LOOK_SECONDS)

    def _joinable(self) -> str:
        """Return the id of the kernel's run that accepts more steps, or of the request that may become one."""
        for view in reversed(self._views):
            if view.request and not (view.over or view.alone or view.error):
                return view.request if view.watched is None else view.watched.id
        return ""

    def _new_view(self, texts: Mapping[str, StepDescription], needs: Mapping[str, tuple[str, ...]]) -> RunView:
        request = new_run_id(time.time())
        return self._look_after(RunView(self._picture, request=request, texts=texts, needs=needs))

    def _look_after(self, view: RunView) -> RunView:
        self._views = [each for each in self._views if not each.is_finished] + [view]
        self._watch_on()
        return view

    def _watched(self, run: str) -> WatchedRun:
        """Return a run to watch, shared with another view if possible."""
        watched = (view.watched for view in self._views if view.watched is not None and not view.over)
        existing = next((each for each in watched if each.id == run), None)
        return existing or WatchedRun(watch_run(self._readable(), run), lambda: watch_run(self._writable(), run))

    def _attach(self, view: RunView, run: str) -> None:
        try:
            with self._lock:
                view.attach(self._watched(run))
        except NbpipeError as error:
            view.fail(error)

    def _same(self, request: PipelineRequest, texts: Mapping[str, StepDescription]) -> RunView | None:
        """Return the view of a run that is already carrying out the same steps.

        The newest view that has any of them decides, because it has superseded older ones.
        """
        if request.force is not None or request.start is not None:
            return None
        for view in reversed(self._views):
            if view.alone or not view.texts.keys() & texts.keys():
                continue
            same = all(view.texts.get(step) == text for step, text in texts.items())
            return view if same and all(map(view.goes_on_with, request.steps)) else None
        return None

    def _timer(self) -> threading.Timer:
        timer = threading.Timer(_QUIET_SECONDS, self._flush)
        timer.daemon = True
        timer.start()
        return timer

    def _may_join(self, waiting: _Waiting, request: PipelineRequest) -> bool:
        other = waiting.request
        plain = all(each.force is None and each.start is None and not each.texts for each in (other, request))
        return plain and other.notebook == request.notebook and waiting.view.error is None

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
        view, before = waiting.view, waiting.timer
        view.needs = {**view.needs, **needs}
        waiting.request = dataclasses.replace(request, steps=steps)
        waiting.cells = cells
        view.texts = {**view.texts, **texts}
        # The earlier timer is cancelled last, so that the cells are submitted even after an interrupt in between.
        waiting.timer = self._timer()
        before.cancel()
        return view

    def _flush(self) -> None:
        with self._lock:
            waiting = self._waiting
            if waiting is None:
                return
            with _submitting(waiting.view):
                self._waiting = None
                waiting.timer.cancel()
                run_options = RunOptions(run=waiting.view.request, attach=True)
                self._send(waiting.cells, waiting.request, run_options, waiting.joins)

    def _send(
        self, cells: tuple[Cell, ...], request: PipelineRequest, run_options: RunOptions, joins: str = ""
    ) -> None:
        root = self._writable().layout.root
        submission = Submission(
            cells, request, run_options, root, dict(os.environ), joins, self._gestures.number, Lifetime.KERNEL,
            self._connection_file, holds=True,
        )  # fmt: skip
        if self._runner is None:
            self._runner = RunnerClient(root, self._replied, self._runner_ended)
        self._unanswered[run_options.run] = submission
        self._hand_over(self._runner, submission)

    def _hand_over(self, runner: RunnerClient, submission: Submission) -> None:
        runner.submit(submission)
        self._gestures.extend()

    def _submit_again(self, request: str) -> bool:
        """Submit a request again that an exited runner had not begun; return False if that was done before."""
        with self._lock:
            submission = self._unanswered.pop(request, None)
            if submission is None or self._runner is None:
                return False
            self._hand_over(self._runner, submission)
            return True

    def _replied(self, reply: Reply) -> None:
        self._unanswered.pop(reply.run, None)
        for view in [view for view in self._views if view.request == reply.run]:
            view.warnings = tuple(warning for warning in reply.warnings if warning not in self._shown_warnings)
            self._shown_warnings.update(reply.warnings)
            if reply.error is not None:
                view.fail(reply.error.to_error())
            elif view.watched is None:
                self._attach(view, reply.joined or reply.run)

    def _runner_ended(self, carried: frozenset[str]) -> None:
        """Handle the exit of the runner that carried these requests.

        Runs that had begun are recorded as lost; requests that had not begun are submitted again.
        """
        views = [view for view in self._views if view.request in carried and not view.over]
        if not views:
            return
        error_for_views = OutOfReach(
            "the run's process exited unexpectedly", f"See {LOG_FILE}, and run the cell again."
        )
        recorded: Collection[str] = ()
        try:
            workspace = self._readable()
            workspace.runs.live(self._notebook())
            recorded = workspace.runs.numbers(carried)
        except NbpipeError as error:
            error_for_views = OutOfReach(error.message, error.hint)
        finally:
            for view in views:
                if view.watched is None and view.request in recorded:
                    self._attach(view, view.request)
                elif view.watched is None and not self._submit_again(view.request):
                    view.fail(error_for_views)

    def _look(self) -> None:
        try:
            while (pause := self._look_once()) is not None:
                time.sleep(pause)
        finally:
            # Whatever ended this thread, a cell may still wait for another run.
            self._watch_on()

    def _look_once(self) -> float | None:
        """Look at all active runs, and return the time until the next look; None if there are none any more."""
        with self._lock:
            views = [view for view in self._views if not view.over]
            ended = [view for view in self._views if view.over and not view.is_finished]
            if not (views or ended):
                self._watcher = None
                return None
        _complete(ended)
        has_changed = False
        for watched in {id(view.watched): view.watched for view in views}.values():
            has_changed |= _look_at(watched, [view for view in views if view.watched is watched])
        # The kernel's loop may be closed: then no more cells are run.
        with contextlib.suppress(RuntimeError):
            self.landed()
        return _REST_SECONDS if has_changed else _LOOK_SECONDS

    def _watch_on(self) -> None:
        with self._lock:
            if self._watcher is threading.current_thread():
                self._watcher = None
            if self._watcher is None and any(not view.is_finished for view in self._views):
                self._watcher = threading.Thread(target=self._look, name="nbpipe-live", daemon=True)
                self._watcher.start()


def _look_at(watched: WatchedRun | None, views: Sequence[RunView]) -> bool:
    """Look at a run for its views, and return whether it has changed.

    If it cannot be followed, its views are over, whatever the reason.
    """
    update = RunUpdate(None)
    for view in views:
        view.stumbles += 1
    try:
        if watched is not None:
            update = watched.look()
        # A view that cannot be drawn does not prevent others from being drawn.
        with contextlib.ExitStack() as every:
            for view in views:
                every.callback(_take, view, update)
    except NbpipeError as error:
        for view in views:
            view.give_up(error)
    finally:
        for view in views:
            if view.stumbles > _STUMBLES:
                view.give_up(OutOfReach("the run can no longer be followed", "`%nbpipe status` shows its state."))
    return not update.is_empty


def _complete(views: Sequence[RunView]) -> None:
    for view in views:
        # What the card lacks is shown with the result's next run.
        with contextlib.suppress(NbpipeError):
            view.complete()


def _take(view: RunView, update: RunUpdate) -> None:
    try:
        view.take(update)
        view.stumbles = 0
    except NbpipeError as error:
        view.give_up(error)


@contextlib.contextmanager
def _submitting(view: RunView) -> Iterator[None]:
    """Fail the view if its run could not be submitted, whatever the reason, so that no cell waits for it."""
    done = False
    try:
        yield
        done = True
    except NbpipeError as error:
        done = True
        view.fail(error)
    finally:
        if not done:
            view.fail(OutOfReach("the run was not submitted: the cell was interrupted", "Run the cell again."))


def _texts(request: PipelineRequest, selected: Collection[str]) -> dict[str, StepDescription]:
    """Return a description of each step: its cells, and the definitions and values that it uses."""
    texts: dict[str, StepDescription] = {}
    reading = request.reading
    values = {parameter.name: parameter.default for parameter in reading.parameters} | dict(reading.injected)
    values |= request.texts
    for step in reading.steps:
        if step.name in selected:
            code = reading.code[step.name]
            read = {name: repr(values.get(name)) for name in code.parameters}
            cells = frozenset(definition.cell for definition in code.definitions)
            texts[step.name] = StepDescription(step.pieces, definition_digests(code), read, cells)
    return texts
