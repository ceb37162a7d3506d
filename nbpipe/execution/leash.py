"""The keeper of one kernel: a small process between worker and kernel that leaves nothing behind.

The worker runs this file as a script (``python -I -S leash.py DIRECTORY COMMAND…``) with a pipe as standard input.
The keeper starts the kernel in a session of its own and waits. It ends the kernel when the worker asks (SIGTERM) or is
gone, however it went (the pipe closes, the parent changes); SIGINT is handed on to the kernel's process group. When the
kernel has ended, everything it started is killed too: on Linux the keeper is the reaper of orphans, so that children
in sessions of their own do not escape. Then DIRECTORY is removed and the keeper ends exactly as the kernel did.

Why not PR_SET_PDEATHSIG alone: it follows the *thread* that started the process, it does not reach grandchildren, and
only Linux has it. Between the keeper, which has one thread, and the kernel it is right, and used.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import select
import shutil
import signal
import sys
import time

_PR_SET_PDEATHSIG = 1
_PR_SET_DUMPABLE = 4
_PR_SET_CHILD_SUBREAPER = 36
_LINUX = sys.platform == "linux"
_SWEEP_SECONDS = 5.0
_HEARTBEAT_SECONDS = 1.0


class Asked:
    """What signals have asked for since the last look."""

    def __init__(self) -> None:
        self.end = False
        self.interrupt = False
        self.wake, writer = os.pipe()
        os.set_blocking(self.wake, False)
        os.set_blocking(writer, False)
        signal.set_wakeup_fd(writer, warn_on_full_buffer=False)
        signal.signal(signal.SIGCHLD, lambda *_: None)
        signal.signal(signal.SIGINT, self._interrupt)
        signal.signal(signal.SIGTERM, self._end)
        signal.signal(signal.SIGHUP, self._end)

    def _interrupt(self, *_: object) -> None:
        self.interrupt = True

    def _end(self, *_: object) -> None:
        self.end = True


def _prctl(option: int, value: int) -> None:
    if _LINUX:
        ctypes.CDLL(None).prctl(option, value, 0, 0, 0)


def _start(command: list[str]) -> int:
    keeper = os.getpid()
    kernel = os.fork()
    if kernel:
        return kernel
    try:
        _become(command, keeper)
    except OSError as error:
        os.write(2, f"nbpipe: cannot start {command[0]}: {error.strerror}\n".encode())
    os._exit(127)


def _become(command: list[str], keeper: int) -> None:
    os.setsid()
    _prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != keeper:
        os._exit(127)
    signal.set_wakeup_fd(-1)
    signal.signal(signal.SIGPIPE, signal.SIG_DFL)  # Python ignores it, and what is ignored stays so in the kernel
    nothing = os.open(os.devnull, os.O_RDONLY)
    os.dup2(nothing, 0)
    # ipykernel watches the parent named here; it is the keeper, not the worker.
    os.execvpe(command[0], command, {**os.environ, "JPY_PARENT_PID": str(keeper)})  # noqa: S606  # a list, no shell


def _signal_group(kernel: int, number: int) -> None:
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(kernel, number)


def _ended(kernel: int) -> bool:
    """Say whether the kernel has ended, without taking its status: as a zombie it still holds its group's number."""
    return os.waitid(os.P_PID, kernel, os.WEXITED | os.WNOWAIT | os.WNOHANG) is not None


def _reap_others(kernel: int) -> None:
    """Take the status of adopted orphans that have ended, so that they do not pile up."""
    for child in _children():
        if child != kernel:
            with contextlib.suppress(ChildProcessError):
                os.waitpid(child, os.WNOHANG)


def _watch(kernel: int, asked: Asked, worker: int) -> None:
    while not _ended(kernel):
        ready, _, _ = select.select([0, asked.wake], [], [], _HEARTBEAT_SECONDS)
        if asked.wake in ready:
            os.read(asked.wake, 512)
            _reap_others(kernel)
        if (0 in ready and not os.read(0, 512)) or os.getppid() != worker:
            asked.end = True
        if asked.end:
            _signal_group(kernel, signal.SIGKILL)
            os.waitid(os.P_PID, kernel, os.WEXITED | os.WNOWAIT)
        elif asked.interrupt:
            asked.interrupt = False
            _signal_group(kernel, signal.SIGINT)


def _children() -> list[int]:
    """List this process's children; none where there is no ``/proc``."""
    found: list[int] = []
    me = os.getpid()
    for entry in os.scandir("/proc") if _LINUX else ():
        if entry.name.isdigit():
            path = f"/proc/{entry.name}/stat"
            with contextlib.suppress(OSError), os.fdopen(os.open(path, os.O_RDONLY), "rb") as stat:
                if int(stat.read().rpartition(b")")[2].split()[1]) == me:
                    found.append(int(entry.name))
    return found


def _sweep(kernel: int) -> int:
    """Kill what the kernel left and get the kernel's own status."""
    _signal_group(kernel, signal.SIGKILL)
    _, status = os.waitpid(kernel, 0)
    deadline = time.monotonic() + _SWEEP_SECONDS
    while time.monotonic() < deadline:
        for child in _children():
            with contextlib.suppress(ProcessLookupError):
                os.kill(child, signal.SIGKILL)
        try:
            while os.waitpid(-1, os.WNOHANG)[0]:
                continue
        except ChildProcessError:
            break
        time.sleep(0.002)
    return status


def _end_alike(status: int) -> None:
    """End this process the way the kernel ended."""
    if os.WIFSIGNALED(status):
        number = os.WTERMSIG(status)
        if number != signal.SIGKILL:
            _prctl(_PR_SET_DUMPABLE, 0)  # one core file, the kernel's, is enough
            signal.signal(number, signal.SIG_DFL)
        os.kill(os.getpid(), number)
    os._exit(os.waitstatus_to_exitcode(status))


def main(directory: str, command: list[str], worker: int) -> None:
    """Keep one kernel from its start to its end; does not return."""
    asked = Asked()
    _prctl(_PR_SET_CHILD_SUBREAPER, 1)
    kernel = _start(command)
    _watch(kernel, asked, worker)
    status = _sweep(kernel)
    shutil.rmtree(directory, ignore_errors=True)
    _end_alike(status)


if __name__ == "__main__":
    main(sys.argv[2], sys.argv[3:], int(sys.argv[1]))
