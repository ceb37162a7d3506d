"""What libraries find around them while a zygote imports them: that of a kernel.

Libraries look around when they are imported: pandas, for example, limits the width of its tables by whether it is in a
terminal. So a zygote imports them with stand-ins for the shell and for the streams of a kernel. A library that keeps a
stream has the kernel's, because the stand-in becomes that. If it asks the shell for more than a stand-in can answer, or
keeps the shell, it is not loaded ahead.
"""

from __future__ import annotations

import builtins
import gc
import locale
import logging
import os
import resource
import signal
import sys
import tempfile
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

_STREAMS = ("stdout", "stderr")
_PROMPTS = {"ps1": "In : ", "ps2": "...: ", "ps3": "Out: "}
_STAND_INS: dict[str, Any] = {}


class UnfitForForkError(RuntimeError):
    """A library whose import does in a zygote what it would not do in a kernel."""


@contextmanager
def kernel_surroundings(launcher: str) -> Iterator[Path]:
    """Import libraries as in a kernel; yield the empty folder in which that is done, which is removed.

    Raise UnfitForForkError at the end if a library has looked closer than a stand-in allows, or has changed the process
    in a way that a forked kernel would not have.
    """
    before, requested = process_state(), list[str]()
    shell = _stand_in_shell(requested.append)
    own = {name: getattr(sys, name) for name in (*_STREAMS, "argv")}
    references = sys.getrefcount(shell)
    with tempfile.TemporaryDirectory() as folder:
        streams = {name: stand_in_stream(name) for name in _STREAMS}
        _enter(shell, {**streams, **_PROMPTS, "argv": [launcher, "-f", "kernel.json"]}, folder)
        try:
            yield Path(folder)
        finally:
            _leave(own)
    if sys.getrefcount(shell) > references:
        requested.append("shell")
    changed = [name for name, state in process_state().items() if state != before[name]]
    if reasons := [*requested, *changed]:
        raise UnfitForForkError(f"its import depends on the kernel: {', '.join(reasons)}")


def _stand_in_shell(note: Callable[[str], None]) -> Any:
    """Return a shell that was never initialized: it has a kernel and a configuration, and notes what else is read."""
    kernel: Any = sys.modules["ipykernel.zmqshell"].ZMQInteractiveShell
    configuration = sys.modules["traitlets.config"].Config({"IPKernelApp": {}})

    def read(shell: Any, name: str) -> Any:
        if name == "kernel":
            return object()
        if name == "config":
            return configuration
        if not name.startswith("__"):
            note(f"shell.{name}")
            raise AttributeError(name)
        return object.__getattribute__(shell, name)

    shell = kernel.__new__(kernel)
    shell.__class__ = type("ZMQInteractiveShell", (kernel,), {"__getattribute__": read})
    return shell


def stand_in_stream(name: str) -> Any:
    """Return the stand-in for a stream: of a kernel's type, it discards what is written to it."""
    if name not in _STAND_INS:
        kind: Any = sys.modules["ipykernel.iostream"].OutStream
        discarding = {
            "write": lambda _stream, text: len(text),
            "flush": lambda _stream: None,
            "isatty": lambda _stream: False,
            "__del__": lambda _stream: None,
        }
        _STAND_INS[name] = kind.__new__(type("OutStream", (kind,), discarding))
    return _STAND_INS[name]


def kernel_stream(session: Any, thread: Any, name: str, **more: Any) -> Any:
    """Return a kernel's stream, as its class does: the stand-in becomes it."""
    stream = stand_in_stream(name)
    stream.__class__ = type(stream).__base__
    stream.__init__(session, thread, name, **more)
    return stream


def _kinds_of_shell() -> list[Any]:
    """Return the classes on which traitlets keeps the only instance of a shell."""
    return list(sys.modules["ipykernel.zmqshell"].ZMQInteractiveShell._walk_mro())  # noqa: SLF001  # no other way


def _enter(shell: Any, system: dict[str, Any], folder: str) -> None:
    for kind in _kinds_of_shell():
        kind._instance = shell  # noqa: SLF001  # as above
    vars(builtins).update(get_ipython=lambda: shell, __IPYTHON__=True)
    vars(sys).update(system)
    os.chdir(folder)


def _leave(own: dict[str, Any]) -> None:
    os.chdir("/")
    for name in _PROMPTS:
        vars(sys).pop(name, None)
    vars(sys).update(own)
    for name in ("get_ipython", "__IPYTHON__"):
        vars(builtins).pop(name, None)
    for kind in _kinds_of_shell():
        kind._instance = None  # noqa: SLF001  # as above


def process_state() -> dict[str, object]:
    """Return what belongs to the process, and not to any library: an import that changes it is not like in a kernel."""
    mask = os.umask(0o77)
    os.umask(mask)
    return {
        "signal handlers": [signal.getsignal(number) for number in signal.valid_signals()],
        "hooks": [sys.excepthook, sys.displayhook, sys.unraisablehook, sys.breakpointhook, threading.excepthook],
        "tracing": [sys.gettrace(), sys.getprofile(), threading.gettrace(), threading.getprofile()],
        "limits": [sys.getrecursionlimit(), sys.getswitchinterval(), sys.get_int_max_str_digits()],
        "resources": [resource.getrlimit(number) for number in _resources()],
        "collector": [gc.isenabled(), gc.get_threshold(), gc.get_debug(), len(gc.callbacks)],
        "import path": [*sys.path],
        "locale": locale.setlocale(locale.LC_ALL),
        "decimal context": _as_at_first("decimal", lambda module: module.getcontext().prec == 28),
        "start method": _as_at_first(
            "multiprocessing", lambda module: module.get_start_method(allow_none=True) is None
        ),
        "root logger": [logging.root.level, *logging.root.handlers, logging.raiseExceptions],
        "mask": mask,
        "bytecode": sys.dont_write_bytecode,
    }


def _as_at_first(name: str, holds: Callable[[Any], bool]) -> bool:
    # Not imported for this: the author may have a module of that name.
    module = sys.modules.get(name)
    return module is None or holds(module)


def _resources() -> list[int]:
    return [getattr(resource, name) for name in dir(resource) if name.startswith("RLIMIT_")]
