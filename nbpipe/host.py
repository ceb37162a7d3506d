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
_STEP_PAUSE = 0.05


class Host:
    """The runs under way: each has a thread, a workspace and a seat at the cluster of its own."""

    def __init__(self, answer: Callable[[dict[str, Any]], None]) -> None:
        self._answer = answer
        self._cluster = Shared(lambda: executor_of(default_target()))
        self._threads: dict[str, threading.Thread] = {}
        self._lock = threading.Lock()
        self._stop = threading.Event()
        self._last = time.monotonic()
        self._under_way = threading.Event()
        self._under_way.set()

    @property
    def busy(self) -> bool:
        """Say whether any run goes on."""
        with self._lock:
            self._threads = {run: thread for run, thread in self._threads.items() if thread.is_alive()}
            if self._threads:
                self._last = time.monotonic()
            return bool(self._threads)

    @property
    def idle_seconds(self) -> float:
        """Get for how long nothing went on."""
        return 0.0 if self.busy else time.monotonic() - self._last

    def begin(self, line: str) -> None:
        """Begin to carry a submission."""
        told = json.loads(line)
        before, self._under_way = self._under_way, threading.Event()
        turns = before, self._under_way
        thread = threading.Thread(target=self._carry, args=(told, *turns), name="nbpipe-run", daemon=True)
        with self._lock:
            thread.start()
            self._threads[str(told["run"])] = thread

    def carries(self, run: str) -> bool:
        """Say whether a run is under way here, begun or not."""
        with self._lock:
            thread = self._threads.get(run)
            return thread is not None and thread.is_alive()

    def stop(self) -> None:
        """Cancel all runs."""
        self._stop.set()

    def close(self) -> None:
        """Wait until all runs have ended, and stop the cluster."""
        with self._lock:
            threads = list(self._threads.values())
        for thread in threads:
            thread.join()
        self._cluster.close()

    def _carry(self, told: dict[str, Any], before: threading.Event, under_way: threading.Event) -> None:
        # Who asked first has its steps first: a later run waits for them, and not the other way round.
        before.wait(_PATIENCE)
        run = str(told["run"])
        try:
            submission = Submission.from_json(told["submission"])
            with Workspace.open(submission.asked.base, submission.root) as workspace:
                workspace.environ = told["environ"]
                supersede(workspace, told["instead"], self.carries)
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


def supersede(workspace: Workspace, steps: Iterable[tuple[str, str]], carries: Callable[[str], bool]) -> None:
    """Cancel steps of other runs, and return when they have ended or do not end in time.

    A run that was submitted just before may not have begun: ``carries`` says whether it still may.
    """
    wanted = dict.fromkeys(((run, step) for run, step in steps), False)
    ends = time.monotonic() + _PATIENCE
    while wanted and time.monotonic() < ends:
        for (run, step), asked in list(wanted.items()):
            may_come = carries(run)
            record = workspace.step(run, step)
            if record.status.terminal if record else not may_come:
                del wanted[run, step]
            elif record and not asked:
                workspace.cancel_step(run, step)
                wanted[run, step] = True
        time.sleep(_STEP_PAUSE if wanted else 0)


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
