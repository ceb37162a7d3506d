"""A process that has imported what steps need, and forks a kernel in milliseconds on request.

It runs in the step's interpreter and needs ipykernel there. Its standard input is a socket to the worker: each message
passes two descriptors, a supervisor's socket and a log, for which it forks a supervisor
(:mod:`nbpipe.execution.kernels.supervisor`), which reads its request from the supervisor's socket and forks the kernel.
On the command line are the path and the SHA-256 of the archive of what each step begins with, and the modules to
import, which are imported while no kernel is requested. The zygote ends when the worker's end of the socket has closed
and its supervisors have ended.

Forking is safe in a process with one thread, so it only imports, calls nothing, and checks after each import whether a
thread was started. Any error ends it: the worker knows what it was importing, and omits that from the next one. A
kernel is not forked but started by command, still by its supervisor, if a file that is loaded here has changed, if an
environment variable that was read during imports differs in the request, or if a module that is loaded here is hidden
by one of the author's own.

A forked kernel has a module ``sys.modules["nbpipe_warm"]`` with three attributes:

``bare``
    frozenset of the names of all modules that ipykernel alone loads; ``sys.modules`` contains more, for other steps.
``imported``
    dict: for each third-party package that was preloaded, or came with one, the frozenset of all third-party packages
    that it imported, directly or indirectly, except itself (all as top-level names).
``repeat``
    function: does again what importing a package has done to environment variables and warning filters.
"""

from __future__ import annotations

import array
import contextlib
import gc
import hashlib
import importlib
import importlib.util
import json
import logging
import os
import select
import signal
import socket
import sys
import tempfile
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import ModuleType
from typing import Any, NoReturn

from nbpipe.execution.kernels import process_memory, supervisor
from nbpipe.execution.kernels.import_graph_recorder import ImportGraphRecorder, read_in_c
from nbpipe.execution.kernels.kernel_import_environment import kernel_stream, kernel_surroundings
from nbpipe.execution.output_limits import output_limiter

WARM = "nbpipe_warm"

_CONTROL = 0
# Modules that every kernel loads eventually: loaded once, before the first fork.
_BARE = (
    "ipykernel.debugger", "ipykernel.kernelapp", "ipykernel.ipkernel", "ipykernel.zmqshell", "IPython.core.completer",
    "IPython.core.completerlib", "IPython.core.debugger", "IPython.core.logger", "IPython.core.oinspect",
    "IPython.extensions.storemagic", "sqlite3", "pdb", "faulthandler", "unicodedata", "tornado.platform.asyncio",
    "tornado.locks", "tornado.queues", "psutil", "encodings.ascii", "encodings.idna", "encodings.latin_1",
)  # fmt: skip
# What nbpipe's runtime in the kernel needs of the standard library.
_OURS = ("linecache", "pickle", "zipfile", "importlib.resources", "dataclasses", "importlib.abc")
# jemalloc, part of pyarrow, takes its locks before a fork and restarts its thread in the child.
_HARMLESS_THREADS = frozenset({"jemalloc_bg_thd"})
_PATHS = (str, bytes, os.PathLike)
_INLINE = "module://matplotlib_inline.backend_inline"
_RUNTIME = "nbpipe.execution.kernel_runtime.step_runtime"


@dataclass(slots=True)
class _Loaded:
    """What this process has imported, and the conditions under which kernels may be forked from it.

    ``runtime`` is the path and the digest of the archive that ``provided`` was loaded from: nbpipe's modules for steps,
    which this process does not use.
    """

    bare: frozenset[str]
    watch: ImportGraphRecorder
    environment: dict[str, str]
    runtime: tuple[str, str]
    provided: Mapping[str, ModuleType]
    stamps: dict[str, tuple[int, int]] = field(default_factory=dict)
    sought: set[str] = field(default_factory=set)

    @contextlib.contextmanager
    def looking_in(self, folder: Path) -> Iterator[None]:
        """Record the names for which libraries look in the current folder."""
        looking, start = os.stat, f"{folder}/"

        def stat(path: Any, *rest: Any, **named: Any) -> os.stat_result:
            spelled = os.path.join(folder, os.fsdecode(path)) if isinstance(path, _PATHS) else ""  # noqa: PTH118  # fast
            if spelled.startswith(start):
                self.sought.add(spelled.removeprefix(start).partition("/")[0])
            return looking(path, *rest, **named)

        os.stat = stat
        try:
            yield
        finally:
            os.stat = looking

    def note(self) -> None:
        """Record the status of the files of newly loaded modules, and of the folders in ``sys.path``."""
        for place in [*sys.path, *_files_of_modules()]:
            if place not in self.stamps:
                self.stamps[place] = _stamp(place)

    def stale(self) -> bool:
        """Return whether a loaded file or a folder in ``sys.path`` has changed."""
        return any(_stamp(place) != stamp for place, stamp in self.stamps.items())

    def suits(self, request: Mapping[str, Any]) -> bool:
        """Return whether a kernel forked from this process fits the request."""
        requested, had = request["env"], self.environment
        if any(requested.get(name) != had.get(name) for name in self.watch.variables | read_in_c({*requested, *had})):
            return False
        beside = {entry.name for entry in os.scandir(request["cwd"])}
        if self.sought & beside:
            return False
        own = {name.partition(".")[0] for name in beside} | set(request["local"])
        return not own & {name.partition(".")[0] for name in set(sys.modules) - self.bare}


def _files_of_modules() -> set[str]:
    # The standard library's files change with the interpreter, whose folder is checked.
    standard = str(Path(os.__file__).parent)
    files = {getattr(module, "__file__", None) or "" for module in tuple(sys.modules.values())}
    return {
        file for file in files
        if file and (not file.startswith(standard) or "site-packages" in file or "dist-packages" in file)
    }  # fmt: skip


def _stamp(place: str) -> tuple[int, int]:
    try:
        status = os.stat(place)  # noqa: PTH116  # for each of thousands, before every kernel
    except OSError:
        return (0, 0)
    return status.st_mtime_ns, status.st_size


class _Forks:
    """The zygote's loop: forks a supervisor for each request, and imports modules in between."""

    def __init__(self, modules: Sequence[str], loaded: _Loaded) -> None:
        self._pending = list(modules)
        self._loaded = loaded
        self._supervisors: set[int] = set()
        self._control = socket.socket(fileno=_CONTROL)
        signal.signal(signal.SIGCHLD, lambda *_: self._reap())

    def serve(self) -> None:
        """Serve requests; return in forked supervisors only, with their socket and log in place."""
        self._say(event="ready" if self._pending else "settled")
        while True:
            if self._pending and not select.select([_CONTROL], [], [], 0)[0]:
                self._import(self._pending.pop(0))
                if not self._pending:
                    self._say(event="settled")
                continue
            descriptors = self._receive()
            if len(descriptors) != 2 or self._loaded.stale():
                self._end()
            if not self._fork(descriptors):
                return

    def _say(self, **message: str) -> None:
        self._control.sendall(json.dumps(message).encode() + b"\n")

    def _import(self, name: str) -> None:
        self._say(event="importing", name=name)
        with kernel_surroundings(_launcher()) as folder, self._loaded.watch, self._loaded.looking_in(folder):
            import_deeply(name)
        _require_one_thread(name)
        self._loaded.note()
        gc.collect()
        gc.freeze()
        self._say(event="imported", name=name)

    def _receive(self) -> list[int]:
        numbers = array.array("i")
        try:
            _, ancillary, _, _ = self._control.recvmsg(1, socket.CMSG_SPACE(2 * numbers.itemsize))
        except ConnectionError:
            return []
        for level, kind, content in ancillary:
            if (level, kind) == (socket.SOL_SOCKET, socket.SCM_RIGHTS):
                numbers.frombytes(content[: len(content) - len(content) % numbers.itemsize])
        return list(numbers)

    def _fork(self, descriptors: list[int]) -> int:
        supervisor_pid = os.fork()
        if supervisor_pid:
            self._supervisors.add(supervisor_pid)
            for number in descriptors:
                os.close(number)
            return supervisor_pid
        os.setsid()
        socket_end, log = descriptors
        # The supervisor's socket replaces the control socket as descriptor 0.
        self._control.detach()
        os.dup2(socket_end, supervisor.SOCKET)
        os.dup2(log, 1)
        os.dup2(log, 2)
        os.close(socket_end)
        os.close(log)
        return 0

    def _reap(self) -> None:
        for supervisor_pid in tuple(self._supervisors):
            # A second signal may arrive while the first one is handled, and find nothing left.
            with contextlib.suppress(ChildProcessError):
                if os.waitpid(supervisor_pid, os.WNOHANG)[0] == 0:
                    continue
            self._supervisors.discard(supervisor_pid)

    def _end(self) -> NoReturn:
        """End after the last supervisor: each detects by its own socket that the worker has ended."""
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
        self._control.close()
        for supervisor_pid in self._supervisors:
            with contextlib.suppress(ChildProcessError):
                os.waitpid(supervisor_pid, 0)
        os._exit(0)


def _require_one_thread(imported: str) -> None:
    """Raise RuntimeError if an import has started a thread, whether known to Python or not."""
    names = [thread.read_text("utf-8").strip() for thread in Path("/proc/self/task").glob("*/comm")]
    unsafe = [name for name in names if name not in _HARMLESS_THREADS]
    if len(unsafe) > 1 or threading.active_count() > 1:
        raise RuntimeError(f"importing {imported} started threads: {names}")


def import_deeply(name: str) -> None:
    """Import a module by its dotted name; ignore a last part that is a class or a function."""
    parts = name.split(".")
    for depth in range(1, len(parts) + 1):
        module_name = ".".join(parts[:depth])
        if importlib.util.find_spec(module_name) is None:
            return
        module = importlib.import_module(module_name)
        if not hasattr(module, "__path__"):
            return


def _load_bare(watch: ImportGraphRecorder) -> None:
    # Steps' kernels are not debugged, and this library costs every kernel 150 ms; a step may still import it.
    sys.modules["debugpy"] = None  # type: ignore[assignment]  # the documented way to make an import fail
    with watch:
        for name in (*_BARE, *_OURS):
            if importlib.util.find_spec(name) is not None:
                importlib.import_module(name)
    # Every kernel loads these, and so has done what they do.
    watch.effects.repeat_all()
    del sys.modules["debugpy"]
    _require_one_thread("ipykernel")


def _load_runtime(path: str, digest: str) -> Mapping[str, ModuleType]:
    """Return nbpipe's modules for steps, loaded beside this process's own ones of the same names; none if damaged."""
    try:
        if hashlib.sha256(Path(path).read_bytes()).hexdigest() != digest:
            return {}
    except OSError:
        return {}
    ours = _take_nbpipe()
    sys.path.insert(0, path)
    try:
        importlib.import_module(_RUNTIME)
    finally:
        sys.path.remove(path)
        provided = _take_nbpipe()
        sys.modules.update(ours)
    return provided


def _take_nbpipe() -> dict[str, ModuleType]:
    """Remove nbpipe's modules, and return them: a step uses the shipped archive, or what its environment has."""
    names = [name for name in sys.modules if name.partition(".")[0] == "nbpipe"]
    return {name: sys.modules.pop(name) for name in names}


def main() -> None:
    """Run a zygote with what its arguments name. Also the main function of its supervisors and kernels."""
    path, digest, *modules = sys.argv[1:]
    environment = dict(os.environ)
    watch = ImportGraphRecorder()
    _load_bare(watch)
    with watch:
        provided = _load_runtime(path, digest)
    # As a kernel does before the first import: the library reads it only once.
    os.environ.setdefault("MPLBACKEND", _INLINE)
    loaded = _Loaded(frozenset(sys.modules), watch, environment, (path, digest), provided)
    loaded.note()
    gc.collect()
    gc.freeze()
    _Forks(modules, loaded).serve()
    become_kernel(*keep(loaded), loaded)


def keep(loaded: _Loaded) -> tuple[dict[str, Any], supervisor.SupervisorRequests]:
    """Supervise the kernel that the socket requests; return in the kernel only."""
    requests = supervisor.SupervisorRequests()
    requests.listen()
    supervisor.announce()
    request = _request(requests)
    # Decided once: a kernel that was started by command does not become a forked one later.
    request["forked"] = forked = os.path.isdir(request["cwd"]) and loaded.suits(request)  # noqa: PTH112  # a plain path
    kernel = supervisor.fork_kernel()
    if kernel:
        good = lambda: forked and not loaded.stale() and loaded.suits(request)  # noqa: E731  # it belongs to this one kernel
        supervisor.supervise(kernel, requests, request["directory"], request["memory"], good)
    return request, requests


def _request(requests: supervisor.SupervisorRequests) -> dict[str, Any]:
    received = bytearray()
    while b"\n" not in received:
        more = os.read(supervisor.SOCKET, 1 << 16)
        if not more:
            os._exit(127)
        received += more
    line, _, after = received.partition(b"\n")
    if after:
        requests.receive(after)
    request: dict[str, Any] = json.loads(line.decode("utf-8", "surrogatepass"))
    return request


def become_kernel(request: dict[str, Any], requests: supervisor.SupervisorRequests, loaded: _Loaded) -> None:
    """Turn this process into the requested kernel, and run it to its end."""
    requests.stop_listening()
    os.chdir(request["cwd"])
    process_memory.restrain(request["memory"] or 0)
    if not request["forked"]:
        supervisor.execute(request["command"], request["env"])
    supervisor_pid = os.getppid()
    os.environ.clear()
    os.environ.update({**request["env"], "JPY_PARENT_PID": str(supervisor_pid)})
    time.tzset()
    tempfile.tempdir = None
    _be_born(request["cwd"])
    sys.argv[:] = [_launcher(), *request["arguments"]]
    sys.orig_argv[:] = request["command"]
    _take_nbpipe()
    if tuple(request["runtime"]) == loaded.runtime:
        sys.modules.update(loaded.provided)
    _reseed()
    sys.modules[WARM] = _warm_module(loaded)
    app = sys.modules["ipykernel.kernelapp"].IPKernelApp.instance(parent_handle=supervisor_pid)
    usual, app.outstream_class = app.outstream_class, f"{WARM}.{kernel_stream.__name__}"
    app.initialize(sys.argv[1:])
    app.outstream_class = usual
    del sys.modules[WARM].kernel_stream
    if "__mp_main__" in sys.modules:
        # multiprocessing's other name for ``__main__``, which is the author's namespace from now on.
        sys.modules["__mp_main__"] = sys.modules["__main__"]
    output_limiter.install()
    app.start()


def _be_born(folder: str) -> None:
    """Let the standard library's records of the process's start be those of this process."""
    logging._startTime = type(logging._startTime)(time.time_ns() if sys.version_info >= (3, 13) else time.time())  # type: ignore[attr-defined]  # noqa: SLF001  # for `relativeCreated`
    multiprocessing: Any = sys.modules.get("multiprocessing.process")
    if multiprocessing is not None:
        multiprocessing.ORIGINAL_DIR = folder


def _launcher() -> str:
    spec = importlib.util.find_spec("ipykernel_launcher")
    return (spec.origin if spec else None) or "ipykernel_launcher.py"


def _reseed() -> None:
    """Reseed numpy's generator; Python reseeds its own in every fork."""
    # Newer versions load this module on first use.
    generators = sys.modules.get("numpy.random")
    if generators is not None:
        generators.seed()


def _warm_module(loaded: _Loaded) -> ModuleType:
    module = ModuleType(WARM, "What a kernel that was forked has beyond a bare one.")
    module.bare = loaded.bare  # type: ignore[attr-defined]  # the interface of this module's docstring
    module.kernel_stream = kernel_stream  # type: ignore[attr-defined]  # until the kernel has its streams
    module.repeat = loaded.watch.effects.repeat  # type: ignore[attr-defined]  # as above
    module.imported = loaded.watch.closure(set(sys.modules) - loaded.bare)  # type: ignore[attr-defined]  # as above
    return module
