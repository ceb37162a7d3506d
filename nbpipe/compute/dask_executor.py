"""Carries out attempts on a Dask cluster of this machine: one worker process, with a thread for each slot.

Each step's kernel is a separate process, so one worker process, which only waits for kernels, is enough. Nothing starts
before the first attempt is submitted. The driver handles retries, so Dask's are disabled.

Reports of a running attempt arrive as events of a Dask topic, its outcome as the result of a Dask task. An event may be
lost or arrive late, so the result repeats the reports that precede it.
"""

from __future__ import annotations

import contextlib
import logging
import multiprocessing
import os
import shutil
import sys
import tempfile
import threading
import uuid
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from nbpipe.compute import outcomes, worker_entry_points
from nbpipe.compute.reports import ReportQueue
from nbpipe.errors import ClusterOutOfReach
from nbpipe.model import AttemptEnded, AttemptOutputWritten, AttemptReport, AttemptStarted, Job, Outcome

_ADDRESS = "127.0.0.1"
_RESULT_SECONDS = 60
_CLOSE_SECONDS = 5
_RESTART_TIME = "2 minutes"
# States of a nanny that no longer starts workers.
_OVER = ("closing", "closed", "failed")

_SCRATCH = "nbpipe-dask-"
_LOG = logging.getLogger(__name__)
_WORKER_START = "nbpipe.compute.dask_preload"

_SETTINGS = {
    # A worker gets only what it can run at once; the rest stays with the scheduler, where it can be cancelled.
    "distributed.scheduler.worker-saturation": 1.0,
    # Dask's HTTP server cannot be disabled, but its routes can.
    "distributed.scheduler.http.routes": [],
    "distributed.worker.http.routes": [],
    # Events are for current subscribers; the scheduler keeps this many of each topic.
    "distributed.admin.low-level-log-length": 100,
}
_SCHEDULER = {
    # The driver retries a step whose worker died, not Dask.
    "allowed_failures": 0,
    "dashboard": False,
    "dashboard_address": f"{_ADDRESS}:0",
}


@dataclass(frozen=True, slots=True)
class _Started:
    """A running cluster and its scratch folder."""

    cluster: Any
    client: Any
    scratch: str


@dataclass(frozen=True, slots=True)
class _Completed:
    """A worker's result: the attempt's outcome, and the newest report of each kind before it."""

    outcome: Outcome
    reports: tuple[AttemptReport, ...]


class DaskExecutor:
    """Carries out attempts on a local cluster, which is started with the first one."""

    def __init__(self, slots: int | None = None) -> None:
        self._slots = slots or len(os.sched_getaffinity(0))
        self._reports = ReportQueue()
        self._topic = f"nbpipe-attempts-{uuid.uuid4().hex}"
        self._started: _Started | None = None
        self._pending: dict[str, tuple[Job, Any]] = {}
        self._cancelled: set[str] = set()
        self._lock = threading.RLock()

    @property
    def slots(self) -> int:
        """Return how many attempts run concurrently."""
        return self._slots

    def start(self) -> None:
        """Start the cluster, unless it is running; raise ClusterOutOfReach if it cannot be started."""
        self._cluster()

    def submit(self, job: Job) -> None:
        """Submit an attempt; :meth:`wait` returns its reports."""
        client = self._cluster().client
        self._reports.expect(job.attempt)
        key = f"nbstep-{job.attempt}"
        future = client.submit(_carry_out, job, self._topic, key=key, pure=False, retries=0)
        with self._lock:
            self._pending[job.attempt] = (job, future)
        future.add_done_callback(lambda done: self._arrived(job, done))

    def wait(self, timeout: float) -> list[AttemptReport]:
        """Wait up to ``timeout`` seconds for a report, and return all that have arrived."""
        with self._lock:
            if self._started is not None and _is_lost(self._started):
                self._give_up()
        return self._reports.wait(timeout)

    def cancel(self, attempt: str) -> None:
        """Cancel an attempt; its outcome is reported when it has stopped."""
        with self._lock:
            pending = self._pending.get(attempt)
            if pending is None or self._started is None:
                return
            self._cancelled.add(attempt)
            client = self._started.client
        # The worker's event loop answers, even while all its threads are busy.
        answers = client.run(_stop, attempt, on_error="ignore")
        if not any(answers.values()):
            pending[1].cancel()

    def close(self) -> None:
        """Stop all attempts and the cluster, and wait until they have ended."""
        with self._lock:
            running = list(self._pending)
        for attempt in running:
            self.cancel(attempt)
        with self._lock:
            started, self._started = self._started, None
        if started is not None:
            _end(started)
        with self._lock:
            unfinished = [job for job, _ in self._pending.values()]
            self._pending.clear()
        for job in unfinished:
            self._reports.put(AttemptEnded(outcomes.lost_outcome(job, ConnectionError("the executor was closed"))))

    def _cluster(self) -> _Started:
        with self._lock:
            if self._started is not None and (self._started.client.status != "running" or _is_lost(self._started)):
                self._give_up()
            if self._started is None:
                self._started = _start(self._slots)
                self._started.client.subscribe_topic(self._topic, self._receive_event)
            return self._started

    def _give_up(self) -> None:
        """Stop a cluster that is no longer usable, and report its attempts as lost."""
        started, self._started = self._started, None
        pending = [job for job, _ in self._pending.values()]
        self._pending.clear()
        self._cancelled.clear()
        if started is not None:
            _end(started)
        for job in pending:
            self._reports.put(AttemptEnded(outcomes.lost_outcome(job, ConnectionError("the cluster was lost"))))

    def _receive_event(self, event: tuple[float, object]) -> None:
        """Handle an event of the topic; runs on the client's event loop."""
        match event[1]:
            case {"attempt": str(attempt), "at": float(at)}:
                self._reports.put(AttemptStarted(attempt, at))
            case {"attempt": str(attempt), "pieces": int(pieces)}:
                self._reports.put(AttemptOutputWritten(attempt, pieces))

    def _arrived(self, job: Job, done: Any) -> None:
        completed = self._completed(job, done)
        with self._lock:
            pending = self._pending.pop(job.attempt, None)
            self._cancelled.discard(job.attempt)
        if pending is not None:
            for report in (*completed.reports, AttemptEnded(completed.outcome)):
                self._reports.put(report)

    def _completed(self, job: Job, done: Any) -> _Completed:
        if done.status == "cancelled" and job.attempt in self._cancelled:
            return _Completed(outcomes.cancelled_outcome(job), ())
        if done.status != "finished":
            error = done.exception() if done.status == "error" else None
            return _Completed(outcomes.lost_outcome(job, error or ConnectionError(f"its task is {done.status}")), ())
        try:
            completed: _Completed = done.result(timeout=_RESULT_SECONDS)
        except (OSError, RuntimeError) as error:
            return _Completed(outcomes.lost_outcome(job, error), ())
        return completed


def _start(slots: int) -> _Started:
    """Start a cluster that is reachable only from this machine."""
    # Imported here: takes half a second, which a run that reuses everything does not need.
    import dask
    import distributed

    _sweep()
    scratch = tempfile.mkdtemp(prefix=f"{_SCRATCH}{os.getpid()}-")
    try:
        with dask.config.set(_SETTINGS):
            cluster = _cluster_class()(
                n_workers=1,
                threads_per_worker=slots,
                host=_ADDRESS,
                memory_limit=0,
                silence_logs=logging.CRITICAL,
                worker_class=_nanny(),
                local_directory=scratch,
                preload=[_WORKER_START],
                scheduler_kwargs=_SCHEDULER,
            )
        client = distributed.Client(cluster, set_as_default=False)  # type: ignore[no-untyped-call]  # theirs
    except (OSError, RuntimeError) as error:
        shutil.rmtree(scratch, ignore_errors=True)
        raise ClusterOutOfReach(
            f"the local Dask cluster could not be started: {error}", "See whether this machine lets processes start."
        ) from error
    client.run(_warm_up)
    return _Started(cluster, client, scratch)


def _sweep() -> None:
    """Remove the scratch folders of killed processes."""
    for folder in Path(tempfile.gettempdir()).glob(f"{_SCRATCH}*"):
        owner = folder.name.removeprefix(_SCRATCH).partition("-")[0]
        try:
            os.kill(int(owner), 0)
        except ProcessLookupError:
            shutil.rmtree(folder, ignore_errors=True)
        except (ValueError, PermissionError):
            continue


def _end(started: _Started) -> None:
    """Stop a cluster in any state, and its worker process."""
    mine = {nanny.pid for nanny in started.cluster.workers.values()}
    workers = [child for child in multiprocessing.active_children() if child.pid in mine]
    for part in (started.cluster, started.client):
        try:
            part.close(timeout=_CLOSE_SECONDS)
        except (OSError, RuntimeError) as error:
            _LOG.info("Dask did not end in time: %s", error)
    for worker in workers:
        if worker.is_alive():
            worker.kill()
        worker.join(_CLOSE_SECONDS)
    # If a cluster has lost a part, Dask waits for it, gives up, and warns when the object is deleted.
    started.cluster.status = type(started.cluster.status).closed
    shutil.rmtree(started.scratch, ignore_errors=True)


def _is_lost(started: _Started) -> bool:
    """Return whether there is no worker and none will start: Dask would wait forever."""
    return all(nanny.status.name in _OVER for nanny in started.cluster.workers.values())


def _nanny() -> type[Any]:
    """Return the class that starts the worker process and restarts it when it has died."""
    # Imported here, as above.
    from distributed import Nanny

    class QuietNanny(Nanny):
        async def instantiate(self) -> Any:
            with _without_main():
                return await super().instantiate()

    return QuietNanny


def _cluster_class() -> type[Any]:
    """Return the class of a cluster that gives its nanny time to restart a worker, even on a busy machine."""
    # Imported here, as above.
    import dask
    from distributed import LocalCluster

    class PatientCluster(LocalCluster):
        def _update_worker_status(self, op: str, msg: Any) -> None:
            with dask.config.set({"distributed.deploy.lost-worker-timeout": _RESTART_TIME}):
                super()._update_worker_status(op, msg)  # type: ignore[no-untyped-call]  # theirs

    return PatientCluster


@contextlib.contextmanager
def _without_main() -> Iterator[None]:
    """Hide the main module from new multiprocessing processes, which would import it.

    They would load the whole command line, or run a script without ``if __name__ == "__main__"`` again.
    """
    main = sys.modules["__main__"]
    names: dict[str, Any] = vars(main)
    hidden = {name: names[name] for name in ("__file__", "__spec__") if names.get(name) is not None}
    names.pop("__file__", None)
    names["__spec__"] = None
    try:
        yield
    finally:
        names.update(hidden)


def _carry_out(job: Job, topic: str) -> _Completed:
    """Carry out an attempt and report on it under ``topic``; runs in a worker's thread."""
    # Imported here, as above.
    from distributed import get_worker

    worker = get_worker()
    newest: dict[type, AttemptReport] = {}

    def report(event: AttemptStarted | AttemptOutputWritten) -> None:
        newest[type(event)] = event
        # Thread-safe: passes the event to the worker's event loop and returns.
        worker.log_event(topic, asdict(event))

    outcome: Outcome = worker_entry_points.load_entry_point(worker_entry_points.RUN)(job, report)
    return _Completed(outcome, tuple(newest.values()))


def _stop(attempt: str) -> bool:
    """Stop an attempt; runs on a worker's event loop."""
    return bool(worker_entry_points.load_entry_point(worker_entry_points.STOP)(attempt))


def _warm_up() -> None:
    """Load what every attempt needs in the background, so that the first one need not wait for it."""
    threading.Thread(
        target=worker_entry_points.load_entry_point, args=(worker_entry_points.RUN,), daemon=True, name="nbpipe-warm-up"
    ).start()
