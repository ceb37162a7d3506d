"""Binds outputs that are ready in the namespace, in the thread that runs the cells and between two cells."""

from __future__ import annotations

import threading
from typing import Any

from nbpipe.magics.output_bindings import OutputBindings


class OutputBinder:
    """Notified by any thread that outputs may be ready; binds them when the kernel is idle."""

    def __init__(self, shell: Any, outputs: OutputBindings) -> None:
        self._loop = getattr(getattr(shell, "kernel", None), "io_loop", None)
        self._outputs = outputs
        self._scheduled = threading.Event()

    def tell(self) -> None:
        """Schedule a check in the kernel's thread, unless one is scheduled already."""
        if self._loop is not None and not self._scheduled.is_set() and self._outputs.has_come():
            self._scheduled.set()
            self._loop.add_callback(self._look)

    def before(self, _info: object) -> None:
        """Bind outputs before a cell runs."""
        self._outputs.bind_ready()

    def _look(self) -> None:
        self._scheduled.clear()
        self._outputs.bind_ready()
