"""Kernels that belong to one attempt: started fast, reached through private sockets, gone when the attempt is.

Three things differ from jupyter_client's own manager. The channels are sockets in a fresh directory that only this
user can enter (TCP channels are plain text that any local user may read). The process is started under a keeper (see
:mod:`nbpipe.execution.leash`). And nobody waits for fixed delays: the manager waits until the kernel has bound its
sockets before it connects, and the client is ready when the kernel's first messages have come through.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from queue import Empty
from typing import Any

import zmq
import zmq.asyncio
from jupyter_client.asynchronous.client import AsyncKernelClient
from jupyter_client.connect import KernelConnectionInfo
from jupyter_client.kernelspec import KernelSpec
from jupyter_client.manager import AsyncKernelManager
from jupyter_client.provisioning.local_provisioner import LocalProvisioner
from traitlets import Type

from nbpipe.execution import leash

_POLL_SECONDS = 0.005
_END_SECONDS = 8.0
# A socket's path must fit in 107 bytes; ours add some 30 to the directory's.
_LONGEST_DIRECTORY = 70


class KernelGone(RuntimeError):
    """The kernel did not come up: ``exit_code`` is how it ended, None when it lives but does not answer."""

    def __init__(self, message: str, exit_code: int | None) -> None:
        super().__init__(message)
        self.exit_code = exit_code


class KeptProvisioner(LocalProvisioner):
    """Starts the kernel under its keeper; a signal goes to the keeper, which knows what to do with it."""

    keeper: subprocess.Popen[bytes] | None = None
    directory = ""
    log_path = Path(os.devnull)

    async def launch_kernel(self, cmd: list[str], **kwargs: Any) -> KernelConnectionInfo:
        """Start the kernel with exactly the environment and folder that are given."""
        self.keeper = self._start(cmd, kwargs["cwd"], kwargs["env"])
        self.process = self.keeper
        self.pid = self.pgid = self.keeper.pid
        self.cwd = kwargs["cwd"]
        return self.connection_info

    def _start(self, command: list[str], cwd: str, env: dict[str, str]) -> subprocess.Popen[bytes]:
        keeper = [sys.executable, "-I", "-S", leash.__file__, str(os.getpid()), self.directory]
        with self.log_path.open("wb") as log:
            return subprocess.Popen(
                [*keeper, *command],
                # Never written to: its closing tells the keeper that this process is gone.
                stdin=subprocess.PIPE,
                stdout=log,
                stderr=subprocess.STDOUT,
                cwd=cwd,
                env=env,
                start_new_session=True,
            )

    async def send_signal(self, signum: int) -> None:
        """Send a signal to the keeper."""
        if self.keeper is not None:
            self.keeper.send_signal(signum)

    async def kill(self, *_: object, **__: object) -> None:
        """Ask the keeper to end the kernel and everything it started."""
        await self.send_signal(signal.SIGTERM)

    async def wait(self) -> int | None:
        """Wait until the keeper has ended, and get how."""
        keeper, self.process = self.keeper, None
        if keeper is None:
            return None
        await until(lambda: keeper.poll() is not None)
        return keeper.returncode


class PromptClient(AsyncKernelClient):
    """A client that is ready as soon as the kernel is, without jupyter_client's fixed waits."""

    def _context_default(self) -> zmq.asyncio.Context:
        context = super()._context_default()
        # What the kernel prints must not be dropped while this side is busy.
        context.setsockopt(zmq.RCVHWM, 0)
        return context

    async def _async_wait_for_ready(self, timeout: float | None = None) -> None:  # noqa: ASYNC109  # upstream's name
        deadline = time.monotonic() + (timeout or 60)
        self.kernel_info()
        # Any message means that the subscription is through; ipykernel 7 sends a welcome for this purpose.
        while await _message(self.iopub_channel) is None:
            await self._check_starting(deadline)
            self.kernel_info()
        while True:
            reply = await _message(self.shell_channel)
            if reply is not None and reply["msg_type"] == "kernel_info_reply":
                self._handle_kernel_info_reply(reply)
                self.language_info = reply["content"].get("language_info", {})
                return
            await self._check_starting(deadline)

    wait_for_ready = _async_wait_for_ready

    async def _check_starting(self, deadline: float) -> None:
        if not await self._async_is_alive():
            exit_code = self.parent.exit_code if isinstance(self.parent, StepKernelManager) else None
            raise KernelGone("it ended while it was starting", exit_code)
        if time.monotonic() > deadline:
            raise KernelGone("it did not answer in time after its start", None)


async def until(condition: Callable[[], bool], pause: float = _POLL_SECONDS) -> None:
    """Return when a condition of another process holds, looking every ``pause`` seconds."""
    while not condition():  # noqa: ASYNC110  # other processes set no events
        await asyncio.sleep(pause)


async def _message(channel: Any) -> dict[str, Any] | None:
    """Get a channel's next message, or None when none comes for a while."""
    try:
        message: dict[str, Any] = await channel.get_msg(timeout=0.5)
    except Empty:
        return None
    return message


class StepKernelManager(AsyncKernelManager):
    """Manages one attempt's kernel; needs no installed kernelspec.

    ``command`` is the kernel's command line with ``{connection_file}`` in it; what the process writes outside of its
    cells goes to ``log_path``. Signals, ``end`` and ``exit_code`` may be used from any thread.
    """

    client_factory = Type(PromptClient, klass=AsyncKernelClient)

    def __init__(self, *, command: tuple[str, ...], log_path: Path, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.directory = private_directory()
        self.transport = "ipc"
        # Both absolute: the default is relative, and the kernel runs in another folder than its client.
        self.connection_file = f"{self.directory}/kernel.json"
        self.ip = f"{self.directory}/s"
        # Start-up files and settings of the author's own IPython are no part of the step.
        own = Path(self.directory, "ipython")
        own.mkdir()
        argv = [*command, f"--ipython-dir={own}"]
        self._kernel_spec = KernelSpec(argv=argv, display_name="nbpipe step", language="python")
        self._kept = KeptProvisioner(kernel_id="step", kernel_spec=self._kernel_spec, parent=self)
        self._kept.directory = self.directory
        self._kept.log_path = log_path
        self.provisioner = self._kept

    @property
    def ipykernel(self) -> bool:
        """Say that ipykernel's options may be passed: nbclient then keeps the history in memory."""
        return True

    @property
    def exit_code(self) -> int | None:
        """How the kernel ended: its exit code, minus a signal's number, or None while it lives or never started."""
        keeper = self._kept.keeper
        return None if keeper is None else keeper.poll()

    def interrupt(self) -> None:
        """Interrupt what the kernel is doing, as Ctrl-C would."""
        self._signal(signal.SIGINT)

    def kill(self) -> None:
        """Ask for the end of the kernel and of all that it started, without waiting for it."""
        self._signal(signal.SIGTERM)

    def end(self) -> None:
        """Return when the kernel and all that it started are gone and its sockets are removed."""
        keeper = self._kept.keeper
        if keeper is not None:
            self.kill()
            with contextlib.suppress(subprocess.TimeoutExpired):
                keeper.wait(_END_SECONDS)
            keeper.kill()
            keeper.wait()
            if keeper.stdin is not None:
                keeper.stdin.close()
        shutil.rmtree(self.directory, ignore_errors=True)

    def _signal(self, number: int) -> None:
        keeper = self._kept.keeper
        if keeper is not None:
            keeper.send_signal(number)

    async def _async_post_start_kernel(self, **kwargs: Any) -> None:
        # A client that connects before the kernel has bound waits a tenth of a second before it tries again.
        channels = [Path(f"{self.ip}-{port}") for port in (self.shell_port, self.iopub_port, self.control_port)]
        await until(lambda: all(channel.exists() for channel in channels) or self.exit_code is not None)
        await super()._async_post_start_kernel(**kwargs)

    post_start_kernel = _async_post_start_kernel

    async def _async_shutdown_kernel(self, *_: object, **__: object) -> None:
        await self._kept.kill()
        await self._kept.wait()
        await self._async_cleanup_resources()

    shutdown_kernel = _async_shutdown_kernel


def private_directory() -> str:
    """Make a folder that only this user can enter and whose path is short enough for a socket's."""
    here = tempfile.gettempdir()
    if len(os.fsencode(here)) > _LONGEST_DIRECTORY:
        here = "/tmp"  # noqa: S108  # the folder made in it is private
    return tempfile.mkdtemp(prefix=f"nbk{os.getpid()}-", dir=here)
