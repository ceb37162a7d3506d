"""The supervisor of one kernel: a small process between worker and kernel that leaves nothing behind.

The supervisor's standard input is its socket to the worker. The worker starts a supervisor as a
process of its own (:func:`main`) or has a zygote fork one (see :mod:`nbpipe.execution.kernels.zygote`); either way the
supervisor forks the kernel into a session of its own and waits. It ends the kernel when the worker asks or is gone,
however it went (the socket closes); an interrupt is handed on to the kernel's process group. When the
kernel has ended, everything it started is killed too: on Linux the supervisor is the reaper of orphans, so that
children in sessions of their own do not escape. Then the kernel's private directory is removed, the worker
is told how the kernel ended, and the supervisor ends the same way.

Why not PR_SET_PDEATHSIG alone: it follows the *thread* that started the process, it does not reach grandchildren, and
only Linux has it. Between the supervisor, which has one thread, and the kernel it is right, and used.
"""

from __future__ import annotations

import contextlib
import ctypes
import json
import os
import select
import shutil
import signal
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import NoReturn

from nbpipe.execution.kernels import process_memory

SOCKET = 0
# What the worker may say, and what it is told.
INTERRUPT = b"i"
END = b"e"
CHECK = b"c"
SUPERVISOR = b"supervisor "
BEGUN = b"begun\n"
STOPPED = b"stopped "
CONTINUED = b"continued\n"
GOOD = b"good\n"
OUTDATED = b"outdated\n"
REPORT = b"ended "

_PR_SET_PDEATHSIG = 1
_PR_SET_DUMPABLE = 4
_PR_SET_CHILD_SUBREAPER = 36
_LINUX = sys.platform == "linux"
_SWEEP_SECONDS = 5.0
_HEARTBEAT_SECONDS = 1.0


@dataclass(slots=True)
class SupervisorRequests:
    """What the socket and signals have asked for; a kernel that is to end has no use for an interrupt."""

    end: bool = False
    interrupt: bool = False
    check: bool = False
    wake: int = -1
    _waker: int = -1

    def listen(self) -> None:
        """Begin to hear the signals that may come, and children that end."""
        self.wake, self._waker = os.pipe()
        os.set_blocking(self.wake, False)
        os.set_blocking(self._waker, False)
        signal.set_wakeup_fd(self._waker, warn_on_full_buffer=False)
        signal.signal(signal.SIGCHLD, lambda *_: None)
        signal.signal(signal.SIGINT, self._interrupt)
        signal.signal(signal.SIGTERM, self._end)
        signal.signal(signal.SIGHUP, self._end)

    def deafen(self) -> None:
        """Hear nothing any more, in a forked process that shall be as if nobody had listened."""
        signal.set_wakeup_fd(-1)
        for number in (signal.SIGCHLD, signal.SIGTERM, signal.SIGHUP):
            signal.signal(number, signal.SIG_DFL)
        signal.signal(signal.SIGINT, signal.default_int_handler)
        os.close(self.wake)
        os.close(self._waker)

    @property
    def anything(self) -> bool:
        """Return whether something was asked for that is still to be done."""
        return self.end or self.interrupt or self.check

    def hear(self, words: bytes | bytearray) -> None:
        """Take what came over the socket; nothing at all means that the worker is gone."""
        self.end = self.end or not words or END in words
        self.interrupt = self.interrupt or INTERRUPT in words
        self.check = self.check or CHECK in words

    def _interrupt(self, *_: object) -> None:
        self.interrupt = True

    def _end(self, *_: object) -> None:
        self.end = True


def _prctl(option: int, value: int) -> None:
    if _LINUX:
        ctypes.CDLL(None).prctl(option, value, 0, 0, 0)


def fork_kernel() -> int:
    """Make this process a supervisor and fork; return the kernel's number, or 0 in the kernel, which is still bare."""
    _prctl(_PR_SET_CHILD_SUBREAPER, 1)
    supervisor_pid = os.getpid()
    kernel = os.fork()
    if kernel == 0:
        os.setsid()
        _prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
        if os.getppid() != supervisor_pid:
            os._exit(127)
        process_memory.offer()
        nothing = os.open(os.devnull, os.O_RDONLY)
        os.dup2(nothing, 0)
        os.close(nothing)
    return kernel


def execute(command: list[str], env: dict[str, str]) -> NoReturn:
    """Become the kernel that a command starts."""
    # Python ignores it, and what is ignored stays so in the kernel.
    signal.signal(signal.SIGPIPE, signal.SIG_DFL)
    try:
        # ipykernel watches the parent named here; it is the supervisor, not the worker.
        os.execvpe(command[0], command, {**env, "JPY_PARENT_PID": str(os.getppid())})  # noqa: S606  # a list, no shell
    except OSError as error:
        os.write(2, f"nbpipe: cannot start {command[0]}: {error.strerror}\n".encode())
    os._exit(127)


def _signal_group(kernel: int, number: int) -> None:
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(kernel, number)


def _ended(kernel: int) -> bool:
    """Return whether the kernel has ended, without taking its status: as a zombie it still holds its group's number."""
    return os.waitid(os.P_PID, kernel, os.WEXITED | os.WNOWAIT | os.WNOHANG) is not None


def _reap_others(kernel: int) -> None:
    """Take the status of adopted orphans that have ended, so that they do not pile up."""
    for child in process_memory.children(os.getpid()):
        if child != kernel:
            with contextlib.suppress(ChildProcessError):
                os.waitpid(child, os.WNOHANG)


def announce() -> None:
    """Tell the worker which process keeps its kernel."""
    os.write(SOCKET, SUPERVISOR + f"{os.getpid()}\n".encode() + BEGUN)


@dataclass(slots=True)
class KernelActivity:
    """What the kernel is doing, looked at each second and when it has changed."""

    kernel: int
    _stopped: bool = False
    _looked: float = 0.0

    def feel(self, *, changed: bool) -> None:
        """Tell the worker when the kernel was stopped or goes on; end one of which nothing but threads is left."""
        now = time.monotonic()
        if not changed and now < self._looked + _HEARTBEAT_SECONDS:
            return
        self._looked = now
        state = process_memory.state(self.kernel)
        if (state == "T") != self._stopped:
            self._stopped = state == "T"
            _tell(STOPPED + f"{self.kernel}\n".encode() if self._stopped else CONTINUED)
        if state == "Z" and not _ended(self.kernel):
            os.write(2, b"nbpipe: the kernel's main thread has ended, and without it no kernel answers\n")
            _signal_group(self.kernel, signal.SIGKILL)


def _watch(
    kernel: int, requests: SupervisorRequests, gauge: process_memory.MemoryWatch | None, good: Callable[[], bool]
) -> None:
    pulse = KernelActivity(kernel)
    while not _ended(kernel):
        pause = 0.0 if requests.anything else _HEARTBEAT_SECONDS if gauge is None else gauge.pause
        ready, _, _ = select.select([SOCKET, requests.wake], [], [], pause)
        if requests.wake in ready:
            os.read(requests.wake, 512)
            _reap_others(kernel)
        if SOCKET in ready:
            requests.hear(_heard())
        pulse.feel(changed=requests.wake in ready)
        if requests.check:
            requests.check = False
            _tell(GOOD if good() else OUTDATED)
        if requests.end or (gauge is not None and gauge.exceeded()):
            _signal_group(kernel, signal.SIGKILL)
            os.waitid(os.P_PID, kernel, os.WEXITED | os.WNOWAIT)
        elif requests.interrupt:
            requests.interrupt = False
            _signal_group(kernel, signal.SIGINT)


def _heard() -> bytes:
    try:
        return os.read(SOCKET, 512)
    except ConnectionError:
        return b""


def _tell(words: bytes) -> None:
    with contextlib.suppress(OSError):
        os.write(SOCKET, words)


def _sweep(kernel: int) -> int:
    """Kill what the kernel left and get the kernel's own status."""
    _signal_group(kernel, signal.SIGKILL)
    _, status = os.waitpid(kernel, 0)
    deadline = time.monotonic() + _SWEEP_SECONDS
    while time.monotonic() < deadline:
        for child in process_memory.children(os.getpid()):
            with contextlib.suppress(ProcessLookupError):
                os.kill(child, signal.SIGKILL)
        try:
            while os.waitpid(-1, os.WNOHANG)[0]:
                continue
        except ChildProcessError:
            break
        time.sleep(0.002)
    return status


def _end_alike(status: int) -> NoReturn:
    """End this process the way the kernel ended."""
    if os.WIFSIGNALED(status):
        number = os.WTERMSIG(status)
        if number != signal.SIGKILL:
            _prctl(_PR_SET_DUMPABLE, 0)  # one core file, the kernel's, is enough
            signal.signal(number, signal.SIG_DFL)
        os.kill(os.getpid(), number)
    os._exit(os.waitstatus_to_exitcode(status))


def supervise(
    kernel: int, requests: SupervisorRequests, directory: str, memory: int | None, good: Callable[[], bool]
) -> NoReturn:
    """Keep a kernel to its end; ``memory`` is how many bytes it and all that it starts may take.

    ``good`` says whether a kernel that was started ahead is what one started now would be.
    """
    gauge = process_memory.MemoryWatch(os.getpid(), memory) if memory and _LINUX else None
    before = process_memory.oom_kills()
    _watch(kernel, requests, gauge, good)
    status = _sweep(kernel)
    shutil.rmtree(directory, ignore_errors=True)
    oom = os.WIFSIGNALED(status) and os.WTERMSIG(status) == signal.SIGKILL and process_memory.oom_kills() > before
    result = {
        "status": os.waitstatus_to_exitcode(status),
        "took": gauge.took if gauge else 0,
        "oom": oom and not requests.end,
    }
    _tell(REPORT + json.dumps(result).encode() + b"\n")
    _end_alike(status)


def main() -> None:
    """Keep one kernel from its start to its end: the arguments are DIRECTORY, MEMORY (0: any) and its command."""
    directory, memory, command = sys.argv[1], int(sys.argv[2]), sys.argv[3:]
    requests = SupervisorRequests()
    requests.listen()
    announce()
    kernel = fork_kernel()
    if kernel == 0:
        requests.deafen()
        process_memory.restrain(memory)
        execute(command, dict(os.environ))
    # Which files it has loaded, nobody knows.
    supervise(kernel, requests, directory, memory, lambda: False)
