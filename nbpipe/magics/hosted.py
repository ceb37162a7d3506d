"""The process that carries this kernel's runs, as the kernel sees it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import IO

from nbpipe.errors import NbpipeError, OutOfReach

_PROGRAM = "nbpipe.host"
_LOG = "carrier.log"
_END_SECONDS = 5.0


class Hosted:
    """Started with the first submission, and again when it has ended; it ends with the kernel.

    ``refused`` is told of runs that could not begin or broke off, ``gone`` that the process ended, both by a thread.
    """

    def __init__(
        self, folder: Path, kernel: str, refused: Callable[[str, NbpipeError], None], gone: Callable[[], None]
    ) -> None:
        self._folder = folder
        self._kernel = kernel
        self._refused = refused
        self._gone = gone
        self._process: subprocess.Popen[str] | None = None
        self._lock = threading.Lock()

    def submit(self, line: str, base: Path) -> None:
        """Hand a submission over; OutOfReach when no process takes it."""
        with self._lock:
            try:
                self._write(line, base)
            except BrokenPipeError:
                # It has ended just now, as it does when nothing goes on for long.
                self._process = None
                self._write(line, base)

    def close(self) -> None:
        """Let go of the process: it ends by itself, as its runs do."""
        with self._lock:
            process, self._process = self._process, None
        if process is not None and process.stdin is not None:
            process.stdin.close()

    def _write(self, line: str, base: Path) -> None:
        if self._process is None or self._process.poll() is not None:
            self._process = self._start(base)
        if self._process.stdin is not None:
            self._process.stdin.write(line + "\n")
            self._process.stdin.flush()

    def _start(self, base: Path) -> subprocess.Popen[str]:
        try:
            process = self._spawn(base)
        except OSError as error:
            said = f"no process could be started to carry the run: {error}"
            raise OutOfReach(said, "See whether this machine lets processes start.") from error
        threading.Thread(target=self._listen, args=(process,), name="nbpipe-host", daemon=True).start()
        return process

    def _spawn(self, base: Path) -> subprocess.Popen[str]:
        with (self._folder / _LOG).open("ab") as log:
            return subprocess.Popen(
                [sys.executable, "-m", _PROGRAM, self._kernel], cwd=base, stdin=subprocess.PIPE,
                stdout=subprocess.PIPE, stderr=log, text=True, env=_environment(),
                # A session of its own: an interrupt of the kernel is none of the runs.
                start_new_session=True,
            )  # fmt: skip

    def _listen(self, process: subprocess.Popen[str]) -> None:
        for line in _lines(process.stdout):
            told = json.loads(line)
            self._refused(told["run"], NbpipeError.from_json(told["error"]))
        process.wait()
        self._gone()


def _lines(stream: IO[str] | None) -> list[str] | IO[str]:
    return [] if stream is None else stream


def _environment() -> dict[str, str]:
    # Without bytecode every start would compile all libraries again.
    return {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
