"""The client of the runner, a program that is started on the first submission, and again if it has exited."""

from __future__ import annotations

import contextlib
import dataclasses
import os
import queue
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from nbpipe.errors import NbpipeError, OutOfReach
from nbpipe.permissions import open_private
from nbpipe.run.messages import (
    ErrorPayload,
    ReleaseRuns,
    Reply,
    ReplyKind,
    decode_reply,
    encode_release,
    encode_submission,
)
from nbpipe.run.submission import Lifetime, Submission, new_run_id

_PROGRAM = "nbpipe.runner"
_CLOSE_SECONDS = 5.0

LOG_FILE = "runner.log"

OnReply = Callable[[Reply], None]
"""Called with each reply about a run."""

OnExit = Callable[[frozenset[str]], None]
"""Called with the runs that were submitted to a runner that has exited."""


@dataclass(slots=True)
class _Runner:
    """A runner process, the runs that were submitted to it, and those without a reply yet."""

    process: subprocess.Popen[str]
    runs: set[str] = field(default_factory=set)
    unanswered: set[str] = field(default_factory=set)
    has_ended: bool = False
    lock: threading.Lock = field(default_factory=threading.Lock)

    def expect(self, run: str) -> None:
        """Note that a run is about to be submitted."""
        with self.lock:
            self.unanswered.add(run)

    def add(self, run: str) -> bool:
        """Note that a run was submitted; return False if the process has already exited."""
        with self.lock:
            self.runs.add(run)
            return not self.has_ended

    def attribute(self, reply: Reply) -> list[Reply]:
        """Return the reply for each run that it is about; one without a run is about all runs without a reply."""
        with self.lock:
            about = {reply.run} if reply.run else set(self.unanswered)
            self.unanswered -= about
        return [dataclasses.replace(reply, run=run) for run in about]

    def end(self) -> frozenset[str]:
        """Note that the process has exited, and return the runs that were submitted to it."""
        with self.lock:
            self.has_ended = True
            return frozenset(self.runs)


class RunnerClient:
    """Submits runs to a runner, which is started for the first one, and again if it has exited.

    A thread submits, and threads call the callbacks, so that nothing waits for a process that is starting.
    """

    def __init__(self, root: Path, on_reply: OnReply, on_exit: OnExit) -> None:
        self._root = root
        self._on_reply = on_reply
        self._on_exit = on_exit
        self._runner: _Runner | None = None
        self._submissions: queue.SimpleQueue[Submission | ReleaseRuns | None] = queue.SimpleQueue()
        self._writer = threading.Thread(target=self._write_all, name="nbpipe-submit", daemon=True)
        self._writer.start()

    def submit(self, submission: Submission) -> None:
        """Submit a run that has an id, without waiting."""
        self._submissions.put(submission)

    def release(self) -> None:
        """Tell the runner that no more steps will be added to the held runs for now."""
        self._submissions.put(ReleaseRuns())

    def close(self) -> None:
        """Disconnect from the runner after everything is submitted; it exits after its runs."""
        self._submissions.put(None)
        self._writer.join(_CLOSE_SECONDS)

    def _write_all(self) -> None:
        while (submission := self._submissions.get()) is not None:
            if isinstance(submission, ReleaseRuns):
                self._write_release()
                continue
            try:
                self._hand_over(submission)
            except NbpipeError as error:
                self._on_reply(Reply(ReplyKind.REFUSED, submission.run_options.run, ErrorPayload.of(error)))
        if self._runner is not None and self._runner.process.stdin is not None:
            with contextlib.suppress(OSError):
                self._runner.process.stdin.close()

    def _write_release(self) -> None:
        stdin = self._runner.process.stdin if self._runner is not None else None
        # A runner that has exited holds no runs.
        with contextlib.suppress(OSError, ValueError):
            if stdin is not None:
                stdin.write(encode_release() + "\n")
                stdin.flush()

    def _hand_over(self, submission: Submission) -> None:
        run = submission.run_options.run
        try:
            line = encode_submission(submission)
        except (TypeError, ValueError, RecursionError, NotImplementedError) as error:
            raise OutOfReach(f"the run cannot be handed to another process: {error}") from error
        try:
            runner = self._write(run, line, submission.request.base)
        except BrokenPipeError:
            # It has just exited, as it does after some time without runs.
            self._runner = None
            runner = self._write(run, line, submission.request.base)
        if not runner.add(run):
            self._on_exit(frozenset({run}))

    def _write(self, run: str, line: str, base: Path) -> _Runner:
        try:
            if self._runner is None or self._runner.process.poll() is not None:
                self._runner = self._start(base)
            self._runner.expect(run)
            if self._runner.process.stdin is not None:
                self._runner.process.stdin.write(line + "\n")
                self._runner.process.stdin.flush()
        except BrokenPipeError:
            raise
        except OSError as error:
            message = f"no process could be started to carry out the run: {error}"
            raise OutOfReach(message, "Check whether this machine can start processes.") from error
        return self._runner

    def _start(self, base: Path) -> _Runner:
        with os.fdopen(open_private(self._root / LOG_FILE, os.O_WRONLY | os.O_APPEND), "ab") as log:
            process = subprocess.Popen(
                # Files beside the notebook must not stand in for libraries.
                [sys.executable, "-P", "-m", _PROGRAM], cwd=base, stdin=subprocess.PIPE, stdout=subprocess.PIPE,
                stderr=log, text=True, env=_environment(),
                # A session of its own: neither an interrupt nor the end of the terminal or the kernel reaches it.
                start_new_session=True,
            )  # fmt: skip
        runner = _Runner(process)
        threading.Thread(target=self._listen, args=(runner,), name="nbpipe-replies", daemon=True).start()
        return runner

    def _listen(self, runner: _Runner) -> None:
        for line in runner.process.stdout or ():
            for reply in runner.attribute(decode_reply(line)):
                self._on_reply(reply)
        runner.process.wait()
        self._on_exit(runner.end())


def launch(submission: Submission) -> str:
    """Submit a run to a runner of its own and return its id once it has begun; raise the error if it cannot begin."""
    run = submission.run_options.run or new_run_id(time.time())
    replies: queue.SimpleQueue[Reply | None] = queue.SimpleQueue()
    client = RunnerClient(submission.root, replies.put, lambda runs: replies.put(None) if run in runs else None)
    try:
        client.submit(dataclasses.replace(submission, run_options=dataclasses.replace(submission.run_options, run=run)))
        reply = replies.get()
    finally:
        # A run that depends on this process is cancelled when the connection closes, which is when the process ends.
        if submission.lifetime is not Lifetime.SUBMITTER:
            client.close()
    if reply is None:
        message = "the run's process exited before the run began"
        raise OutOfReach(message, f"See {submission.root / LOG_FILE}.")
    if reply.error is not None:
        client.close()
        raise reply.error.to_error()
    return run


def _environment() -> dict[str, str]:
    # Without bytecode, every start would compile all libraries again.
    return {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
