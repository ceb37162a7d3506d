"""The worker's end of a supervisor's socket: starts a kernel's supervisor, commands it, and reads its reports."""

from __future__ import annotations

import contextlib
import json
import os
import select
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO

import nbpipe
from nbpipe.execution.kernels.supervisor import (
    BEGUN,
    CHECK,
    CONTINUED,
    END,
    GOOD,
    INTERRUPT,
    REPORT,
    STOPPED,
    SUPERVISOR,
)

ROOT = str(Path(nbpipe.__file__).parent.parent)
_ANSWER_SECONDS = 2.0
_ISOLATED = (
    "import sys; sys.path.insert(0, sys.argv.pop(1)); "
    "from nbpipe.execution.kernels.supervisor import main; sys.path.pop(0); main()"
)


@dataclass(frozen=True, slots=True)
class LaunchRequest:
    """How a kernel is to be started: ``command`` is complete, ``env`` is the whole environment.

    ``directory`` is removed after the kernel, ``log`` takes what it writes outside of its cells. ``memory`` is the
    limit in bytes for all that it starts, None for any.
    """

    command: tuple[str, ...]
    env: Mapping[str, str] = field(repr=False)
    cwd: str
    directory: str
    log: IO[bytes]
    memory: int | None = None


class SupervisorHandle:
    """A kernel's supervisor, seen from the worker; all of it may be used from any thread.

    ``stopped`` is the process number of a kernel that somebody has stopped, until it goes on. Once the kernel is gone,
    ``took`` is how many bytes it took if that was more than it may, and ``oom`` whether the system had none left.
    """

    def __init__(self, end: socket.socket, process: subprocess.Popen[bytes] | None = None) -> None:
        self.took = 0
        self.oom = False
        self.stopped: int | None = None
        self._number: int | None = None
        self._end = end
        self._process = process
        self._told = bytearray()
        self._exit_code: int | None = None
        self._lock = threading.Lock()

    def poll(self) -> int | None:
        """Return how the kernel ended: its exit code, minus a signal's number, or None while it is there."""
        with self._lock:
            while self._exit_code is None and readable(self._end, 0):
                self._hear()
            return self._exit_code

    def wait(self, seconds: float) -> bool:
        """Wait until the kernel and all that it started are gone; False when they are not in time."""
        deadline = time.monotonic() + seconds
        while self.poll() is None:
            left = deadline - time.monotonic()
            if left <= 0:
                return False
            readable(self._end, left)
        return True

    def begun(self, seconds: float) -> bool:
        """Wait until the supervisor is at work; False when there is none, or none in time."""
        deadline = time.monotonic() + seconds
        while BEGUN not in self._told and self._exit_code is None:
            if not readable(self._end, max(0.0, deadline - time.monotonic())):
                return False
            with self._lock:
                self._hear()
        return BEGUN in self._told

    def still_good(self) -> bool:
        """Return whether the kernel lives and is what one started now would be."""
        with self._lock:
            length = len(self._told)
            self.say(CHECK)
            while self._exit_code is None and readable(self._end, _ANSWER_SECONDS):
                self._hear()
                if len(self._told) > length:
                    return self._told.endswith(GOOD)
        return False

    def interrupt(self) -> None:
        """Interrupt what the kernel is doing, as Ctrl-C would."""
        self.say(INTERRUPT)

    def end(self) -> None:
        """Ask for the end of the kernel and of all that it started, without waiting for it."""
        self.say(END)

    def say(self, words: bytes) -> None:
        """Send a command to the supervisor; one that is gone receives none."""
        with contextlib.suppress(OSError):
            self._end.sendall(words)

    def kill(self) -> None:
        """Kill the supervisor itself, and the kernel with it: for one that was stopped and reads nothing."""
        with self._lock:
            # As long as it has not closed its end, the number is its own.
            if self._exit_code is None and self._number is not None:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(self._number, signal.SIGKILL)

    def let_go(self) -> None:
        """Close the supervisor's socket, which ends the kernel if nothing else has."""
        if self.poll() is None:
            self.kill()
        with self._lock:
            if self._exit_code is None:
                self._exit_code = -signal.SIGKILL
            self._end.close()
        if self._process is not None:
            self._process.wait()

    def _hear(self) -> None:
        try:
            words = self._end.recv(4096)
        except ConnectionError:
            words = b""
        self._told += words
        for line in self._told[: self._told.rfind(b"\n") + 1].splitlines():
            self._take(bytes(line))
        _, there, last = self._told.rpartition(REPORT)
        if there and last.endswith(b"\n"):
            report = json.loads(last)
            self._exit_code, self.took, self.oom = report["status"], report["took"], report["oom"]
        elif not words:
            # A supervisor that tells nothing was killed itself, and its kernel with it.
            self._exit_code = -signal.SIGKILL

    def _take(self, line: bytes) -> None:
        if line.startswith(SUPERVISOR):
            self._number = int(line.removeprefix(SUPERVISOR))
        elif line.startswith(STOPPED):
            self.stopped = int(line.removeprefix(STOPPED))
        elif line == CONTINUED.rstrip():
            self.stopped = None


def readable(end: socket.socket, seconds: float) -> bool:
    """Wait until a socket has something to tell, its other end's closing included; False when it has not in time."""
    # Not select(), which knows only the first thousand descriptors of a process.
    waiting = select.poll()
    waiting.register(end, select.POLLIN)
    return bool(waiting.poll(seconds * 1000))


def start(launch: LaunchRequest) -> SupervisorHandle:
    """Start a supervisor as a process of its own, which starts the kernel by its command."""
    ours, its = socket.socketpair()
    supervisor = [sys.executable, "-I", "-S", "-c", _ISOLATED, ROOT, launch.directory, str(launch.memory or 0)]
    try:
        with its:
            process = subprocess.Popen(
                [*supervisor, *launch.command],
                stdin=its.fileno(),
                stdout=launch.log,
                stderr=subprocess.STDOUT,
                cwd=launch.cwd,
                env=dict(launch.env),
                start_new_session=True,
            )
    except OSError:
        ours.close()
        raise
    return SupervisorHandle(ours, process)


def request(launch: LaunchRequest, local: Iterable[str]) -> bytes:
    """Return what a forked supervisor reads from its socket; ``local`` names the author's own modules."""
    at = launch.command.index("-m")
    payload = {
        "command": launch.command,
        "arguments": launch.command[at + 2 :],
        "env": dict(launch.env),
        "cwd": launch.cwd,
        "directory": launch.directory,
        "memory": launch.memory,
        "local": list(local),
    }
    return json.dumps(payload).encode() + b"\n"


def hand_over(zygote: socket.socket, log: IO[bytes]) -> SupervisorHandle:
    """Have a zygote fork a supervisor; whether it did is told by :meth:`SupervisorHandle.begun`."""
    ours, its = socket.socketpair()
    try:
        with its:
            socket.send_fds(zygote, [b"k"], [its.fileno(), log.fileno()])
    except OSError:
        ours.close()
        raise
    return SupervisorHandle(ours)
