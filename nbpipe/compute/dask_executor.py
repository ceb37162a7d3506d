"""Carries out attempts on a Dask cluster of this machine: one worker process, with a thread for each slot.

A step's kernel is a process of its own, so one worker process is enough; it only waits for kernels. Nothing is started
before the first attempt is submitted. Retries are the driver's: Dask is told to try nothing twice.

What is reported of an attempt while it runs comes as events of a Dask topic, its result as that of a Dask task. The two
travel apart and an event may be lost, so the result repeats the reports that must have come before it.
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

from nbpipe.compute import outcome_queue, worker_entry_points
from nbpipe.compute.reports import ReportQueue
from nbpipe.errors import ClusterOutOfReach
from nbpipe.model import AttemptEnded, AttemptReport, AttemptStarted, AttemptTold, Job, Outcome

_ADDRESS = "127.0.0.1"
_RESULT_SECONDS = 60
_CLOSE_SECONDS = 5
_RESTART_TIME = "2 minutes"
# States of a nanny that starts no worker any more.
_OVER = ("closing", "closed", "failed")

_SCRATCH = "nbpipe-dask-"
_LOG = logging.getLogger(__name__)
_WORKER_START = "nbpipe.compute.dask_preload"

_SETTINGS = {
    # A worker gets what it can run at once; the rest waits where it can be cancelled, and is not lost with a worker.
    "distributed.scheduler.worker-saturation": 1.0,
    # Dask cannot be kept from serving HTTP, but from having anything to serve.
    "distributed.scheduler.http.routes": [],
    "distributed.worker.http.routes": [],
    # Events are for whoever listens now; the scheduler keeps this many of each topic.
    "distributed.admin.low-level-log-length": 100,
}
_SCHEDULER = {
    # A step whose worker died is the driver's to try again, never Dask's.
    "allowed_failures": 0,
    "dashboard": False,
    "dashboard_address": f"{_ADDRESS}:0",
}


@dataclass(frozen=True, slots=True)
class _Started:
    """A running cluster, and the scratch folder that goes with it."""

    cluster: Any
    client: Any
    scratch: str


@dataclass(frozen=True, slots=True)
class _Completed:
    """What a worker returns: how the attempt ended, and the newest report of each kind before that."""

    outcome: Outcome
    reports: tuple[AttemptReport, ...]


class DaskExecutor:
    """Carries out attempts on a cluster of this machine that is started when the first one comes."""

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
        """How many attempts run at the same time."""
        return self._slots

    def start(self) -> None:
        """Start the cluster, unless it runs; ClusterOutOfReach says why it cannot be had."""
        self._cluster()

    def submit(self, job: Job) -> None:
        """Have an attempt carried out; its reports arrive by :meth:`wait`."""
        client = self._cluster().client
        self._reports.expect(job.attempt)
        key = f"nbstep-{job.attempt}"
        future = client.submit(_carry_out, job, self._topic, key=key, pure=False, retries=0)
        with self._lock:
            self._pending[job.attempt] = (job, future)
        future.add_done_callback(lambda done: self._arrived(job, done))

    def wait(self, timeout: float) -> list[AttemptReport]:
        """Return all reports that have arrived, waiting up to ``timeout`` seconds for the first one."""
        with self._lock:
            if self._started is not None and _is_lost(self._started):
                self._give_up()
        return self._reports.wait(timeout)

    def cancel(self, attempt: str) -> None:
        """Stop an attempt; its outcome tells when it is gone."""
        with self._lock:
            pending = self._pending.get(attempt)
            if pending is None or self._started is None:
                return
            self._cancelled.add(attempt)
            client = self._started.client
        # The worker's event loop answers, so this gets through while all its threads are busy.
        answers = client.run(_stop, attempt, on_error="ignore")
        if not any(answers.values()):
            pending[1].cancel()

    def close(self) -> None:
        """Stop all attempts and return when nothing of them and of the cluster is left."""
        with self._lock:
            running = list(self._pending)
        for attempt in running:
            self.cancel(attempt)
        with self._lock:
            started, self._started = self._started, None
        if started is not None:
            _end(started)
        with self._lock:
            left = [job for job, _ in self._pending.values()]
            self._pending.clear()
        for job in left:
            self._reports.put(AttemptEnded(outcome_queue.lost_outcome(job, ConnectionError("the executor was closed"))))

    def _cluster(self) -> _Started:
        with self._lock:
            if self._started is not None and (self._started.client.status != "running" or _is_lost(self._started)):
                self._give_up()
            if self._started is None:
                self._started = _start(self._slots)
                self._started.client.subscribe_topic(self._topic, self._heard)
            return self._started

    def _give_up(self) -> None:
        """End a cluster that can carry out nothing any more; what it was to carry out is lost."""
        started, self._started = self._started, None
        pending = [job for job, _ in self._pending.values()]
        self._pending.clear()
        self._cancelled.clear()
        if started is not None:
            _end(started)
        for job in pending:
            self._reports.put(AttemptEnded(outcome_queue.lost_outcome(job, ConnectionError("the cluster was lost"))))

    def _heard(self, event: tuple[float, object]) -> None:
        """Take an event of our topic; called on the client's event loop."""
        match event[1]:
            case {"attempt": str(attempt), "at": float(at)}:
                self._reports.put(AttemptStarted(attempt, at))
            case {"attempt": str(attempt), "pieces": int(pieces)}:
                self._reports.put(AttemptTold(attempt, pieces))

    def _arrived(self, job: Job, done: Any) -> None:
        completed = self._completed(job, done)
        with self._lock:
            known = self._pending.pop(job.attempt, None)
            self._cancelled.discard(job.attempt)
        if known is not None:
            for report in (*completed.reports, AttemptEnded(completed.outcome)):
                self._reports.put(report)

    def _completed(self, job: Job, done: Any) -> _Completed:
        if done.status == "cancelled" and job.attempt in self._cancelled:
            return _Completed(outcome_queue.cancelled_outcome(job), ())
        if done.status != "finished":
            error = done.exception() if done.status == "error" else None
            return _Completed(
                outcome_queue.lost_outcome(job, error or ConnectionError(f"its task is {done.status}")), ()
            )
        try:
            completed: _Completed = done.result(timeout=_RESULT_SECONDS)
        except (OSError, RuntimeError) as error:
            return _Completed(outcome_queue.lost_outcome(job, error), ())
        return completed


def _start(slots: int) -> _Started:
    """Start a cluster that only this machine can reach."""
    # Half a second that a run in which everything is reused must not pay.
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
    """Remove the scratch folders of processes that were killed before they could do it themselves."""
    for folder in Path(tempfile.gettempdir()).glob(f"{_SCRATCH}*"):
        owner = folder.name.removeprefix(_SCRATCH).partition("-")[0]
        try:
            os.kill(int(owner), 0)
        except ProcessLookupError:
            shutil.rmtree(folder, ignore_errors=True)
        except (ValueError, PermissionError):
            continue


def _end(started: _Started) -> None:
    """End a cluster, in whatever state it is; its worker process is gone afterwards."""
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
    # Of a cluster that lost a part Dask waits for that part, gives up, and warns when the object is forgotten.
    started.cluster.status = type(started.cluster.status).closed
    shutil.rmtree(started.scratch, ignore_errors=True)


def _is_lost(started: _Started) -> bool:
    """Return whether no worker is there and none will come: Dask would wait for one for ever."""
    return all(nanny.status.name in _OVER for nanny in started.cluster.workers.values())


def _nanny() -> type[Any]:
    """Return the class that starts the worker process, and starts it again when it has died."""
    # As above: only where a cluster is started.
    from distributed import Nanny

    class QuietNanny(Nanny):
        async def instantiate(self) -> Any:
            with _without_main():
                return await super().instantiate()

    return QuietNanny


def _cluster_class() -> type[Any]:
    """Return the class of a cluster that leaves its nanny time to start a worker again, on a busy machine too."""
    # As above: only where a cluster is started.
    import dask
    from distributed import LocalCluster

    class PatientCluster(LocalCluster):
        def _update_worker_status(self, op: str, msg: Any) -> None:
            with dask.config.set({"distributed.deploy.lost-worker-timeout": _RESTART_TIME}):
                super()._update_worker_status(op, msg)  # type: ignore[no-untyped-call]  # theirs

    return PatientCluster


@contextlib.contextmanager
def _without_main() -> Iterator[None]:
    """Hide the program that is running from new processes of multiprocessing, which import it again otherwise.

    They would load the whole command line, or run a script that has no ``if __name__ == "__main__"`` a second time.
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
    """Carry out an attempt and report what it does under ``topic``; runs in a worker's thread."""
    # As above: only where a cluster is started.
    from distributed import get_worker

    worker = get_worker()
    newest: dict[type, AttemptReport] = {}

    def report(event: AttemptStarted | AttemptTold) -> None:
        newest[type(event)] = event
        # Of any thread: it hands the event to the worker's event loop and returns.
        worker.log_event(topic, asdict(event))

    outcome: Outcome = worker_entry_points.load_entry_point(worker_entry_points.RUN)(job, report)
    return _Completed(outcome, tuple(newest.values()))


def _stop(attempt: str) -> bool:
    """Stop an attempt; runs on a worker's event loop."""
    return bool(worker_entry_points.load_entry_point(worker_entry_points.STOP)(attempt))


def _warm_up() -> None:
    """Load what every attempt needs beside the worker's other work, so that the first one does not wait for it."""
    threading.Thread(
        target=worker_entry_points.load_entry_point, args=(worker_entry_points.RUN,), daemon=True, name="nbpipe-warm-up"
    ).start()
