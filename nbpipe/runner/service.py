"""The active runs of a runner: submitted, extended and cancelled, all on one cluster."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field

from nbpipe.compute.shared_executor import SharedExecutor
from nbpipe.compute.target_executors import TargetExecutors
from nbpipe.errors import NbpipeError, OutOfReach
from nbpipe.run.messages import ErrorPayload, ReleaseRuns, Reply, ReplyKind, decode_message
from nbpipe.run.runner_client import LOG_FILE
from nbpipe.run.submission import Lifetime, Submission
from nbpipe.workspace import Workspace
from nbpipe.workspace.run_execution import ActiveRun, execute_run
from nbpipe.workspace.run_profiles import make_profiles

_LOG = logging.getLogger(__name__)
_PATIENCE = 15.0
# A kernel is likely to submit more, and should not have to wait for a new cluster.
_KERNEL_SECONDS = 600.0


@dataclass(eq=False, slots=True)
class _Submitted:
    """A submission, and the run that carries it out, once that has begun.

    ``begin_settled`` is set when the run has begun or cannot begin any more, ``started`` when its steps have.
    ``joined`` is the submission whose run its steps were added to.
    """

    submission: Submission
    thread: threading.Thread = field(init=False)
    cancelled: threading.Event = field(default_factory=threading.Event)
    started: threading.Event = field(default_factory=threading.Event)
    begin_settled: threading.Event = field(default_factory=threading.Event)
    run: ActiveRun | None = None
    joined: _Submitted | None = None
    is_held: bool = False
    _held_run: ActiveRun | None = None
    _lock: threading.Lock = field(default_factory=threading.Lock)

    @property
    def id(self) -> str:
        return self.submission.run_options.run

    @property
    def is_alive(self) -> bool:
        """Return whether its run is active, or may still begin."""
        return self.thread.is_alive() or (self.joined is not None and self.joined.thread.is_alive())

    def begin(self, run: ActiveRun) -> None:
        """Record that the run has begun."""
        self.run = run
        self.hold(run)
        self.begin_settled.set()

    def hold(self, run: ActiveRun) -> None:
        """Keep a run from ending until it is released, unless the client has released it already."""
        with self._lock:
            if self.is_held:
                self._held_run = run
                run.hold()

    def release(self) -> None:
        """Let the held run end as soon as nothing is left to do."""
        with self._lock:
            self.is_held = False
            if self._held_run is not None:
                self._held_run.release()


class RunnerService:
    """Carries out runs, each with its own thread, workspace and lease of the cluster."""

    def __init__(self, reply: Callable[[Reply], None]) -> None:
        self._reply = reply
        self._cluster = SharedExecutor(TargetExecutors)
        self._active: dict[str, _Submitted] = {}
        self._lock = threading.Lock()
        self._last_active = time.monotonic()
        self._keep_seconds = _KERNEL_SECONDS
        self._newest_started = threading.Event()
        self._newest_started.set()

    @property
    def is_busy(self) -> bool:
        """Return whether any run is active."""
        with self._lock:
            self._active = {run: active for run, active in self._active.items() if active.is_alive}
            if self._active:
                self._last_active = time.monotonic()
            return bool(self._active)

    @property
    def is_finished(self) -> bool:
        """Return whether no run is active and no more are expected from the client."""
        return not self.is_busy and time.monotonic() - self._last_active > self._keep_seconds

    def receive(self, line: str) -> None:
        """Handle a client's message; refuse one that cannot be decoded."""
        try:
            submission = decode_message(line)
        except Exception as error:  # noqa: BLE001  # the thread must go on to read later messages
            _LOG.exception("a message could not be read")
            submission = Reply(ReplyKind.REFUSED, "", ErrorPayload.of(_broke_off(error)))
        if isinstance(submission, Reply):
            _LOG.error("%s", submission.error.message if submission.error else "")
            self._reply(submission)
        elif isinstance(submission, ReleaseRuns):
            self.release()
        else:
            self.submit(submission)

    def submit(self, submission: Submission) -> None:
        """Start to carry out a run in its own thread."""
        active = _Submitted(submission, is_held=submission.holds)
        arguments = (active, self._newest_started)
        active.thread = threading.Thread(target=self._carry_out, args=arguments, name="nbpipe-run", daemon=True)
        with self._lock:
            try:
                active.thread.start()
            except RuntimeError as error:
                self._reply(Reply(ReplyKind.REFUSED, active.id, ErrorPayload.of(_broke_off(error))))
                return
            self._active[active.id] = active
            self._keep_seconds = _KERNEL_SECONDS if submission.lifetime is Lifetime.KERNEL else 0.0
            self._newest_started = active.started

    def cancel(self) -> None:
        """Cancel all runs. Takes no lock, because a signal's handler calls it."""
        for active in list(self._active.values()):
            active.cancelled.set()

    def release(self) -> None:
        """Release the held runs: nothing more will be added to them for now."""
        with self._lock:
            active = list(self._active.values())
        for submitted in active:
            submitted.release()

    def cancel_abandoned(self) -> None:
        """Cancel the runs that do not outlive the client, which has disconnected."""
        for active in list(self._active.values()):
            if not active.submission.outlives_client():
                active.cancelled.set()

    def close(self) -> None:
        """Wait until all runs have ended, and stop the cluster."""
        with self._lock:
            threads = [active.thread for active in self._active.values()]
        for thread in threads:
            thread.join()
        self._cluster.close()

    def _carry_out(self, active: _Submitted, previous_started: threading.Event) -> None:
        # The steps of an earlier run start first: a later run waits for them, not vice versa.
        previous_started.wait(_PATIENCE)
        try:
            self._run(active)
        except NbpipeError as error:
            _LOG.error("%s", error)  # a message for users, without a stack trace
            self._answer(active, error)
        except BaseException as error:  # noqa: BLE001  # the client must be told
            _LOG.exception("a run broke off")
            self._answer(active, _broke_off(error))
        finally:
            active.begin_settled.set()
            active.started.set()

    def _run(self, active: _Submitted) -> None:
        submission = active.submission
        active.joined = self._join(active)
        if active.joined is not None:
            run = active.joined.run
            warnings = run.warnings if run is not None else ()
            self._reply(Reply(ReplyKind.JOINED, active.id, joined=active.joined.id, warnings=warnings))
            return

        def began(run: ActiveRun) -> None:
            active.begin(run)
            self._reply(Reply(ReplyKind.BEGAN, run.record.id, warnings=run.warnings))

        with Workspace.open(submission.request.base, submission.root) as workspace:
            workspace.use_environment(submission.environ)
            report = execute_run(
                workspace, submission.request, submission.run_options,
                lambda _update: active.started.set(), self._cluster.lease,
                began=began, cancelled=active.cancelled.is_set,
            )  # fmt: skip
            active.started.set()
            make_profiles(workspace.context, report.steps, active.cancelled.is_set)

    def _join(self, active: _Submitted) -> _Submitted | None:
        """Add steps to the run that they should join, and return its submission, if it is active.

        Raise the errors in the steps.
        """
        submission = active.submission
        with self._lock:
            named = self._active.get(submission.joins) if submission.joins else None
        if named is None:
            return None
        named.begin_settled.wait()
        carrier = named.joined or named
        run = carrier.run
        if run is None:
            return None
        active.hold(run)
        try:
            joined = run.extend(submission.request, active.id, submission.gesture, submission.environ)
        except Exception:
            # The run's workspace is closed when it ends, which may have been just now.
            if run.is_over:
                return None
            raise
        return carrier if joined else None

    def _answer(self, active: _Submitted, error: NbpipeError) -> None:
        kind = ReplyKind.BROKE_OFF if active.run is not None else ReplyKind.REFUSED
        self._reply(Reply(kind, active.id, ErrorPayload.of(error)))


def _broke_off(error: BaseException) -> OutOfReach:
    message = f"the run broke off: {type(error).__name__}: {error}"
    return OutOfReach(message, f"See {LOG_FILE} in the workspace.")
