"""A real kernel as a notebook's reader has it: cells are sent with their ids, displays are kept as they change."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from queue import Empty
from typing import Any

import psutil
from jupyter_client.blocking.client import BlockingKernelClient
from socket_kernel import PlainKernel

LIVE = "application/vnd.jupyter.widget-view+json"
PATIENCE = 90.0


@dataclass
class Shown:
    """What one execution of a cell shows, kept up to date: displays by their ids, its error, its number."""

    bundles: dict[str, dict[str, Any]] = field(default_factory=dict)
    error: str = ""
    number: int = 0
    seconds: float = 0.0

    @property
    def text(self) -> str:
        """Get all of it as plain text."""
        return "\n".join(str(bundle.get("text/plain", "")) for bundle in self.bundles.values())

    @property
    def is_live(self) -> bool:
        """Say whether a card is still to become a picture."""
        # A step that failed keeps its card for a while, with the picture beside it.
        live = [bundle for bundle in self.bundles.values() if LIVE in bundle]
        return any("text/html" not in bundle for bundle in live)


class Kernel:
    """A kernel over sockets of this machine's file system, so that no port can be taken meanwhile."""

    def __init__(self, folder: Path, **environment: str) -> None:
        self._plain = PlainKernel(folder, environment)
        self.manager = self._plain.manager
        self.sent = ""
        self.cells: dict[str, Shown] = {}
        self._executions: dict[str, Shown] = {}
        self._shown: list[Shown] = []
        self.hearers: list[Callable[[dict[str, Any]], None]] = []

    @property
    def client(self) -> BlockingKernelClient:
        """Get the client, another one after a restart."""
        return self._plain.client

    def send(self, cell: str, source: str, **metadata: Any) -> str:
        """Run a cell without waiting for it, and get the message's id."""
        content = {"code": source, "silent": False, "store_history": True, "user_expressions": {}, "allow_stdin": False}
        content["stop_on_error"] = False
        message = self.client.session.msg("execute_request", content, metadata={"cellId": cell, **metadata})
        self.client.shell_channel.send(message)
        self.sent = str(message["header"]["msg_id"])
        return self.sent

    def execute(self, cell: str, source: str, **metadata: Any) -> Shown:
        """Run a cell and return when the kernel is done with it, whatever goes on beside it."""
        begin = time.monotonic()
        sent, shown = self.send(cell, source, **metadata), Shown()
        self._shown.append(shown)
        self.cells[cell] = shown
        self.hear(lambda: bool(shown.seconds), sent, shown, begin)
        return shown

    def run(self, cell: str, source: str, **metadata: Any) -> Shown:
        """Run a cell and return when its cards have become pictures."""
        shown = self.execute(cell, source, **metadata)
        self.hear(lambda: not shown.is_live)
        return shown

    def run_all(self, cells: Sequence[tuple[str, str]]) -> list[Shown]:
        """Send all cells at once, as Run All does, and return when they have run and their cards are pictures."""
        begin = time.monotonic()
        shown = [Shown() for _ in cells]
        for (cell, source), each in zip(cells, shown, strict=True):
            self.cells[cell] = each
            self._shown.append(each)
            self._executions[self.send(cell, source)] = each
        self.hear(lambda: all(each.seconds and not each.is_live for each in shown), begin=begin)
        return shown

    def hear(self, enough: Callable[[], bool], sent: str = "", shown: Shown | None = None, begin: float = 0.0) -> None:
        """Take messages until there is enough; AssertionError when that takes too long."""
        end = time.monotonic() + PATIENCE
        while not enough():
            assert time.monotonic() < end, f"nothing came: {[cell.text for cell in self.cells.values()]}"
            try:
                message = self.client.get_iopub_msg(timeout=0.2)
            except Empty:
                continue
            for hearer in self.hearers:
                hearer(message)
            self._take(message, sent, shown, begin)

    def _take(self, message: dict[str, Any], sent: str, shown: Shown | None, begin: float) -> None:
        kind, told = message["msg_type"], message["content"]
        if kind == "update_display_data":
            name = told["transient"]["display_id"]
            # Also of what another execution of the same cell has taken the place of.
            for cell in (*self._shown, *self.cells.values()):
                if name in cell.bundles:
                    cell.bundles[name] = told["data"]
        parent = message["parent_header"].get("msg_id")
        shown = shown if parent == sent else self._executions.get(parent)
        if shown is None:
            return
        if kind == "execute_input":
            shown.number = told["execution_count"]
        elif kind == "stream":
            shown.bundles[f"stream {len(shown.bundles)}"] = {"text/plain": told["text"]}
        elif kind in ("display_data", "execute_result"):
            name = told.get("transient", {}).get("display_id") or f"display {len(shown.bundles)}"
            shown.bundles[name] = told["data"]
        elif kind == "error":
            shown.error = "\n".join([*filter(None, [shown.error]), *told["traceback"]])
        elif kind == "status" and told["execution_state"] == "idle":
            shown.seconds = time.monotonic() - begin

    def processes(self) -> list[psutil.Process]:
        """Get the kernel's process and all that it started."""
        kernel = psutil.Process(self.manager.provisioner.process.pid)
        return [kernel, *kernel.children(recursive=True)]

    def restart(self) -> None:
        """Start the kernel again, as a front end does."""
        self._plain.restart()

    def close(self) -> None:
        """Shut the kernel down."""
        self._plain.stop(now=False)
