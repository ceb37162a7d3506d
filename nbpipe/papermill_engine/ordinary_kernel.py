"""The kernel of a notebook's ordinary cells, connected through sockets in a private folder.

jupyter_client picks TCP ports by binding and releasing them. Before the kernel binds them, the cluster that starts at
the same time can take one, and the kernel never answers. Sockets in a private folder cannot be taken.
"""

from __future__ import annotations

import weakref
from collections.abc import Callable
from typing import Any

import zmq
from jupyter_client.kernelspec import KernelSpec
from jupyter_client.manager import AsyncKernelManager

from nbpipe.data import private_directory

_PYTHONS = ("ipykernel", "ipykernel_launcher")
_LOCAL = "local-provisioner"


class OrdinaryKernelManager(AsyncKernelManager):
    """Manages the kernel of the notebook's kernelspec, with its own sockets."""

    _tidy_up: Callable[[], object] | None = None

    async def _async_pre_start_kernel(self, **kwargs: Any) -> tuple[list[str], dict[str, Any]]:
        if self._tidy_up is None and self.kernel_spec is not None and hears_sockets(self.kernel_spec):
            private = private_directory.make_for_sockets()
            self._tidy_up = weakref.finalize(self, private_directory.remove, private)
            self.transport = "ipc"
            # Both are absolute: the default is relative, and kernel and client may run in different folders.
            self.connection_file = f"{private}/kernel.json"
            self.ip = f"{private}/s"
        return await super()._async_pre_start_kernel(**kwargs)

    pre_start_kernel = _async_pre_start_kernel

    async def _async_cleanup_resources(self, restart: bool = False) -> None:  # noqa: FBT001, FBT002  # upstream's
        await super()._async_cleanup_resources(restart)
        if self._tidy_up is not None and not restart:
            self._tidy_up()

    cleanup_resources = _async_cleanup_resources


def hears_sockets(spec: KernelSpec) -> bool:
    """Return whether a kernel is known to support IPC sockets: a local ipykernel."""
    provisioner = spec.metadata.get("kernel_provisioner", {}).get("provisioner_name", _LOCAL)
    named = any(spec.argv[at : at + 2] == ["-m", name] for at in range(len(spec.argv)) for name in _PYTHONS)
    return named and provisioner == _LOCAL and bool(zmq.has("ipc"))
