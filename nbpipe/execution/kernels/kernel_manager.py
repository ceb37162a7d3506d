"""Kernels that belong to one attempt: started fast, reached through private sockets, gone when the attempt is.

Three things differ from jupyter_client's own manager. The channels are sockets in a fresh directory that only this user
can enter (TCP channels are plain text that any local user may read). The process is started under a supervisor (see
:mod:`nbpipe.execution.kernels.supervisor`). And nobody waits for fixed delays: the manager waits until the kernel has
bound its sockets before it connects, and the client is ready when the kernel's first messages have come through.
"""

from __future__ import annotations

import asyncio
import os
import signal
import tempfile
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from queue import Empty
from typing import IO, Any

import zmq
import zmq.asyncio
from jupyter_client.asynchronous.client import AsyncKernelClient
from jupyter_client.connect import KernelConnectionInfo
from jupyter_client.kernelspec import KernelSpec
from jupyter_client.manager import AsyncKernelManager
from jupyter_client.provisioning.local_provisioner import LocalProvisioner
from traitlets import Type

from nbpipe.data import private_directory
from nbpipe.execution.kernels import supervisor_handle, zygote_pool
from nbpipe.execution.kernels.supervisor import END, INTERRUPT
from nbpipe.execution.kernels.supervisor_handle import SupervisorHandle

_POLL_SECONDS = 0.005
_SHORT_SECONDS = 0.001
_END_SECONDS = 8.0
_WARM_SECONDS = 20.0
_LOOK_MILLISECONDS = 500
_LOG_BYTES = 100_000


@dataclass(frozen=True, slots=True)
class StepKernelSpec:
    """What a step asks of its kernel: ``command`` has ``{connection_file}`` in it, ``env`` is the whole environment.

    ``memory`` is a limit in bytes for all that it starts, None for any. ``preload`` names what the run's steps import,
    ``local`` the author's own modules, which are never loaded ahead. ``ahead`` is what a kernel that is started before
    it is needed runs then: what each step begins with.
    """

    command: tuple[str, ...]
    env: Mapping[str, str] = field(repr=False)
    cwd: str
    memory: int | None = None
    preload: tuple[str, ...] = ()
    local: frozenset[str] = frozenset()
    ahead: str = ""


class KernelStartError(RuntimeError):
    """The kernel did not come up: ``exit_code`` is how it ended, None when it lives but does not answer."""

    def __init__(self, message: str, exit_code: int | None) -> None:
        super().__init__(message)
        self.exit_code = exit_code


class SupervisedProvisioner(LocalProvisioner):
    """Stands for the kernel under its supervisor; a signal goes to the supervisor, which knows what to do with it."""

    supervisor: SupervisorHandle | None = None

    async def launch_kernel(self, cmd: list[str], **_: Any) -> KernelConnectionInfo:  # noqa: ARG002  # it is known
        """Start the kernel, unless that was done ahead."""
        if isinstance(self.parent, StepKernelManager):
            self.parent.launch()
        self.process = self.supervisor  # type: ignore[assignment]  # as much of a process as is asked of it
        return self.connection_info

    async def send_signal(self, signum: int) -> None:
        """Send a signal to the kernel; the supervisor has a word for each that is meant here."""
        if self.supervisor is not None:
            self.supervisor.say(INTERRUPT if signum == signal.SIGINT else END)

    async def kill(self, *_: object, **__: object) -> None:
        """Ask the supervisor to end the kernel and everything it started."""
        await self.send_signal(signal.SIGTERM)

    async def wait(self) -> int | None:
        """Wait until the supervisor has ended, and get how the kernel did."""
        supervisor, self.process = self.supervisor, None
        if supervisor is None:
            return None
        ends = time.monotonic() + _END_SECONDS
        await until(lambda: supervisor.poll() is not None or time.monotonic() > ends, _SHORT_SECONDS)
        return supervisor.poll()


class PromptClient(AsyncKernelClient):
    """A client that is ready as soon as the kernel is, without jupyter_client's fixed waits."""

    def _context_default(self) -> zmq.asyncio.Context:
        context = super()._context_default()
        # What the kernel prints must not be dropped while this side is busy.
        context.setsockopt(zmq.RCVHWM, 0)
        return context

    def start_channels(self, *_: bool, **__: bool) -> None:
        """Open the channels that cells are run through; no others are needed, as the supervisor watches the kernel."""
        super().start_channels(stdin=False, hb=False, control=False)

    def stop_channels(self) -> None:
        """Close what was opened; upstream would open the others first."""
        for channel in (self._shell_channel, self._iopub_channel):
            if channel is not None and channel.is_alive():
                channel.stop()
        if self._created_context and not self.context.closed:
            self.context.destroy(linger=100)

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
            raise KernelStartError("it ended while it was starting", exit_code)
        if time.monotonic() > deadline:
            raise KernelStartError("it did not answer in time after its start", None)


async def until(condition: Callable[[], bool], pause: float = _POLL_SECONDS) -> None:
    """Return when a condition of another process holds, looking every ``pause`` seconds."""
    while not condition():  # noqa: ASYNC110  # other processes set no events
        await asyncio.sleep(pause)


async def _message(channel: Any) -> dict[str, Any] | None:
    """Return a channel's next message, or None when none comes for a while."""
    try:
        message: dict[str, Any] = await channel.get_msg(timeout=0.5)
    except Empty:
        return None
    return message


class StepKernelManager(AsyncKernelManager):
    """Manages one attempt's kernel; needs no installed kernelspec.

    Signals, ``end`` and ``exit_code`` may be used from any thread.
    """

    client_factory = Type(PromptClient, klass=AsyncKernelClient)

    def __init__(self, spec: StepKernelSpec, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.spec = spec
        self.known_to_be_forked = False
        self.directory = private_directory.make_for_sockets()
        self.written: IO[bytes] = tempfile.TemporaryFile()  # noqa: SIM115  # it is closed at the kernel's end
        self.transport = "ipc"
        # Both absolute: the default is relative, and the kernel runs in another folder than its client.
        self.connection_file = f"{self.directory}/kernel.json"
        self.ip = f"{self.directory}/s"
        # Start-up files, settings and history of the author's own IPython are no part of the step.
        settings = Path(self.directory, "ipython")
        settings.mkdir()
        argv = [*spec.command, f"--ipython-dir={settings}", "--HistoryManager.hist_file=:memory:"]
        self._kernel_spec = KernelSpec(argv=argv, display_name="nbpipe step", language="python")
        self._kept = SupervisedProvisioner(kernel_id="step", kernel_spec=self._kernel_spec, parent=self)
        self.provisioner = self._kept

    def launch(self) -> None:
        """Start the kernel's process, unless it was started before."""
        if self._kept.supervisor is None:
            self.write_connection_file()
            command, spec = tuple(self.format_kernel_cmd()), self.spec
            start = supervisor_handle.LaunchRequest(
                command, spec.env, spec.cwd, self.directory, self.written, spec.memory
            )
            self._kept.supervisor = zygote_pool.HERE.start(start, spec.preload, spec.local)

    def warm_up(self) -> None:
        """Have the kernel run what its spec tells to run ahead; returns when it has, or ended, or takes too long."""
        channel, ends = Path(f"{self.ip}-{self.shell_port}"), time.monotonic() + _WARM_SECONDS
        while not channel.exists():
            if self.exit_code is not None or time.monotonic() > ends:
                return
            time.sleep(_POLL_SECONDS)
        content = {"code": self.spec.ahead, "silent": True, "store_history": False, "allow_stdin": False}
        with zmq.Context() as context, context.socket(zmq.DEALER) as shell:
            shell.linger = 0
            shell.connect(f"ipc://{channel}")
            self.session.clone().send(shell, "execute_request", content)
            while self.exit_code is None and time.monotonic() < ends and not shell.poll(_LOOK_MILLISECONDS):
                continue

    def still_good(self) -> bool:
        """Return whether a kernel that was started ahead is what one started now would be."""
        # Only a forked kernel can be: of another one nobody knows what it has loaded.
        self.known_to_be_forked = self._kept.supervisor is not None and self._kept.supervisor.still_good()
        return self.known_to_be_forked

    @property
    def exit_code(self) -> int | None:
        """How the kernel ended: its exit code, minus a signal's number, or None while it lives or never started."""
        supervisor = self._kept.supervisor
        return None if supervisor is None else supervisor.poll()

    @property
    def took(self) -> int:
        """How many bytes the kernel and what it started took when that was too much; 0 when it never was."""
        supervisor = self._kept.supervisor
        return 0 if supervisor is None else supervisor.took

    @property
    def oom(self) -> bool:
        """Whether the system ended the kernel because it had no memory left."""
        supervisor = self._kept.supervisor
        return supervisor is not None and supervisor.oom

    def interrupt(self) -> None:
        """Interrupt what the kernel is doing, as Ctrl-C would."""
        if self._kept.supervisor is not None:
            self._kept.supervisor.interrupt()

    @property
    def stopped(self) -> int | None:
        """The number of the kernel's process while it is stopped, by a signal that somebody sent it; else None."""
        supervisor = self._kept.supervisor
        return None if supervisor is None else supervisor.stopped

    def kill(self) -> None:
        """End the kernel and all that it started; returns when that is done, or known to be under way."""
        supervisor = self._kept.supervisor
        if supervisor is not None:
            supervisor.end()
            if not supervisor.wait(_END_SECONDS):
                supervisor.kill()

    def end(self) -> None:
        """Return when the kernel and all that it started are gone and its sockets are removed."""
        supervisor = self._kept.supervisor
        if supervisor is not None:
            supervisor.end()
            supervisor.wait(_END_SECONDS)
            supervisor.let_go()
        private_directory.remove(self.directory)

    def log_tail(self) -> bytes:
        """Return the end of what the process wrote outside of its cells, and forget it."""
        with self.written as log:
            log.seek(max(0, log.seek(0, os.SEEK_END) - _LOG_BYTES))
            return log.read()

    async def _async_start_kernel(self, **kw: Any) -> None:
        # Upstream's own waits a hundredth of a second at its end, for its tests.
        command, kw = await self._async_pre_start_kernel(**kw)
        await self._async_launch_kernel(command, **kw)
        await self._async_post_start_kernel(**kw)

    start_kernel = _async_start_kernel

    def _connect_control_socket(self) -> None:
        """Open nothing: what upstream says through it is the supervisor's to hear."""

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
