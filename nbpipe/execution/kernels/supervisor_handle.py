"""The worker's end of a leash: how a kernel's keeper is started, told what to do, and asked how it went."""

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
from nbpipe.execution.kernels import supervisor

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
    """A kernel's keeper, seen from the worker; all of it may be used from any thread.

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
        """Get how the kernel ended: its exit code, minus a signal's number, or None while it is there."""
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
        """Wait until the keeper is at work; False when there is none, or none in time."""
        deadline = time.monotonic() + seconds
        while supervisor.BEGUN not in self._told and self._exit_code is None:
            if not readable(self._end, max(0.0, deadline - time.monotonic())):
                return False
            with self._lock:
                self._hear()
        return supervisor.BEGUN in self._told

    def still_good(self) -> bool:
        """Say whether the kernel lives and is what one started now would be."""
        with self._lock:
            heard = len(self._told)
            self.say(supervisor.CHECK)
            while self._exit_code is None and readable(self._end, _ANSWER_SECONDS):
                self._hear()
                if len(self._told) > heard:
                    return self._told.endswith(supervisor.GOOD)
        return False

    def interrupt(self) -> None:
        """Interrupt what the kernel is doing, as Ctrl-C would."""
        self.say(supervisor.INTERRUPT)

    def end(self) -> None:
        """Ask for the end of the kernel and of all that it started, without waiting for it."""
        self.say(supervisor.END)

    def say(self, words: bytes) -> None:
        """Say something to the keeper; one that is gone hears nothing."""
        with contextlib.suppress(OSError):
            self._end.sendall(words)

    def kill(self) -> None:
        """Kill the keeper itself, which takes the kernel with it: for one that hears nothing because it was stopped."""
        with self._lock:
            # As long as it has not closed its end, the number is its own.
            if self._exit_code is None and self._number is not None:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(self._number, signal.SIGKILL)

    def let_go(self) -> None:
        """Let the leash go; the kernel is gone then, if nothing else has ended it."""
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
        _, there, last = self._told.rpartition(supervisor.REPORT)
        if there and last.endswith(b"\n"):
            report = json.loads(last)
            self._exit_code, self.took, self.oom = report["status"], report["took"], report["oom"]
        elif not words:
            # A keeper that tells nothing was killed itself, and its kernel with it.
            self._exit_code = -signal.SIGKILL

    def _take(self, line: bytes) -> None:
        if line.startswith(supervisor.KEEPER):
            self._number = int(line.removeprefix(supervisor.KEEPER))
        elif line.startswith(supervisor.STOPPED):
            self.stopped = int(line.removeprefix(supervisor.STOPPED))
        elif line == supervisor.CONTINUED.rstrip():
            self.stopped = None


def readable(end: socket.socket, seconds: float) -> bool:
    """Wait until a socket has something to tell, its other end's closing included; False when it has not in time."""
    # Not select(), which knows only the first thousand descriptors of a process.
    waiting = select.poll()
    waiting.register(end, select.POLLIN)
    return bool(waiting.poll(seconds * 1000))


def start(asked: LaunchRequest) -> SupervisorHandle:
    """Start a keeper as a process of its own, which starts the kernel by its command."""
    ours, its = socket.socketpair()
    keeper = [sys.executable, "-I", "-S", "-c", _ISOLATED, ROOT, asked.directory, str(asked.memory or 0)]
    try:
        with its:
            process = subprocess.Popen(
                [*keeper, *asked.command],
                stdin=its.fileno(),
                stdout=asked.log,
                stderr=subprocess.STDOUT,
                cwd=asked.cwd,
                env=dict(asked.env),
                start_new_session=True,
            )
    except OSError:
        ours.close()
        raise
    return SupervisorHandle(ours, process)


def request(asked: LaunchRequest, local: Iterable[str]) -> bytes:
    """Get what a keeper that a zygote forked reads from its leash; ``local`` names the author's own modules."""
    at = asked.command.index("-m")
    told = {
        "command": asked.command,
        "arguments": asked.command[at + 2 :],
        "env": dict(asked.env),
        "cwd": asked.cwd,
        "directory": asked.directory,
        "memory": asked.memory,
        "local": list(local),
    }
    return json.dumps(told).encode() + b"\n"


def hand_over(zygote: socket.socket, log: IO[bytes]) -> SupervisorHandle:
    """Have a zygote fork a keeper; whether it did is told by :meth:`SupervisorHandle.begun`."""
    ours, its = socket.socketpair()
    try:
        with its:
            socket.send_fds(zygote, [b"k"], [its.fileno(), log.fileno()])
    except OSError:
        ours.close()
        raise
    return SupervisorHandle(ours)
