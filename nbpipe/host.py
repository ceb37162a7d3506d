"""``python -m nbpipe.host KERNEL``: carries the runs that one kernel submits, all on one cluster.

Each line of standard input is a submission with the kernel's environment, as JSON; each line of standard output tells
of one that was refused or broke off. How a run goes on is in the history, where anybody may follow it. The kernel is
gone when standard input closes. A kernel that is being started again keeps its connection file, KERNEL: what goes on is
carried to its end then. One that was shut down leaves none: its runs are cancelled.
"""

from __future__ import annotations

import json
import logging
import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any, TextIO

from nbpipe.compute.sharing import Shared
from nbpipe.compute.targets import default_target, executor_of
from nbpipe.errors import NbpipeError, OutOfReach
from nbpipe.run.submission import Submission
from nbpipe.workspace import Workspace

_LOG = logging.getLogger(__name__)
_LOOK_SECONDS = 0.5
_IDLE_SECONDS = 600.0
_PATIENCE = 15.0


class Host:
    """The runs under way: each has a thread, a workspace and a seat at the cluster of its own."""

    def __init__(self, answer: Callable[[dict[str, Any]], None]) -> None:
        self._answer = answer
        self._cluster = Shared(lambda: executor_of(default_target()))
        self._threads: set[threading.Thread] = set()
        self._stop = threading.Event()
        self._last = time.monotonic()
        self._under_way = threading.Event()
        self._under_way.set()

    @property
    def busy(self) -> bool:
        """Say whether any run goes on."""
        self._threads = {thread for thread in self._threads if thread.is_alive()}
        if self._threads:
            self._last = time.monotonic()
        return bool(self._threads)

    @property
    def idle_seconds(self) -> float:
        """Get for how long nothing went on."""
        return 0.0 if self.busy else time.monotonic() - self._last

    def begin(self, line: str) -> None:
        """Begin to carry a submission."""
        before, self._under_way = self._under_way, threading.Event()
        turns = before, self._under_way
        thread = threading.Thread(target=self._carry, args=(line, *turns), name="nbpipe-run", daemon=True)
        self._threads.add(thread)
        thread.start()

    def stop(self) -> None:
        """Cancel all runs."""
        self._stop.set()

    def close(self) -> None:
        """Wait until all runs have ended, and stop the cluster."""
        for thread in self._threads:
            thread.join()
        self._cluster.close()

    def _carry(self, line: str, before: threading.Event, under_way: threading.Event) -> None:
        # Who asked first has its steps first: a later run waits for them, and not the other way round.
        before.wait(_PATIENCE)
        told = json.loads(line)
        run = str(told["run"])
        try:
            submission = Submission.from_json(told["submission"])
            with Workspace.open(submission.asked.base, submission.root) as workspace:
                workspace.environ = told["environ"]
                supersede(workspace, told["instead"])
                workspace.run(submission.asked, submission.wishes, lambda _record: under_way.set(),
                              self._cluster.seat, cancelled=self._stop.is_set)  # fmt: skip
        except NbpipeError as error:
            self._answer({"run": run, "error": error.to_json()})
            _LOG.error("%s", error)  # a sentence for people, who want no stack of ours
        except BaseException as error:  # noqa: BLE001  # a thread's border: the kernel must hear of it
            _LOG.exception("a run broke off")
            said = f"the run broke off: {type(error).__name__}: {error}"
            self._answer({"run": run, "error": OutOfReach(said, "See carrier.log in the workspace.").to_json()})
        finally:
            under_way.set()


def supersede(workspace: Workspace, steps: Iterable[tuple[str, str]]) -> None:
    """Cancel steps of other runs, and return when they have ended or do not end in time."""
    wanted = [(run, step) for run, step in steps]
    for run, step in wanted:
        workspace.history.ask_cancel_step(run, step, workspace.clock())
    ends = time.monotonic() + _PATIENCE
    while time.monotonic() < ends and any(not workspace.has_ended(run, step) for run, step in wanted):
        time.sleep(0.05)


def main() -> int:
    """Carry runs until the kernel is gone or nothing has gone on for long."""
    signal.signal(signal.SIGHUP, signal.SIG_IGN)
    kernel = Path(sys.argv[1]) if len(sys.argv) > 1 and sys.argv[1] else None
    answers = os.fdopen(os.dup(sys.stdout.fileno()), "w", encoding="utf-8")
    # Whoever reads the answers reads lines of JSON: whatever else is printed here goes to the log.
    os.dup2(sys.stderr.fileno(), sys.stdout.fileno())
    lock = threading.Lock()

    def answer(told: dict[str, Any]) -> None:
        with lock:
            _say(answers, told)

    host = Host(answer)
    signal.signal(signal.SIGTERM, lambda *_: host.stop())
    gone = threading.Event()
    threading.Thread(target=_listen, args=(host, gone), name="nbpipe-submissions", daemon=True).start()
    while not gone.wait(_LOOK_SECONDS):
        if host.idle_seconds > _IDLE_SECONDS:
            break
    while host.busy:
        if kernel is None or not kernel.exists():
            host.stop()
        time.sleep(_LOOK_SECONDS / 2)
    host.close()
    return 0


def _listen(host: Host, gone: threading.Event) -> None:
    for line in sys.stdin:
        host.begin(line)
    gone.set()


def _say(answers: TextIO, told: dict[str, Any]) -> None:
    try:
        answers.write(json.dumps(told) + "\n")
        answers.flush()
    except (BrokenPipeError, ValueError):
        return


if __name__ == "__main__":
    sys.exit(main())
