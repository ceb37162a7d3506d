"""A standby kernel: while a step runs, a kernel for the next step is started in advance.

It is used only if the next step requires exactly the same kernel, and if a kernel started at that moment would be
equivalent: the same files loaded, and no module hidden by one of the author's.
"""

from __future__ import annotations

import threading
import time

from nbpipe.execution.kernels import zygote_pool
from nbpipe.execution.kernels.kernel_manager import StepKernelManager, StepKernelSpec

_PAUSE_SECONDS = 0.02
# A kernel that is starting is ready sooner than a new one, unless something is wrong with it.
_PATIENCE_SECONDS = 2.0


class StandbyKernel:
    """The standby kernel of this process's steps; thread-safe."""

    def __init__(self) -> None:
        self._kernel: StepKernelManager | None = None
        self._spec: StepKernelSpec | None = None
        self._starting: threading.Thread | None = None
        self._coming: threading.Event | None = None
        self._lock = threading.Lock()

    def take(self, spec: StepKernelSpec) -> StepKernelManager | None:
        """Return the standby kernel if it has this spec; one step may wait for a kernel that is starting."""
        self._await(spec)
        with self._lock:
            kernel = self._kernel
            if kernel is None or kernel.spec != spec or not zygote_pool.forks(spec.command, spec.env):
                return None
            self._kernel = None
        if kernel.exit_code is None and kernel.still_good():
            return kernel
        _discard(kernel)
        return None

    def _await(self, spec: StepKernelSpec) -> None:
        with self._lock:
            coming = self._coming if self._spec == spec else None
            self._coming = None
        if coming is not None:
            coming.wait(_PATIENCE_SECONDS)

    def prepare(self, spec: StepKernelSpec) -> None:
        """Start a standby kernel with this spec in the background, replacing one with another spec."""
        with self._lock:
            self._spec = spec
            if self._starting is None:
                self._starting = threading.Thread(target=self._start, name="nbpipe-spare", daemon=True)
                self._starting.start()

    def retire(self) -> None:
        """End the standby kernel, if there is one."""
        with self._lock:
            self._spec = None
            starting = self._starting
        if starting is not None:
            starting.join()
        self._replace(None)

    def _start(self) -> None:
        # A kernel that is forked too early lacks modules that its zygote is still loading.
        while (spec := self._spec) is not None and zygote_pool.HERE.settled(
            spec.command, spec.env, spec.preload
        ) is False:
            time.sleep(_PAUSE_SECONDS)
        if spec is not None and zygote_pool.HERE.settled(spec.command, spec.env, spec.preload):
            self._launch(spec)
        with self._lock:
            self._starting = None

    def _launch(self, spec: StepKernelSpec) -> None:
        with self._lock:
            if self._kernel is not None and self._kernel.spec == spec:
                return
        self._replace(None)
        kernel = StepKernelManager(spec)
        there = threading.Event()
        with self._lock:
            self._coming = there
        try:
            kernel.launch()
            # The first check copies memory that the supervisor shares with its zygote; the next one is much faster.
            if kernel.still_good():
                kernel.warm_up()
        except OSError:
            # The step's own kernel will fail for the same reason, and report it.
            _discard(kernel)
        else:
            self._replace(kernel)
        finally:
            with self._lock:
                self._coming = None
            there.set()

    def _replace(self, fresh: StepKernelManager | None) -> None:
        with self._lock:
            old, self._kernel = self._kernel, fresh
        if old is not None:
            _discard(old)


def _discard(kernel: StepKernelManager) -> None:
    kernel.end()
    kernel.log_file.close()


HERE = StandbyKernel()


def retire_kernels() -> None:
    """End the standby kernel and all zygotes of this process, and wait for that."""
    HERE.retire()
    zygote_pool.HERE.retire()
