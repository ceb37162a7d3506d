"""What a step's kernel does with what the step says: floods are thinned before they leave the process.

A forked kernel calls :func:`install` itself; to another one the worker sends this file as text, so it stands alone and
uses only the standard library. A cell may say some megabytes at once and one more each second; of what is more, the end
is kept and the rest counted. So neither the kernel nor the worker grows, however fast a step prints. An exception that
ends a thread in the background is told to the worker. A cell is answered whatever the author puts in the place of
``sys.stdout`` or ``sys.stderr``: ipykernel flushes what it finds there, and an error of that flush would take the
place of its answer.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import sys
import threading
import time
import traceback
from collections.abc import Awaitable, Callable
from types import ModuleType
from typing import Any

NOTE = "nbpipe_note"

_AT_ONCE = 2_000_000
_EACH_SECOND = 1_000_000
_END = 100_000
_CREDIT = 50_000
_SHOWN_AT_ONCE = 1_000
_SHOWN_EACH_SECOND = 20
_BYTES_AT_ONCE = 50_000_000
_BYTES_EACH_SECOND = 1_000_000
_FLUSHES_AT_ONCE = 300
_FLUSHES_EACH_SECOND = 20
# Where ipykernel flushes the standard streams: before a display, an error and an answer.
_FLUSHING = ("ipykernel.displayhook", "ipykernel.kernelbase", "ipykernel.zmqshell")
# ZeroMQ's SNDHWM: of a kernel's output, it drops what comes when 1000 pieces wait to be sent; 0 means never.
_SEND_LIMIT = 23


def left_out(lines: int, characters: int) -> str:
    """Return the line that stands in place of what was left out."""
    return f"\n[nbpipe left out {lines:,} lines ({characters:,} characters)]\n"


class TokenBucket:
    """An allowance that grows with time: what may be had at once, and how much more each second."""

    def __init__(self, at_once: float, each_second: float, clock: Callable[[], float]) -> None:
        self._most = self._left = at_once
        self._each_second = each_second
        self._clock = clock
        self._seen = clock()

    def take(self, amount: float) -> bool:
        """Take so much, if it is there."""
        now = self._clock()
        self._left = min(self._most, self._left + (now - self._seen) * self._each_second)
        self._seen = now
        if amount > self._left:
            return False
        self._left -= amount
        return True


class RateLimitedStream:
    """Stands before a stream: lets text pass as long as there is not too much of it; any thread may write."""

    def __init__(self, write: Callable[[str], object], clock: Callable[[], float] = time.monotonic) -> None:
        self._write = write
        self._bucket = TokenBucket(_AT_ONCE, _EACH_SECOND, clock)
        self._credit = 0
        self._held: list[str] = []
        self._length = 0
        self._lines = 0
        self._characters = 0
        self._lock = threading.RLock()

    def write(self, text: str) -> int:
        """Write text, or hold it back."""
        if not isinstance(text, str):
            raise TypeError(f"write() argument must be str, not {type(text)}")
        length = len(text)
        with self._lock:
            if not self._held and self._may(length):
                self._write(text)
            else:
                self._held.append(text)
                self._length += length
                if self._length >= 2 * _END:
                    self._trim()
                    if self._may(_END):
                        self.release()
        return length

    def release(self) -> None:
        """Let pass what is held back: how much was left out, and the end of it."""
        with self._lock:
            if self._characters:
                self._trim()
                self._write(left_out(self._lines, self._characters))
            if self._held:
                self._write("".join(self._held))
            self._forget()

    def restart(self) -> None:
        """Hold nothing, in a forked process: what is held is the parent's to say, and so may be the lock."""
        self._lock = threading.RLock()
        self._forget()

    def _may(self, length: int) -> bool:
        if length > self._credit:
            # Many small pieces ask the clock once.
            more = max(length, _CREDIT)
            if not self._bucket.take(more):
                return False
            self._credit += more
        self._credit -= length
        return True

    def _trim(self) -> None:
        """Keep the end of what is held, and count the rest."""
        whole = "".join(self._held)
        over = max(0, len(whole) - _END)
        self._lines += whole.count("\n", 0, over)
        self._characters += over
        self._held, self._length = [whole[over:]], len(whole) - over

    def _forget(self) -> None:
        self._held.clear()
        self._length = self._lines = self._characters = 0


class _Forgotten(dict[int, list[Any]]):
    """Takes what is appended to its lists, and keeps nothing."""

    def __missing__(self, _number: int) -> list[Any]:
        return []


def install() -> None:
    """Put valves before the streams of this kernel, watch its threads, and have it answer every cell."""
    shell = sys.modules["IPython"].get_ipython()
    publisher = shell.kernel.iopub_thread
    publisher.schedule(lambda: publisher.socket.setsockopt(_SEND_LIMIT, 0))
    # IPython remembers all that cells say and show, for a history that no step ever asks for.
    shell.history_manager.outputs = _Forgotten()
    shell._tee = lambda **_: contextlib.nullcontext()  # noqa: SLF001  # it has no other name

    own = {name: getattr(sys, name) for name in ("stdout", "stderr")}

    def begin() -> None:
        shell.events.unregister("pre_execute", begin)
        for stream in own.values():
            _tame(stream, shell)

    # Not now: the execution that this belongs to puts the streams' own functions back at its end.
    shell.events.register("pre_execute", begin)
    _tame_displays(shell, own["stderr"])
    _watch_threads(shell.kernel)
    _keep_streams(own)
    shell.kernel.do_execute = _answering(shell.kernel)


def _tame(stream: Any, shell: Any) -> None:
    valve = RateLimitedStream(stream.write)
    flush, flushes = stream.flush, TokenBucket(_FLUSHES_AT_ONCE, _FLUSHES_EACH_SECOND, time.monotonic)
    running = [True]

    def begin() -> None:
        running.append(True)

    def end(*_: object) -> None:
        running.clear()
        valve.release()

    def seldom() -> None:
        # What is not flushed now is a moment later, by the stream itself.
        if not running or flushes.take(1):
            flush()

    stream.write, stream.flush = valve.write, seldom
    shell.events.register("pre_execute", begin)
    shell.events.register("post_execute", end)
    os.register_at_fork(after_in_child=valve.restart)
    os.register_at_fork(after_in_child=running.clear)
    if getattr(stream, "_original_stdstream_copy", None) is not None:
        # ipykernel copies there what processes write that the step starts; it is in the notebook, and a log may flood.
        stream._original_stdstream_copy = os.open(os.devnull, os.O_WRONLY)  # noqa: SLF001  # it has no other name


def _tame_displays(shell: Any, errors: Any) -> None:
    """Leave out what is shown when there is too much of it; the end of the cell tells how much."""
    pieces = TokenBucket(_SHOWN_AT_ONCE, _SHOWN_EACH_SECOND, time.monotonic)
    size = TokenBucket(_BYTES_AT_ONCE, _BYTES_EACH_SECOND, time.monotonic)
    dropped: list[int] = []

    def thin(message: dict[str, Any]) -> dict[str, Any] | None:
        amount = sum(len(value) for value in message["content"].get("data", {}).values() if isinstance(value, str))
        if pieces.take(1) and size.take(amount):
            return message
        dropped.append(amount)
        return None

    def end() -> None:
        if dropped:
            errors.write(f"[nbpipe left out {len(dropped):,} things that were shown ({sum(dropped):,} characters)]\n")
            dropped.clear()

    shell.display_pub.register_hook(thin)
    shell.events.register("post_execute", end)


def _watch_threads(kernel: Any) -> None:
    before = threading.excepthook

    def tell(failed: Any) -> None:
        before(failed)
        if failed.exc_type is not SystemExit:
            name = failed.thread.name if failed.thread is not None else "a thread"
            message = f"an exception ended the thread {name} in the background: {failed.exc_type.__name__}"
            kernel.session.send(kernel.iopub_socket, NOTE, {"text": f"{message}: {failed.exc_value}"})

    threading.excepthook = tell


class _OwnStream:
    """One of the kernel's own streams, for the kernel's own use; a flush reaches what the author put in its place."""

    def __init__(self, name: str, stream: Any) -> None:
        self._name = name
        self._stream = stream

    def flush(self) -> None:
        """Flush both, as far as they can be."""
        streams: tuple[Any, ...] = (self._stream, getattr(sys, self._name, None))
        for stream in streams:
            with contextlib.suppress(Exception, SystemExit):
                stream.flush()

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)


class _OwnSystem(ModuleType):
    """Stands for ``sys`` in the kernel's own modules: its streams are the kernel's own, all else is as it is."""

    def __init__(self, streams: dict[str, Any]) -> None:
        super().__init__("sys")
        for name, stream in streams.items():
            setattr(self, name, _OwnStream(name, stream))

    def __getattr__(self, name: str) -> Any:
        return getattr(sys, name)


def _keep_streams(streams: dict[str, Any]) -> None:
    """Have the kernel use its own streams, whatever the author puts in their place."""
    system = _OwnSystem(streams)
    for name in _FLUSHING:
        if name in sys.modules:
            vars(sys.modules[name])["sys"] = system


def _answering(kernel: Any) -> Callable[..., Awaitable[dict[str, Any]]]:
    """Return the kernel's way to execute a cell, with an answer also where it fails itself."""
    execute = kernel.do_execute

    async def answering(*arguments: Any, **named: Any) -> dict[str, Any]:
        try:
            answer: dict[str, Any] = await execute(*arguments, **named)
        except (Exception, KeyboardInterrupt, asyncio.CancelledError) as error:  # noqa: BLE001  # without an answer, whoever asked waits for ever
            told = _told(error)
            kernel.send_response(kernel.iopub_socket, "error", told)
            return {"status": "error", "execution_count": kernel.execution_count, "user_expressions": {}, **told}
        return answer

    return answering


def _told(error: BaseException) -> dict[str, Any]:
    """Return an error as a kernel tells it, by way of the library that bears with one whose own text cannot be had."""
    message = "".join(traceback.format_exception_only(error)).strip().partition(": ")[2]
    lines = "".join(traceback.format_exception(error)).splitlines()
    return {"ename": type(error).__name__, "evalue": message, "traceback": lines}
