"""A Dask cluster of this machine that answers nobody but its own driver: started, looked after, ended.

Scheduler, worker and nanny speak TLS over loopback with a certificate made for this one cluster. Its key is in the
memory of the driver, which hands it to the worker process, and nowhere else: whoever else connects, another user of
the machine or another program of this one, is refused before a word is read. Nothing listens for HTTP.
"""

from __future__ import annotations

import contextlib
import logging
import multiprocessing
from collections.abc import Mapping
from dataclasses import dataclass
from importlib import import_module
from typing import Any

from nbpipe.compute import machine_limits, quiet_dask
from nbpipe.data import private_directory
from nbpipe.errors import ClusterOutOfReach

_ADDRESS = "127.0.0.1"
_CLOSE_SECONDS = 5
_NODES = "nbpipe.compute.httpless_nodes"
_WORKER_START = "nbpipe.compute.dask_preload"
# States of a nanny that starts no worker any more.
_OVER = ("closing", "closed", "failed")
_LOG = logging.getLogger(__name__)

_SETTINGS = {
    # A worker gets what it can run at once; the rest waits where it can be cancelled, and is not lost with a worker.
    "distributed.scheduler.worker-saturation": 1.0,
    "distributed.scheduler.http.routes": [],
    "distributed.worker.http.routes": [],
    # Events are for whoever listens now; the scheduler keeps this many of each topic.
    "distributed.admin.low-level-log-length": 100,
}


@dataclass(frozen=True, slots=True)
class LocalCluster:
    """A running cluster, a client of it, and the scratch directory that goes with it."""

    cluster: Any
    client: Any
    scratch: str

    @property
    def is_lost(self) -> bool:
        """Whether the cluster can carry out nothing any more: Dask would wait for a worker for ever."""
        no_worker = all(nanny.status.name in _OVER for nanny in self.cluster.workers.values())
        return no_worker or self.client.status != "running"

    def end(self) -> None:
        """End the cluster, in whatever state it is; its worker process is gone afterwards."""
        mine = {nanny.pid for nanny in self.cluster.workers.values()}
        workers = [child for child in multiprocessing.active_children() if child.pid in mine]
        for part in (self.cluster, self.client):
            try:
                part.close(timeout=_CLOSE_SECONDS)
            except (OSError, RuntimeError) as error:
                _LOG.info("Dask did not end in time: %s", error)
        for worker in workers:
            if worker.is_alive():
                worker.kill()
            worker.join(_CLOSE_SECONDS)
        # Of a cluster that lost a part Dask waits for that part, gives up, and warns when the object is forgotten.
        self.cluster.status = type(self.cluster.status).closed
        private_directory.remove(self.scratch)
        quiet_dask.end()


def start(slots: int, tries: int = 3) -> LocalCluster:
    """Return a new cluster of one worker process with ``slots`` threads.

    Raise ClusterOutOfReach if this machine does not let it start: at once for a limit of the machine, and otherwise,
    as when its worker was killed, after some tries.
    """
    machine_limits.raise_open_files()
    machine_limits.require_address_space()
    private_directory.sweep()
    try:
        return _start(slots)
    except (OSError, RuntimeError) as error:
        limit = machine_limits.limit_behind(error)
        if limit is not None:
            raise limit from error
        if tries == 1:
            raise ClusterOutOfReach(
                f"the local Dask cluster could not be started: {error}",
                "See whether this machine lets processes start.",
            ) from error
        _LOG.warning("the local Dask cluster is started again: %s", error)
    return start(slots, tries - 1)


def _start(slots: int) -> LocalCluster:
    # Half a second that a run in which everything is reused must not pay.
    import dask
    import distributed

    scratch = private_directory.make(private_directory.DASK)
    security = distributed.Security.temporary()  # type: ignore[no-untyped-call]  # theirs
    # The scheduler takes no other word. It puts its folder on this process's path, and has it where everybody may
    # write: in one that whoever was first has made.
    settings = {**_SETTINGS, "temporary-directory": scratch}
    with contextlib.ExitStack() as failed, dask.config.set(settings):
        failed.callback(private_directory.remove, scratch)
        quiet_dask.begin()
        failed.callback(quiet_dask.end)
        cluster = import_module(_NODES).RestartTolerantCluster(**_specification(slots, scratch, security))
        client = distributed.Client(cluster, set_as_default=False)  # type: ignore[no-untyped-call]  # theirs
        failed.pop_all()
    return LocalCluster(cluster, client, scratch)


def _specification(slots: int, scratch: str, security: object) -> Mapping[str, Any]:
    """Return Dask's description of a cluster with one worker."""
    nodes = import_module(_NODES)
    shared = {"host": _ADDRESS, "protocol": "tls://", "security": security, "dashboard": False}
    # A step whose worker died is the driver's to try again, never Dask's.
    scheduler = {**shared, "port": 0, "allowed_failures": 0}
    worker = {
        **shared,
        "nthreads": slots,
        "memory_limit": 0,
        "silence_logs": logging.CRITICAL,
        "worker_class": nodes.HttplessWorker,
        "local_directory": scratch,
        "preload": [_WORKER_START],
    }
    return {
        "scheduler": {"cls": nodes.HttplessScheduler, "options": scheduler},
        "workers": {0: {"cls": nodes.HttplessNanny, "options": worker}},
        "security": security,
    }
