"""A kernel as Jupyter starts it, but for its sockets: they lie in a folder of their own.

TCP ports are picked ahead and let go; while tests start clusters and kernels side by side, another process takes one
before the kernel has bound it, and the kernel never answers.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Mapping
from pathlib import Path

from jupyter_client.blocking.client import BlockingKernelClient
from jupyter_client.manager import KernelManager

from nbpipe.data import private_directory


class PlainKernel:
    """A kernel that runs in ``cwd``, with ``environment`` added to this process's, and a client that is ready."""

    def __init__(self, cwd: Path, environment: Mapping[str, str] | None = None) -> None:
        self._directory = private_directory.make_for_sockets()
        place = {"connection_file": f"{self._directory}/kernel.json", "ip": f"{self._directory}/s"}
        self.manager = KernelManager(kernel_name="python3", transport="ipc", **place)
        self.manager.start_kernel(cwd=str(cwd), env={**os.environ, **(environment or {})})
        self.client: BlockingKernelClient
        self._connect()

    def restart(self) -> None:
        """Start the kernel again, as a front end does."""
        self.client.stop_channels()
        self.manager.restart_kernel(now=False)
        self._connect()

    def _connect(self) -> None:
        self.client = self.manager.client()
        self.client.start_channels()
        try:
            self.client.wait_for_ready(timeout=120)
        except RuntimeError:
            self.stop(now=True)
            raise

    def stop(self, *, now: bool) -> None:
        """End the kernel: at once, or when it has tidied up."""
        self.client.stop_channels()
        self.manager.shutdown_kernel(now=now)
        shutil.rmtree(self._directory)
