"""The kernel of a notebook's ordinary cells, reached in a way that no other process can get between.

jupyter_client picks TCP ports by binding and letting go: before the kernel has bound them, the cluster that starts at
the same time can take one, and the kernel never answers. A socket in a private folder is nobody else's.
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
    """Manages the kernel that the notebook's kernelspec names, as ever but for its sockets."""

    _tidy_up: Callable[[], object] | None = None

    async def _async_pre_start_kernel(self, **kwargs: Any) -> tuple[list[str], dict[str, Any]]:
        if self._tidy_up is None and self.kernel_spec is not None and hears_sockets(self.kernel_spec):
            private = private_directory.make_for_sockets()
            self._tidy_up = weakref.finalize(self, private_directory.remove, private)
            self.transport = "ipc"
            # Both absolute: the default is relative, and the kernel may run in another folder than its client.
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
    """Return whether a kernel is known to take sockets of this machine: ipykernel's, started here."""
    provisioner = spec.metadata.get("kernel_provisioner", {}).get("provisioner_name", _LOCAL)
    named = any(spec.argv[at : at + 2] == ["-m", name] for at in range(len(spec.argv)) for name in _PYTHONS)
    return named and provisioner == _LOCAL and bool(zmq.has("ipc"))
