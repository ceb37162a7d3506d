"""A real kernel for tests of the magics: cells sent as a front end does, and what it offers in answer."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import front_end_kernel

_PATIENCE = 120


class Kernel:
    """A kernel in a folder; ``next_input`` is the text of the cell that it last offered, ``page`` the last help."""

    next_input = ""
    page = ""

    def __init__(self, folder: Path, **environment: str) -> None:
        self.folder = folder
        self._kernel = front_end_kernel.Kernel(folder, **environment)
        self.client = self._kernel.client

    def run(self, cell_id: str, source: str) -> tuple[str, str]:
        """Run a cell, and wait until its step has ended; get what it shows as text, and its error or nothing."""
        shown = self._kernel.run(cell_id, source)
        self._take_offer(self._kernel.sent)
        return shown.text, shown.error

    def close(self) -> None:
        """Stop the kernel."""
        self._kernel.close()

    def _take_offer(self, asked: str) -> None:
        while True:
            reply = self.client.get_shell_msg(timeout=_PATIENCE)
            if reply["parent_header"].get("msg_id") == asked:
                break
        for offer in reply["content"].get("payload", ()):
            if offer["source"] == "set_next_input":
                self.next_input = offer["text"]
            elif offer["source"] == "page":
                self.page = offer["data"]["text/plain"]

    def ask(self, kind: str, **content: Any) -> dict[str, Any]:
        """Ask the kernel something other than to run a cell, and get the content of its reply."""
        message = self.client.session.msg(f"{kind}_request", content)
        self.client.shell_channel.send(message)
        while True:
            reply = self.client.get_shell_msg(timeout=_PATIENCE)
            if reply["parent_header"].get("msg_id") == message["header"]["msg_id"]:
                told: dict[str, Any] = reply["content"]
                return told
