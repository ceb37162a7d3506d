"""The process that carries this kernel's runs, as the kernel sees it."""

from __future__ import annotations

import contextlib
import json
import os
import queue
import subprocess
import sys
import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO

from nbpipe.errors import NbpipeError, OutOfReach

_PROGRAM = "nbpipe.host"
_LOG = "carrier.log"
_END_SECONDS = 5.0

Refused = Callable[[str, NbpipeError], None]
"""Told of a run that could not begin or broke off."""

Gone = Callable[[frozenset[str]], None]
"""Told of runs whose process ended."""


@dataclass(slots=True)
class _Carrier:
    """One such process, and the runs that were handed to it."""

    process: subprocess.Popen[str]
    runs: set[str] = field(default_factory=set)
    is_gone: bool = False
    lock: threading.Lock = field(default_factory=threading.Lock)

    def took(self, run: str) -> bool:
        """Note that a run was handed over; False if the process ended before that."""
        with self.lock:
            self.runs.add(run)
            return not self.is_gone

    def left(self) -> frozenset[str]:
        """Note that the process has ended, and get the runs that it was handed."""
        with self.lock:
            self.is_gone = True
            return frozenset(self.runs)


class Hosted:
    """Started with the first submission, and again when it has ended; it ends with the kernel.

    ``refused`` is told of runs that could not begin or broke off, ``gone`` of the runs whose process ended. Both are
    told by threads, and a thread hands over what is submitted: a process that is only starting keeps nobody waiting.
    """

    def __init__(self, folder: Path, kernel: str, refused: Refused, gone: Gone) -> None:
        self._folder = folder
        self._kernel = kernel
        self._refused = refused
        self._gone = gone
        self._carrier: _Carrier | None = None
        self._submitted: queue.SimpleQueue[tuple[str, str, Path] | None] = queue.SimpleQueue()
        self._writer = threading.Thread(target=self._write_all, name="nbpipe-submit", daemon=True)
        self._writer.start()

    def submit(self, run: str, line: str, base: Path) -> None:
        """Hand a submission over, without waiting for that."""
        self._submitted.put((run, line, base))

    def close(self) -> None:
        """Let go of the process: it ends by itself, as its runs do."""
        self._submitted.put(None)
        self._writer.join(_END_SECONDS)

    def _write_all(self) -> None:
        while (submitted := self._submitted.get()) is not None:
            run, line, base = submitted
            try:
                self._hand_over(run, line, base)
            except NbpipeError as error:
                self._refused(run, error)
        if self._carrier is not None and self._carrier.process.stdin is not None:
            with contextlib.suppress(OSError):
                self._carrier.process.stdin.close()

    def _hand_over(self, run: str, line: str, base: Path) -> None:
        try:
            carrier = self._write(line, base)
        except BrokenPipeError:
            # It has ended just now, as it does when nothing goes on for long.
            self._carrier = None
            carrier = self._write(line, base)
        if not carrier.took(run):
            self._gone(frozenset({run}))

    def _write(self, line: str, base: Path) -> _Carrier:
        if self._carrier is None or self._carrier.process.poll() is not None:
            self._carrier = self._start(base)
        try:
            if self._carrier.process.stdin is not None:
                self._carrier.process.stdin.write(line + "\n")
                self._carrier.process.stdin.flush()
        except BrokenPipeError:
            raise
        except OSError as error:
            raise _not_started(error) from error
        return self._carrier

    def _start(self, base: Path) -> _Carrier:
        try:
            carrier = _Carrier(self._spawn(base))
        except OSError as error:
            raise _not_started(error) from error
        threading.Thread(target=self._listen, args=(carrier,), name="nbpipe-host", daemon=True).start()
        return carrier

    def _spawn(self, base: Path) -> subprocess.Popen[str]:
        with (self._folder / _LOG).open("ab") as log:
            return subprocess.Popen(
                [sys.executable, "-P", "-m", _PROGRAM, self._kernel], cwd=base, stdin=subprocess.PIPE,
                stdout=subprocess.PIPE, stderr=log, text=True, env=_environment(),
                # A session of its own: an interrupt of the kernel is none of the runs.
                start_new_session=True,
            )  # fmt: skip

    def _listen(self, carrier: _Carrier) -> None:
        for line in _lines(carrier.process.stdout):
            told = json.loads(line)
            self._refused(told["run"], NbpipeError.from_json(told["error"]))
        carrier.process.wait()
        self._gone(carrier.left())


def _not_started(error: OSError) -> OutOfReach:
    said = f"no process could be started to carry the run: {error}"
    return OutOfReach(said, "See whether this machine lets processes start.")


def _lines(stream: IO[str] | None) -> list[str] | IO[str]:
    return [] if stream is None else stream


def _environment() -> dict[str, str]:
    # Without bytecode every start would compile all libraries again.
    return {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
