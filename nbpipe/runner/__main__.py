"""``python -P -m nbpipe.runner``: carries out the runs that are submitted on standard input.

Each line of standard input is a message of the client, each line of standard output a reply
(:mod:`nbpipe.run.messages`); the progress of a run is in the history. The client has disconnected when standard input
closes. What happens to a run then is part of its submission: a detached run continues, one that depends on its
submitter is cancelled, and a kernel's run continues unless the kernel was shut down.
"""

from __future__ import annotations

import logging
import os
import signal
import sys
import threading
import time
from types import FrameType
from typing import TextIO

from nbpipe.run.messages import Reply, encode_reply
from nbpipe.runner.service import RunnerService

_LOOK_SECONDS = 0.5


def main() -> int:
    """Carry out runs until the client has disconnected and they have ended, or until a long idle time."""
    signal.signal(signal.SIGHUP, signal.SIG_IGN)
    logging.basicConfig(format="%(asctime)s %(process)d %(levelname)s %(message)s")
    replies = os.fdopen(os.dup(sys.stdout.fileno()), "w", encoding="utf-8")
    # Replies are lines of JSON: anything else that is printed goes to the log.
    os.dup2(sys.stderr.fileno(), sys.stdout.fileno())
    lock = threading.Lock()

    def reply(message: Reply) -> None:
        with lock:
            _write(replies, encode_reply(message))

    service = RunnerService(reply)
    _cancel_on_signals(service)
    disconnected = threading.Event()
    threading.Thread(target=_listen, args=(service, disconnected), name="nbpipe-messages", daemon=True).start()
    while not disconnected.wait(_LOOK_SECONDS):
        if service.is_finished:
            break
    while service.is_busy:
        if disconnected.is_set():
            service.release()
            service.cancel_abandoned()
        time.sleep(_LOOK_SECONDS / 2)
    service.close()
    return 0


def _cancel_on_signals(service: RunnerService) -> None:
    """Cancel all runs on SIGINT or SIGTERM; a second signal ends the process at once."""

    def cancel(number: int, _frame: FrameType | None) -> None:
        signal.signal(number, signal.SIG_DFL)
        service.cancel()

    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, cancel)


def _listen(service: RunnerService, disconnected: threading.Event) -> None:
    try:
        for line in sys.stdin:
            service.receive(line)
    finally:
        disconnected.set()


def _write(replies: TextIO, line: str) -> None:
    try:
        replies.write(line + "\n")
        replies.flush()
    except (BrokenPipeError, ValueError):
        return


if __name__ == "__main__":
    sys.exit(main())
