"""The kernel of one attempt: started fast, reached through private sockets, and ended with the attempt.

Three things differ from jupyter_client's own manager. The channels are sockets in a fresh directory that only this user
can enter (TCP channels are plain text that any local user may read). The process is started under a supervisor (see
:mod:`nbpipe.execution.kernels.supervisor`). And there are no fixed delays: the manager connects when the kernel has
bound its sockets, and the client is ready when the kernel's first messages have arrived.
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
    """The requirements of a kernel: ``command`` contains ``{connection_file}``, ``env`` is the whole environment.

    ``memory`` is a limit in bytes including child processes, None for no limit. ``preload`` names what the run's steps
    import, ``local`` the author's own modules, which are never preloaded. ``runtime`` is the path and SHA-256 of the
    archive of what each step begins with, and ``ahead`` the code that a standby kernel runs in advance. ``by_message``
    says that it is interrupted by a message, and not by a signal.
    """

    command: tuple[str, ...]
    env: Mapping[str, str] = field(repr=False)
    cwd: str
    memory: int | None = None
    preload: tuple[str, ...] = ()
    local: frozenset[str] = frozenset()
    runtime: tuple[str, str] = ("", "")
    ahead: str = ""
    by_message: bool = False


class KernelStartError(RuntimeError):
    """The kernel did not start: ``exit_code`` is None if it is alive but does not answer."""

    def __init__(self, message: str, exit_code: int | None) -> None:
        super().__init__(message)
        self.exit_code = exit_code


class SupervisedProvisioner(LocalProvisioner):
    """Provisions a kernel under its supervisor, which receives its signals."""

    supervisor: SupervisorHandle | None = None

    async def launch_kernel(self, cmd: list[str], **_: Any) -> KernelConnectionInfo:  # noqa: ARG002  # it is known
        """Start the kernel, unless it was started in advance."""
        if isinstance(self.parent, StepKernelManager):
            self.parent.launch()
        self.process = self.supervisor  # type: ignore[assignment]  # implements what is used of a process
        return self.connection_info

    async def send_signal(self, signum: int) -> None:
        """Send a signal to the kernel, as a command to the supervisor."""
        if self.supervisor is not None:
            self.supervisor.say(INTERRUPT if signum == signal.SIGINT else END)

    async def kill(self, *_: object, **__: object) -> None:
        """Ask the supervisor to end the kernel and everything it started."""
        await self.send_signal(signal.SIGTERM)

    async def wait(self) -> int | None:
        """Wait until the supervisor has ended, and return the kernel's exit code."""
        supervisor, self.process = self.supervisor, None
        if supervisor is None:
            return None
        deadline = time.monotonic() + _END_SECONDS
        await until(lambda: supervisor.poll() is not None or time.monotonic() > deadline, _SHORT_SECONDS)
        return supervisor.poll()


class PromptClient(AsyncKernelClient):
    """A client that is ready as soon as the kernel is, without jupyter_client's fixed waits."""

    def _context_default(self) -> zmq.asyncio.Context:
        context = super()._context_default()
        # The kernel's output must not be dropped while this process is busy.
        context.setsockopt(zmq.RCVHWM, 0)
        return context

    def start_channels(self, *_: bool, **__: bool) -> None:
        """Open the channels for running cells; the others are not needed, as the supervisor watches the kernel."""
        super().start_channels(stdin=False, hb=False, control=False)

    def stop_channels(self) -> None:
        """Close the open channels; upstream would open the others first."""
        for channel in (self._shell_channel, self._iopub_channel):
            if channel is not None and channel.is_alive():
                channel.stop()
        if self._created_context and not self.context.closed:
            self.context.destroy(linger=100)

    async def _async_wait_for_ready(self, timeout: float | None = None) -> None:  # noqa: ASYNC109  # upstream's name
        deadline = time.monotonic() + (timeout or 60)
        self.kernel_info()
        # Any message means that the subscription is active; ipykernel 7 sends a welcome for this purpose.
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
    """Wait until a condition holds, polling every ``pause`` seconds."""
    while not condition():  # noqa: ASYNC110  # other processes set no events
        await asyncio.sleep(pause)


async def _message(channel: Any) -> dict[str, Any] | None:
    """Return a channel's next message, or None if none arrives in time."""
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
        self.log_file: IO[bytes] = tempfile.TemporaryFile()  # noqa: SIM115  # it is closed at the kernel's end
        self.transport = "ipc"
        # Absolute: the defaults are relative, and the kernel runs in another folder than its client.
        self.connection_file = f"{self.directory}/kernel.json"
        self.ip = f"{self.directory}/s"
        # The start-up files, settings and history of the author's own IPython are not part of the step.
        settings = Path(self.directory, "ipython")
        settings.mkdir()
        argv = [*spec.command, f"--ipython-dir={settings}", "--HistoryManager.hist_file=:memory:"]
        self._kernel_spec = KernelSpec(argv=argv, display_name="nbpipe step", language="python")
        self._supervised = SupervisedProvisioner(kernel_id="step", kernel_spec=self._kernel_spec, parent=self)
        self.provisioner = self._supervised

    def launch(self) -> None:
        """Start the kernel's process, unless it was started already."""
        if self._supervised.supervisor is None:
            self.write_connection_file()
            command, spec = tuple(self.format_kernel_cmd()), self.spec
            start = supervisor_handle.LaunchRequest(
                command, spec.env, spec.cwd, self.directory, self.log_file, spec.memory, spec.runtime
            )
            self._supervised.supervisor = zygote_pool.HERE.start(start, spec.preload, spec.local)

    def warm_up(self) -> None:
        """Run the spec's ``ahead`` code in the kernel; return when it has run, the kernel has ended, or time is up."""
        channel, deadline = Path(f"{self.ip}-{self.shell_port}"), time.monotonic() + _WARM_SECONDS
        while not channel.exists():
            if self.exit_code is not None or time.monotonic() > deadline:
                return
            time.sleep(_POLL_SECONDS)
        content = {"code": self.spec.ahead, "silent": True, "store_history": False, "allow_stdin": False}
        with zmq.Context() as context, context.socket(zmq.DEALER) as shell:
            shell.linger = 0
            shell.connect(f"ipc://{channel}")
            self.session.clone().send(shell, "execute_request", content)
            while self.exit_code is None and time.monotonic() < deadline and not shell.poll(_LOOK_MILLISECONDS):
                continue

    def still_good(self) -> bool:
        """Return whether a kernel that was started in advance is equivalent to one started now."""
        # Only a forked kernel can be: what another one has loaded is unknown.
        self.known_to_be_forked = self._supervised.supervisor is not None and self._supervised.supervisor.still_good()
        return self.known_to_be_forked

    @property
    def exit_code(self) -> int | None:
        """Return the kernel's exit code, negative for a signal, or None while it is alive or not started."""
        supervisor = self._supervised.supervisor
        return None if supervisor is None else supervisor.poll()

    @property
    def supervisor_number(self) -> int | None:
        """Return the process id of the supervisor, which ends last; None before the kernel has started."""
        supervisor = self._supervised.supervisor
        return None if supervisor is None else supervisor.number

    @property
    def took(self) -> int:
        """Return the memory in bytes of the kernel and its children if it exceeded the limit, else 0."""
        supervisor = self._supervised.supervisor
        return 0 if supervisor is None else supervisor.took

    @property
    def oom(self) -> bool:
        """Return whether the system killed the kernel for lack of memory."""
        supervisor = self._supervised.supervisor
        return supervisor is not None and supervisor.oom

    def interrupt(self) -> None:
        """Interrupt what the kernel is doing, as Ctrl-C would, or as its kernelspec asks for."""
        if self._supervised.supervisor is None:
            return
        if not self.spec.by_message:
            self._supervised.supervisor.interrupt()
            return
        with zmq.Context() as context, context.socket(zmq.DEALER) as control:
            control.linger = _LOOK_MILLISECONDS
            control.connect(f"ipc://{self.ip}-{self.control_port}")
            self.session.clone().send(control, "interrupt_request", {})

    @property
    def stopped(self) -> int | None:
        """Return the process id of the kernel while it is stopped by a signal, else None."""
        supervisor = self._supervised.supervisor
        return None if supervisor is None else supervisor.stopped

    def kill(self) -> None:
        """End the kernel and its child processes, and wait for that, up to a limit."""
        supervisor = self._supervised.supervisor
        if supervisor is not None:
            supervisor.end()
            if not supervisor.wait(_END_SECONDS):
                supervisor.kill()

    def end(self) -> None:
        """End the kernel and its child processes, wait for that, and remove its sockets."""
        supervisor = self._supervised.supervisor
        if supervisor is not None:
            supervisor.end()
            supervisor.wait(_END_SECONDS)
            supervisor.let_go()
        private_directory.remove(self.directory)

    def log_tail(self) -> bytes:
        """Return the end of what the process wrote outside of its cells, and delete it."""
        with self.log_file as log:
            log.seek(max(0, log.seek(0, os.SEEK_END) - _LOG_BYTES))
            return log.read()

    async def _async_start_kernel(self, **kw: Any) -> None:
        # Upstream's version sleeps a hundredth of a second at its end.
        command, kw = await self._async_pre_start_kernel(**kw)
        await self._async_launch_kernel(command, **kw)
        await self._async_post_start_kernel(**kw)

    start_kernel = _async_start_kernel

    def _connect_control_socket(self) -> None:
        """Do nothing: commands go to the supervisor instead."""

    async def _async_post_start_kernel(self, **kwargs: Any) -> None:
        # A client that connects before the kernel has bound its sockets retries only after a tenth of a second.
        channels = [Path(f"{self.ip}-{port}") for port in (self.shell_port, self.iopub_port, self.control_port)]
        await until(lambda: all(channel.exists() for channel in channels) or self.exit_code is not None)
        await super()._async_post_start_kernel(**kwargs)

    post_start_kernel = _async_post_start_kernel

    async def _async_shutdown_kernel(self, *_: object, **__: object) -> None:
        await self._supervised.kill()
        await self._supervised.wait()
        await self._async_cleanup_resources()

    shutdown_kernel = _async_shutdown_kernel
