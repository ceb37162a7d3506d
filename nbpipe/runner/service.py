"""The runs under way in a runner: submitted, superseded, cancelled, all on one cluster."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field

from nbpipe.compute.sharing import Shared
from nbpipe.compute.targets import default_target, executor_of
from nbpipe.errors import NbpipeError, OutOfReach
from nbpipe.model import RunRecord
from nbpipe.run.answers import Planned
from nbpipe.run.messages import ErrorPayload, Reply, ReplyKind, decode_submission
from nbpipe.run.runner_client import LOG_FILE
from nbpipe.run.submission import Lifetime, StepReference, Submission
from nbpipe.workspace import Workspace

_LOG = logging.getLogger(__name__)
_PATIENCE = 15.0
# A kernel is likely to submit more, and then need not wait for a cluster to start.
_KERNEL_SECONDS = 600.0
_STEP_PAUSE = 0.05


@dataclass(eq=False, slots=True)
class _ActiveRun:
    """A run that was submitted; ``started`` is set when its steps have, or cannot any more."""

    submission: Submission
    thread: threading.Thread = field(init=False)
    cancelled: threading.Event = field(default_factory=threading.Event)
    started: threading.Event = field(default_factory=threading.Event)
    has_begun: bool = False

    @property
    def id(self) -> str:
        return self.submission.wishes.run


class RunnerService:
    """Each run has a thread, a workspace and a seat at the cluster of its own."""

    def __init__(self, reply: Callable[[Reply], None]) -> None:
        self._reply = reply
        self._cluster = Shared(lambda: executor_of(default_target()))
        self._active: dict[str, _ActiveRun] = {}
        self._lock = threading.Lock()
        self._last_active = time.monotonic()
        self._keep_seconds = _KERNEL_SECONDS
        self._newest_started = threading.Event()
        self._newest_started.set()

    @property
    def is_busy(self) -> bool:
        """Return whether any run goes on."""
        with self._lock:
            self._active = {run: active for run, active in self._active.items() if active.thread.is_alive()}
            if self._active:
                self._last_active = time.monotonic()
            return bool(self._active)

    @property
    def is_finished(self) -> bool:
        """Return whether nothing goes on and nothing more is to be expected of the client."""
        return not self.is_busy and time.monotonic() - self._last_active > self._keep_seconds

    def receive(self, line: str) -> None:
        """Take a client's message; one that cannot be understood is answered, and changes nothing."""
        try:
            submission = decode_submission(line)
        except Exception as error:  # noqa: BLE001  # a thread's border: what comes next must still be read
            _LOG.exception("a message could not be read")
            submission = Reply(ReplyKind.REFUSED, "", ErrorPayload.of(_broke_off(error)))
        if isinstance(submission, Reply):
            _LOG.error("%s", submission.error.message if submission.error else "")
            self._reply(submission)
        else:
            self.submit(submission)

    def submit(self, submission: Submission) -> None:
        """Begin to carry out a run, in a thread of its own."""
        active = _ActiveRun(submission)
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

    def is_active(self, run: str) -> bool:
        """Return whether a run is under way here, begun or not."""
        with self._lock:
            return run in self._active and self._active[run].thread.is_alive()

    def cancel(self) -> None:
        """Cancel all runs. Takes no lock, because a signal's handler calls it."""
        for active in list(self._active.values()):
            active.cancelled.set()

    def cancel_abandoned(self) -> None:
        """Cancel the runs that do not outlive the client, now that it is gone."""
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

    def _carry_out(self, active: _ActiveRun, previous_started: threading.Event) -> None:
        # The steps of the run that was submitted first come first: a later run waits for them, not the other way round.
        previous_started.wait(_PATIENCE)
        try:
            self._run(active)
        except NbpipeError as error:
            _LOG.error("%s", error)  # a sentence for people, who want no stack of ours
            self._answer(active, error)
        except BaseException as error:  # noqa: BLE001  # a thread's border: the client must hear of it
            _LOG.exception("a run broke off")
            self._answer(active, _broke_off(error))
        finally:
            active.started.set()

    def _run(self, active: _ActiveRun) -> None:
        submission = active.submission

        def began(run: RunRecord, _planned: Planned) -> None:
            active.has_begun = True
            self._reply(Reply(ReplyKind.BEGAN, run.id))

        with Workspace.open(submission.asked.base, submission.root) as workspace:
            workspace.environ = submission.environ
            supersede(workspace, submission.supersedes, self.is_active)
            workspace.run(
                submission.asked, submission.wishes, lambda _record: active.started.set(), self._cluster.seat, began,
                cancelled=active.cancelled.is_set,
            )  # fmt: skip

    def _answer(self, active: _ActiveRun, error: NbpipeError) -> None:
        kind = ReplyKind.BROKE_OFF if active.has_begun else ReplyKind.REFUSED
        self._reply(Reply(kind, active.id, ErrorPayload.of(error)))


def supersede(workspace: Workspace, steps: Iterable[StepReference], is_active: Callable[[str], bool]) -> None:
    """Cancel steps of other runs, and return when they have ended or do not end in time.

    A run that was submitted just before may not have begun: ``is_active`` says whether it still may.
    """
    asked = dict.fromkeys(steps, False)
    ends = time.monotonic() + _PATIENCE
    while asked and time.monotonic() < ends:
        for step, is_asked in list(asked.items()):
            may_begin = is_active(step.run)
            record = workspace.step(step.run, step.step)
            if record.status.terminal if record else not may_begin:
                del asked[step]
            elif record and not is_asked:
                workspace.cancel_step(step.run, step.step)
                asked[step] = True
        time.sleep(_STEP_PAUSE if asked else 0)


def _broke_off(error: BaseException) -> OutOfReach:
    message = f"the run broke off: {type(error).__name__}: {error}"
    return OutOfReach(message, f"See {LOG_FILE} in the workspace.")
