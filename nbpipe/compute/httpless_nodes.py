"""Dask's scheduler, worker and nanny as a private cluster has them: nothing of them listens for HTTP.

Dask cannot be told to start no HTTP server. One on a loopback port would answer every user of the machine, and it is no
part of what TLS protects. A worker process finds the worker's class by its name, so these are classes of a module; only
what starts a cluster, or is a worker, loads it.
"""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Iterator
from typing import Any

import dask
from distributed import Nanny, Scheduler, SpecCluster, Worker

_RESTART_TIME = "2 minutes"


class HttplessScheduler(Scheduler):
    """A scheduler that serves no HTTP."""

    def start_http_server(self, *_: Any, **__: Any) -> None:
        """Start nothing."""


class HttplessWorker(Worker):
    """A worker that serves no HTTP."""

    def start_http_server(self, *_: Any, **__: Any) -> None:
        """Start nothing."""


class HttplessNanny(Nanny):
    """What starts the worker process, and starts it again when it has died."""

    async def instantiate(self) -> Any:
        """Start the worker process."""
        with _without_main():
            return await super().instantiate()


class RestartTolerantCluster(SpecCluster):
    """A cluster that leaves its nanny time to start a worker again, on a busy machine too."""

    def _update_worker_status(self, op: str, msg: Any) -> None:
        with dask.config.set({"distributed.deploy.lost-worker-timeout": _RESTART_TIME}):
            super()._update_worker_status(op, msg)  # type: ignore[no-untyped-call]  # theirs


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
