"""Limits the output rate of a step's kernel: floods are thinned before they leave the process.

A forked kernel calls :func:`install` itself; to another one the worker sends this file as text, so it is self-contained
and uses only the standard library. A cell may print some megabytes at once and one more each second; beyond that, only
the end is kept and the rest counted. So the memory of kernel and worker is limited, however fast a step prints. An
exception that ends a background thread is reported to the worker. A cell gets a reply whatever the author assigns to
``sys.stdout`` or ``sys.stderr``: ipykernel flushes them, and an error of that flush would replace its reply.
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
RECORD = "application/vnd.nbpipe.event+json"
"""The MIME type of what the notebook shows of a record."""

_AT_ONCE = 2_000_000
_EACH_SECOND = 1_000_000
_END = 100_000
_CREDIT = 50_000
_SHOWN_AT_ONCE = 1_000
_SHOWN_EACH_SECOND = 20
_BYTES_AT_ONCE = 50_000_000
_BYTES_EACH_SECOND = 1_000_000
_FLUSHES_AT_ONCE = 300
_FLUSH_SECONDS = 3
_FLUSHES_EACH_SECOND = 20
# Where ipykernel flushes the standard streams: before a display, an error and a reply.
_FLUSHING = ("ipykernel.displayhook", "ipykernel.kernelbase", "ipykernel.zmqshell")
# ZeroMQ's SNDHWM: by default it drops messages while 1000 are waiting to be sent; 0 means never.
_SEND_LIMIT = 23
_LAST_WORDS_MILLISECONDS = 3000


def left_out(lines: int, characters: int) -> str:
    """Return the line that replaces what was left out."""
    return f"\n[nbpipe left out {lines:,} lines ({characters:,} characters)]\n"


class TokenBucket:
    """A token bucket: an amount that is available at once, and how much is added each second."""

    def __init__(self, at_once: float, each_second: float, clock: Callable[[], float]) -> None:
        self._most = self._left = at_once
        self._each_second = each_second
        self._clock = clock
        self._updated_at = clock()

    def take(self, amount: float) -> bool:
        """Take an amount, if it is available."""
        now = self._clock()
        self._left = min(self._most, self._left + (now - self._updated_at) * self._each_second)
        self._updated_at = now
        if amount > self._left:
            return False
        self._left -= amount
        return True


class RateLimitedStream:
    """Limits the rate of text written to a stream; thread-safe."""

    def __init__(self, write: Callable[[str], object], clock: Callable[[], float] = time.monotonic) -> None:
        self._write = write
        self._bucket = TokenBucket(_AT_ONCE, _EACH_SECOND, clock)
        self._credit = 0
        self._pending: list[str] = []
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
            if not self._pending and self._may(length):
                self._write(text)
            else:
                self._pending.append(text)
                self._length += length
                if self._length >= 2 * _END:
                    self._trim()
                    if self._may(_END):
                        self.release()
        return length

    def release(self) -> None:
        """Write what is held back: a note of how much was left out, and the end."""
        with self._lock:
            if self._characters:
                self._trim()
                self._write(left_out(self._lines, self._characters))
            if self._pending:
                self._write("".join(self._pending))
            self._forget()

    def restart(self) -> None:
        """Discard pending text in a forked process: the parent writes it, and may hold the lock."""
        self._lock = threading.RLock()
        self._forget()

    def _may(self, length: int) -> bool:
        if length > self._credit:
            # Check the clock once for many small texts.
            more = max(length, _CREDIT)
            if not self._bucket.take(more):
                return False
            self._credit += more
        self._credit -= length
        return True

    def _trim(self) -> None:
        """Keep the end of the pending text, and count the rest."""
        text = "".join(self._pending)
        over = max(0, len(text) - _END)
        self._lines += text.count("\n", 0, over)
        self._characters += over
        self._pending, self._length = [text[over:]], len(text) - over

    def _forget(self) -> None:
        self._pending.clear()
        self._length = self._lines = self._characters = 0


class _Forgotten(dict[int, list[Any]]):
    """Discards what is appended to its lists."""

    def __missing__(self, _number: int) -> list[Any]:
        return []


def _close_port(kernel: Any, publisher: Any) -> None:
    """Let what forked processes say come in beside the kernel's other sockets.

    ipykernel listens for it on a port of this machine, where every user can fill the memory of the kernel, and what it
    says of bad messages is the step's output.
    """
    application, stream = kernel.parent, getattr(publisher, "_pipe_in", None)
    if stream is None or getattr(application, "transport", "") != "ipc":
        return
    zmq: Any = sys.modules["zmq"]
    address = f"ipc://{application.ip}-output"

    def move() -> None:
        stream.socket.unbind(stream.socket.getsockopt(zmq.LAST_ENDPOINT))
        stream.socket.bind(address)

    def connected() -> tuple[Any, Any]:
        # A forked process needs a context of its own.
        context = zmq.Context()
        end = context.socket(zmq.PUSH)
        end.linger = _LAST_WORDS_MILLISECONDS
        end.connect(address)
        return context, end

    publisher._setup_pipe_out = connected  # noqa: SLF001  # it has no other name
    publisher.schedule(move)


def install() -> None:
    """Limit the streams of this kernel, watch its threads, and make it reply to every cell."""
    shell = sys.modules["IPython"].get_ipython()
    publisher = shell.kernel.iopub_thread
    publisher.schedule(lambda: publisher.socket.setsockopt(_SEND_LIMIT, 0))
    _close_port(shell.kernel, publisher)
    # IPython keeps all outputs in a history that steps do not use.
    shell.history_manager.outputs = _Forgotten()
    shell._tee = lambda **_: contextlib.nullcontext()  # noqa: SLF001  # it has no other name

    own = {name: getattr(sys, name) for name in ("stdout", "stderr")}

    def begin() -> None:
        shell.events.unregister("pre_execute", begin)
        for stream in own.values():
            _tame(stream, shell)

    # Not now: the current execution restores the streams' own functions at its end.
    shell.events.register("pre_execute", begin)
    _tame_displays(shell, own["stderr"])
    _watch_threads(shell.kernel)
    _keep_streams(own, shell.kernel)
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
        # The stream itself flushes a moment later.
        if not running or flushes.take(1):
            flush()

    stream.write, stream.flush = valve.write, seldom
    shell.events.register("pre_execute", begin)
    shell.events.register("post_execute", end)
    os.register_at_fork(after_in_child=valve.restart)
    os.register_at_fork(after_in_child=running.clear)
    if getattr(stream, "_original_stdstream_copy", None) is not None:
        # ipykernel copies the output of child processes there; it is in the notebook already, and may flood the log.
        stream._original_stdstream_copy = os.open(os.devnull, os.O_WRONLY)  # noqa: SLF001  # it has no other name


class _DisplayLimit:
    """Limits how many outputs are displayed, and their size."""

    def __init__(self) -> None:
        self._pieces = TokenBucket(_SHOWN_AT_ONCE, _SHOWN_EACH_SECOND, time.monotonic)
        self._size = TokenBucket(_BYTES_AT_ONCE, _BYTES_EACH_SECOND, time.monotonic)

    def take(self, size: int) -> bool:
        """Return whether an output of this size may be displayed."""
        return self._pieces.take(1) and self._size.take(size)


def _tame_displays(shell: Any, errors: Any) -> None:
    """Drop displayed outputs beyond the limit; report how many at the end of the cell."""
    # What a step records is not pushed out of its notebook by what else it displays.
    records, others = _DisplayLimit(), _DisplayLimit()
    dropped: list[int] = []

    def thin(message: dict[str, Any]) -> dict[str, Any] | None:
        data = message["content"].get("data", {})
        amount = sum(len(value) for value in data.values() if isinstance(value, str))
        if (records if RECORD in data else others).take(amount):
            return message
        dropped.append(amount)
        return None

    def end() -> None:
        if dropped:
            errors.write(f"[nbpipe left out {len(dropped):,} displayed outputs ({sum(dropped):,} characters)]\n")
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
    """One of the kernel's own streams, for the kernel's own use; a flush also flushes the author's replacement."""

    def __init__(self, name: str, stream: Any, tell: Callable[[str], None]) -> None:
        self._name = name
        self._stream = stream
        self._tell = tell
        self._stuck: list[Any] = []

    def flush(self) -> None:
        """Flush both, ignoring errors; wait for the author's replacement up to a limit, and if it is exceeded, once."""
        _flush(self._stream)
        stream = getattr(sys, self._name, None)
        if stream is self._stream or any(stream is each for each in self._stuck):
            return
        flushing = threading.Thread(target=_flush, args=(stream,), name="nbpipe-flush", daemon=True)
        # Without an excepthook no thread can be started.
        with contextlib.suppress(RuntimeError):
            flushing.start()
            flushing.join(_FLUSH_SECONDS)
            if flushing.is_alive():
                self._stuck.append(stream)
                self._tell(f"sys.{self._name}.flush() did not return within {_FLUSH_SECONDS} s")

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)


def _flush(stream: Any) -> None:
    with contextlib.suppress(Exception, SystemExit):
        stream.flush()


class _OwnSystem(ModuleType):
    """Replaces ``sys`` in the kernel's own modules: with the kernel's own streams, otherwise unchanged."""

    def __init__(self, streams: dict[str, Any], tell: Callable[[str], None]) -> None:
        super().__init__("sys")
        for name, stream in streams.items():
            setattr(self, name, _OwnStream(name, stream, tell))

    def __getattr__(self, name: str) -> Any:
        return getattr(sys, name)


def _keep_streams(streams: dict[str, Any], kernel: Any) -> None:
    """Make the kernel use its own streams, even if the author replaces them."""
    system = _OwnSystem(streams, lambda text: kernel.session.send(kernel.iopub_socket, NOTE, {"text": text}))
    for name in _FLUSHING:
        if name in sys.modules:
            vars(sys.modules[name])["sys"] = system


def _answering(kernel: Any) -> Callable[..., Awaitable[dict[str, Any]]]:
    """Return a ``do_execute`` that replies even if the kernel's own fails."""
    execute = kernel.do_execute

    async def answering(*arguments: Any, **named: Any) -> dict[str, Any]:
        try:
            answer: dict[str, Any] = await execute(*arguments, **named)
        except (Exception, KeyboardInterrupt, asyncio.CancelledError) as error:  # noqa: BLE001  # without a reply, the client would wait forever
            content = _error_content(error)
            kernel.send_response(kernel.iopub_socket, "error", content)
            return {"status": "error", "execution_count": kernel.execution_count, "user_expressions": {}, **content}
        return answer

    return answering


def _error_content(error: BaseException) -> dict[str, Any]:
    """Return an error as message content, formatted by ``traceback``, which handles errors whose ``str()`` fails."""
    message = "".join(traceback.format_exception_only(error)).strip().partition(": ")[2]
    lines = "".join(traceback.format_exception(error)).splitlines()
    return {"ename": type(error).__name__, "evalue": message, "traceback": lines}
