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
    CHECK,
    CONTINUED,
    END,
    GOOD,
    INTERRUPT,
    REPORT,
    STARTED,
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
    """How to start a kernel: ``command`` is complete, ``env`` is the whole environment.

    ``directory`` is removed after the kernel, ``log`` receives what it writes outside of its cells. ``memory`` is the
    limit in bytes including child processes, None for no limit. ``runtime`` is the path and the SHA-256 of the archive
    whose modules the kernel will import first, and may be given at its start.
    """

    command: tuple[str, ...]
    env: Mapping[str, str] = field(repr=False)
    cwd: str
    directory: str
    log: IO[bytes]
    memory: int | None = None
    runtime: tuple[str, str] = ("", "")


class SupervisorHandle:
    """A handle of a kernel's supervisor for the worker; thread-safe.

    ``stopped`` is the process id of a kernel while it is stopped by a signal. Once the kernel has ended, ``took`` is
    the memory in bytes that it used if that exceeded the limit, and ``oom`` says whether the system ran out of memory.
    """

    def __init__(self, end: socket.socket, process: subprocess.Popen[bytes] | None = None) -> None:
        self.took = 0
        self.oom = False
        self.stopped: int | None = None
        self._number: int | None = None
        self._end = end
        self._process = process
        self._received = bytearray()
        self._exit_code: int | None = None
        self._lock = threading.Lock()

    def poll(self) -> int | None:
        """Return the kernel's exit code, negative for a signal, or None while it is alive."""
        with self._lock:
            while self._exit_code is None and readable(self._end, 0):
                self._receive()
            return self._exit_code

    @property
    def number(self) -> int | None:
        """Return the process id of the supervisor, None before it has told it."""
        self.poll()
        return self._number

    def wait(self, seconds: float) -> bool:
        """Wait until the kernel and its child processes have ended; return False on a timeout."""
        deadline = time.monotonic() + seconds
        while self.poll() is None:
            remaining = deadline - time.monotonic()
            if remaining <= 0:
                return False
            readable(self._end, remaining)
        return True

    def wait_for_start(self, seconds: float) -> bool:
        """Wait until the supervisor has started; return False if it fails or on a timeout."""
        deadline = time.monotonic() + seconds
        while STARTED not in self._received and self._exit_code is None:
            if not readable(self._end, max(0.0, deadline - time.monotonic())):
                return False
            with self._lock:
                self._receive()
        return STARTED in self._received

    def still_good(self) -> bool:
        """Return whether the kernel is alive and equivalent to one started now."""
        with self._lock:
            length = len(self._received)
            self.say(CHECK)
            while self._exit_code is None and readable(self._end, _ANSWER_SECONDS):
                self._receive()
                if len(self._received) > length:
                    return self._received.endswith(GOOD)
        return False

    def interrupt(self) -> None:
        """Interrupt what the kernel is doing, as Ctrl-C would."""
        self.say(INTERRUPT)

    def end(self) -> None:
        """Request the end of the kernel and its child processes, without waiting for it."""
        self.say(END)

    def say(self, command: bytes) -> None:
        """Send a command to the supervisor, if it is alive."""
        with contextlib.suppress(OSError):
            self._end.sendall(command)

    def kill(self) -> None:
        """Kill the supervisor, and the kernel with it: for a stopped one, which reads no commands."""
        with self._lock:
            # As long as its socket is open, the process id is its own.
            if self._exit_code is None and self._number is not None:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(self._number, signal.SIGKILL)

    def let_go(self) -> None:
        """Close the supervisor's socket, which ends the kernel if it is still alive."""
        if self.poll() is None:
            self.kill()
        with self._lock:
            if self._exit_code is None:
                self._exit_code = -signal.SIGKILL
            self._end.close()
        if self._process is not None:
            self._process.wait()

    def _receive(self) -> None:
        try:
            data = self._end.recv(4096)
        except ConnectionError:
            data = b""
        self._received += data
        for line in self._received[: self._received.rfind(b"\n") + 1].splitlines():
            self._take(bytes(line))
        _, there, last = self._received.rpartition(REPORT)
        if there and last.endswith(b"\n"):
            report = json.loads(last)
            self._exit_code, self.took, self.oom = report["status"], report["took"], report["oom"]
        elif not data:
            # A supervisor without a report was killed itself, and its kernel with it.
            self._exit_code = -signal.SIGKILL

    def _take(self, line: bytes) -> None:
        if line.startswith(SUPERVISOR):
            self._number = int(line.removeprefix(SUPERVISOR))
        elif line.startswith(STOPPED):
            self.stopped = int(line.removeprefix(STOPPED))
        elif line == CONTINUED.rstrip():
            self.stopped = None


def readable(end: socket.socket, seconds: float) -> bool:
    """Wait until a socket is readable or closed by its peer; return False on a timeout."""
    # Not select(), which is limited to the first thousand descriptors of a process.
    waiting = select.poll()
    waiting.register(end, select.POLLIN)
    return bool(waiting.poll(seconds * 1000))


def start(launch: LaunchRequest) -> SupervisorHandle:
    """Start a supervisor as a new process, which starts the kernel by its command."""
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
        "runtime": launch.runtime,
        "local": list(local),
    }
    return json.dumps(payload).encode() + b"\n"


def hand_over(zygote: socket.socket, log: IO[bytes]) -> SupervisorHandle:
    """Have a zygote fork a supervisor; :meth:`SupervisorHandle.wait_for_start` returns whether it did."""
    ours, its = socket.socketpair()
    try:
        with its:
            socket.send_fds(zygote, [b"k"], [its.fileno(), log.fileno()])
    except OSError:
        ours.close()
        raise
    return SupervisorHandle(ours)
