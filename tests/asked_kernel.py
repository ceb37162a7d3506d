"""A real kernel for tests of the magics: cells sent as a front end does, and what it offers in answer."""

from __future__ import annotations

import os
import time
from pathlib import Path
from typing import Any

from jupyter_client.manager import start_new_kernel

_PATIENCE = 120


class Kernel:
    """A kernel in a folder; ``next_input`` is the text of the cell that it last offered, ``page`` the last help."""

    next_input = ""
    page = ""

    def __init__(self, folder: Path, **environment: str) -> None:
        self.folder = folder
        env = {**os.environ, **environment}
        self.manager, self.client = start_new_kernel(kernel_name="python3", cwd=str(folder), env=env)

    def run(self, cell_id: str, source: str) -> tuple[str, str]:
        """Run a cell; get what it shows as text, and its error or nothing."""
        content = {"code": source, "silent": False, "store_history": True, "user_expressions": {}, "allow_stdin": False}
        message = self.client.session.msg("execute_request", content, metadata={"cellId": cell_id})
        self.client.shell_channel.send(message)
        shown: dict[str, str] = {}
        errors: list[str] = []
        end = time.monotonic() + _PATIENCE
        while time.monotonic() < end:
            heard = self.client.get_iopub_msg(timeout=_PATIENCE)
            if heard["parent_header"].get("msg_id") != message["header"]["msg_id"]:
                continue
            kind, told = heard["msg_type"], heard["content"]
            if kind == "stream":
                shown[f"stream {len(shown)}"] = told["text"]
            elif kind in ("display_data", "update_display_data", "execute_result"):
                name = told.get("transient", {}).get("display_id") or f"display {len(shown)}"
                shown[name] = told["data"]["text/plain"]
            elif kind == "error":
                errors.append("\n".join(told["traceback"]))
            elif kind == "status" and told["execution_state"] == "idle":
                break
        self._take_offer(message["header"]["msg_id"])
        return "\n".join(shown.values()), "\n".join(errors)

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

    def close(self) -> None:
        """Stop the kernel."""
        self.client.stop_channels()
        self.manager.shutdown_kernel(now=False)
