"""The supervisor of one kernel: a small process between worker and kernel that cleans up after it.

The supervisor's standard input is its socket to the worker. The worker starts a supervisor as a
process of its own (:func:`main`) or has a zygote fork one (see :mod:`nbpipe.execution.kernels.zygote`); either way the
supervisor forks the kernel into a separate session and waits. It ends the kernel when the worker requests it or ends,
for whatever reason (the socket closes); an interrupt is forwarded to the kernel's process group. When the
kernel has ended, its child processes are killed too: on Linux the supervisor is the reaper of orphans, so that
children in sessions of their own do not escape. Then the kernel's private directory is removed, the worker
gets the kernel's exit status, and the supervisor ends the same way.

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
# The worker's commands, and the supervisor's messages.
INTERRUPT = b"i"
END = b"e"
CHECK = b"c"
SUPERVISOR = b"supervisor "
STARTED = b"begun\n"
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
    """Pending requests from the socket and from signals."""

    end: bool = False
    interrupt: bool = False
    check: bool = False
    wake: int = -1
    _waker: int = -1

    def listen(self) -> None:
        """Handle signals, and wake up when a child ends."""
        self.wake, self._waker = os.pipe()
        os.set_blocking(self.wake, False)
        os.set_blocking(self._waker, False)
        signal.set_wakeup_fd(self._waker, warn_on_full_buffer=False)
        signal.signal(signal.SIGCHLD, lambda *_: None)
        signal.signal(signal.SIGINT, self._interrupt)
        signal.signal(signal.SIGTERM, self._end)
        signal.signal(signal.SIGHUP, self._end)

    def stop_listening(self) -> None:
        """Restore the default signal handling in a forked process."""
        signal.set_wakeup_fd(-1)
        for number in (signal.SIGCHLD, signal.SIGTERM, signal.SIGHUP):
            signal.signal(number, signal.SIG_DFL)
        signal.signal(signal.SIGINT, signal.default_int_handler)
        os.close(self.wake)
        os.close(self._waker)

    @property
    def anything(self) -> bool:
        """Return whether any request is pending."""
        return self.end or self.interrupt or self.check

    def receive(self, message: bytes | bytearray) -> None:
        """Handle a message from the socket; an empty one means that the worker has ended."""
        self.end = self.end or not message or END in message
        self.interrupt = self.interrupt or INTERRUPT in message
        self.check = self.check or CHECK in message

    def _interrupt(self, *_: object) -> None:
        self.interrupt = True

    def _end(self, *_: object) -> None:
        self.end = True


def _prctl(option: int, value: int) -> None:
    if _LINUX:
        ctypes.CDLL(None).prctl(option, value, 0, 0, 0)


def fork_kernel() -> int:
    """Make this process a supervisor and fork; return the kernel's process id, or 0 in the kernel."""
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
    """Replace this process by the kernel that the command starts."""
    # Python ignores it, and the kernel would inherit that.
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
    """Return whether the kernel has ended, without reaping it: a zombie still reserves its process group id."""
    return os.waitid(os.P_PID, kernel, os.WEXITED | os.WNOWAIT | os.WNOHANG) is not None


def _reap_others(kernel: int) -> None:
    """Reap adopted orphans that have ended."""
    for child in process_memory.children(os.getpid()):
        if child != kernel:
            with contextlib.suppress(ChildProcessError):
                os.waitpid(child, os.WNOHANG)


def announce() -> None:
    """Send the worker this supervisor's process id."""
    os.write(SOCKET, SUPERVISOR + f"{os.getpid()}\n".encode() + STARTED)


@dataclass(slots=True)
class KernelStateWatch:
    """The kernel's activity, checked every second and after changes."""

    kernel: int
    _stopped: bool = False
    _looked: float = 0.0

    def check(self, *, changed: bool) -> None:
        """Tell the worker if the kernel was stopped or continued; kill it if its main thread has ended."""
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
    pulse = KernelStateWatch(kernel)
    while not _ended(kernel):
        pause = 0.0 if requests.anything else _HEARTBEAT_SECONDS if gauge is None else gauge.pause
        ready, _, _ = select.select([SOCKET, requests.wake], [], [], pause)
        if requests.wake in ready:
            os.read(requests.wake, 512)
            _reap_others(kernel)
        if SOCKET in ready:
            requests.receive(_receive())
        pulse.check(changed=requests.wake in ready)
        if requests.check:
            requests.check = False
            _tell(GOOD if good() else OUTDATED)
        if requests.end or (gauge is not None and gauge.exceeded()):
            _signal_group(kernel, signal.SIGKILL)
            os.waitid(os.P_PID, kernel, os.WEXITED | os.WNOWAIT)
        elif requests.interrupt:
            requests.interrupt = False
            _signal_group(kernel, signal.SIGINT)


def _receive() -> bytes:
    try:
        return os.read(SOCKET, 512)
    except ConnectionError:
        return b""


def _tell(message: bytes) -> None:
    with contextlib.suppress(OSError):
        os.write(SOCKET, message)


def _sweep(kernel: int) -> int:
    """Kill the processes that the kernel left, and return the kernel's status."""
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
    """Supervise a kernel to its end; ``memory`` is its limit in bytes, child processes included.

    ``good`` says whether a kernel that was started in advance is equivalent to one started now.
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
    """Start and supervise one kernel; the arguments are DIRECTORY, MEMORY (0: no limit) and its command."""
    directory, memory, command = sys.argv[1], int(sys.argv[2]), sys.argv[3:]
    requests = SupervisorRequests()
    requests.listen()
    announce()
    kernel = fork_kernel()
    if kernel == 0:
        requests.stop_listening()
        process_memory.restrain(memory)
        execute(command, dict(os.environ))
    # The files that it has loaded are unknown.
    supervise(kernel, requests, directory, memory, lambda: False)
