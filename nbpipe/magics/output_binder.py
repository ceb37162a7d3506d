"""Brings outputs that have come into the namespace, in the thread that runs the cells and between two of them."""

from __future__ import annotations

import threading
from typing import Any

from nbpipe.magics.output_bindings import OutputBindings


class OutputBinder:
    """Told by any thread that something may have come; binds it when the kernel has a moment."""

    def __init__(self, shell: Any, outputs: OutputBindings) -> None:
        self._loop = getattr(getattr(shell, "kernel", None), "io_loop", None)
        self._outputs = outputs
        self._asked = threading.Event()

    def tell(self) -> None:
        """Have the kernel look, unless it is to look already."""
        if self._loop is not None and not self._asked.is_set() and self._outputs.has_come():
            self._asked.set()
            self._loop.add_callback(self._look)

    def before(self, _info: object) -> None:
        """Look before a cell runs."""
        self._outputs.bind_ready()

    def _look(self) -> None:
        self._asked.clear()
        self._outputs.bind_ready()
