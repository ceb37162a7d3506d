"""``python -m nbpipe.carrier``: carries one run that another process has submitted on standard input.

It answers one line on standard output: the run's id when it has begun, or what went wrong. What a leashed run was
submitted by is gone when standard input closes; the run is cancelled then.
"""

from __future__ import annotations

import json
import logging
import os
import signal
import sys
import threading

from nbpipe.errors import NbpipeError
from nbpipe.model import RunRecord, Status
from nbpipe.run.answers import Planned
from nbpipe.run.submission import Submission
from nbpipe.workspace import Workspace

_LOG = logging.getLogger(__name__)


def main() -> int:
    """Carry the run to its end, and get the exit code."""
    signal.signal(signal.SIGHUP, signal.SIG_IGN)
    answer = os.fdopen(os.dup(sys.stdout.fileno()), "w", encoding="utf-8")
    # Whoever reads the answer reads one line: anything else would fill a pipe that nobody empties.
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    submission = Submission.from_json(sys.stdin.readline())
    if submission.leashed:
        threading.Thread(target=_watch, name="nbpipe-leash", daemon=True).start()

    def began(run: RunRecord, _planned: Planned) -> None:
        _say(answer.fileno(), {"run": run.id})

    try:
        with Workspace.open(submission.asked.base, submission.root) as workspace:
            report = workspace.run(submission.asked, submission.wishes, began=began)
    except NbpipeError as error:
        _say(answer.fileno(), {"error": str(error)})
        _LOG.error("%s", error)  # a sentence for people, who want no stack of ours
        return error.exit_code
    return 0 if report.run.status is Status.SUCCEEDED else 1


def _watch() -> None:
    """Cancel the run when standard input is closed."""
    while sys.stdin.readline():
        continue
    os.kill(os.getpid(), signal.SIGINT)


def _say(descriptor: int, told: dict[str, str]) -> None:
    try:
        os.write(descriptor, (json.dumps(told) + "\n").encode())
    except BrokenPipeError:
        return


if __name__ == "__main__":
    sys.exit(main())
