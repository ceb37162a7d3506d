"""Records what a step uses without declaring it, in its kernel: files, folders, paths, modules, programs.

Python raises audit events for opened files, listed folders, imports and started programs (PEP 578), but not for checks
whether a path exists, so ``os.stat`` is hooked too. What native code and child programs read is not visible; for a
program, the files in its command are recorded. Shipped to steps' kernels as source.

Ignored: what belongs to Python, the system or nbpipe (installed modules count by their distributions); what the step
created itself; settings and caches of the user (hidden folders in the home folder); what the import system searches.
The idea of recording a build step's reads and the missing paths that it probed is from mkcheck and Bazel's sandboxes.
"""

from __future__ import annotations

import builtins
import importlib
import json
import os
import pkgutil
import sys
import sysconfig
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping
from functools import wraps
from types import FrameType
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit

from nbpipe.data.directory_listing import names_in
from nbpipe.data.installed_packages import installed
from nbpipe.execution.observation import native_io_hooks
from nbpipe.execution.observation.access_recorder import AccessRecorder, stamped, within
from nbpipe.execution.observation.multiprocessing_hook import accompany

# What the zygote leaves in the kernels that it forks (nbpipe.execution.kernels.zygote).
_WARM = "nbpipe_warm"
_SYSTEM = ("/proc", "/sys", "/dev", "/etc", "/usr", "/lib", "/lib32", "/lib64", "/bin", "/sbin", "/run", "/boot")
_WRITING = os.O_WRONLY | os.O_RDWR | os.O_TRUNC | os.O_APPEND | os.O_CREAT
_MAKING = {"os.mkdir": 0, "os.rename": 1, "os.link": 1, "os.symlink": 1}
# Code that searches for modules and distributions, in folders that do not matter to the step.
_IMPORTING = ("<frozen importlib", os.path.dirname(importlib.__file__) + "/", pkgutil.__file__)
# ``os.path.realpath`` checks each parent of a path, which is not a use of it.
_SPELLING = frozenset({"realpath", "_joinrealpath"})
_lstat, _access = os.lstat, os.access
# Set while a thread is in this module, whose own events are ignored.
_BUSY = threading.local()


_HERE: dict[str, Any] = {}


def begin(job: Mapping[str, Any], folder: str, declared: Iterable[str]) -> None:
    """Start recording what the step uses; ``folder`` is its attempt's."""
    base = os.getcwd()
    frozen = [module["path"] for module in job.get("modules", ())]
    watched = (base, *job.get("roots", ()))
    ignored = (*_ignored(), *job.get("ours", ()), *job.get("site", ()))
    known = frozenset({*frozen, *declared, *map(os.path.realpath, declared)})
    _HERE.update(
        recorder=AccessRecorder(base, ignored, watched, known, os.path.join(folder, "children.jsonl")),
        before=frozenset(sys.modules),
        requested=set(),
        installed=installed(job.get("site", ())),
        site=tuple(job.get("site", ())),
        imports=tuple(job.get("imports", ())),
    )
    if "hook" not in _HERE:
        _hook()
    if _WARM in sys.modules:
        builtins.__import__ = _noting(builtins.__import__)
        importlib.import_module = _noting(importlib.import_module)


def _hook() -> None:
    _HERE["hook"] = _hear
    sys.addaudithook(_hear)
    _watch_stat()
    native_io_hooks.watch(_natively(_read_all), _natively(_write))
    accompany(join, lambda: _HERE["recorder"].for_children() if "recorder" in _HERE else {})


def join(settings: Mapping[str, Any]) -> None:
    """Start recording for the step that has spawned this process."""
    if settings and "recorder" not in _HERE:
        _HERE["recorder"] = AccessRecorder(**settings)
        _hook()


def report() -> dict[str, Any]:
    """Stop recording, and return what the step has used, for the worker."""
    recorder: AccessRecorder = _HERE.pop("recorder")
    recorder.take_in_children()
    builtins.__import__ = getattr(builtins.__import__, "real", builtins.__import__)
    importlib.import_module = getattr(importlib.import_module, "real", importlib.import_module)
    own_states = {name: _own_state(recorder, name) for name in (*recorder.probed, *recorder.listed)}
    return {
        "reads": recorder.reads,
        "listed": recorder.listed,
        "probed": recorder.probed,
        "left": {name: state for name, state in own_states.items() if state is not None},
        "written": list(recorder.written),
        "packages": sorted(set(_packages())),
        "missing": sorted(_missing(recorder.imports)),
        "programs": [json.loads(words) for words in recorder.programs],
        "reinstalled": installed(_HERE["site"]) != _HERE["installed"],
        "site": _HERE["site"],
    }


def _own_state(recorder: AccessRecorder, name: str) -> Any:
    """Return the state that the step itself left of a path that it probed or a folder that it listed, or None."""
    path = os.path.join(recorder.base, name)
    if name not in recorder.listed:
        return "made" if path in recorder.made and os.path.lexists(path) else None
    names = names_in(path)
    own = names is not None and any(os.path.join(path, each) in recorder.made for each in names)
    return names if own else None


def _hear(event: str, arguments: tuple[Any, ...]) -> None:
    """Handle an audit event, except events of this module itself."""
    recorder: AccessRecorder | None = _HERE.get("recorder")
    handler = _EVENTS.get(event)
    if handler is not None and recorder is not None:
        _quietly(handler, recorder, event, arguments)


def _quietly(handler: Callable[..., None], *arguments: Any) -> None:
    """Call a handler, unless this module caused the event."""
    if getattr(_BUSY, "here", False):
        return
    _BUSY.here = True
    try:
        handler(*arguments)
    except (OSError, ValueError):
        # An invalid path: the step's own call reports the error.
        return
    finally:
        _BUSY.here = False


def _open(recorder: AccessRecorder, _event: str, arguments: tuple[Any, ...]) -> None:
    spelled, mode, flags = _spelled(arguments[0]), arguments[1], arguments[2]
    if spelled is None:
        return
    if isinstance(mode, str):
        reads, writes = "r" in mode or "+" in mode, any(letter in mode for letter in "wax+")
    else:
        access = flags & (os.O_WRONLY | os.O_RDWR) if isinstance(flags, int) else 0
        reads, writes = access != os.O_WRONLY, isinstance(flags, int) and bool(flags & _WRITING)
    fresh = (isinstance(mode, str) and any(letter in mode for letter in "wx")) or (
        isinstance(flags, int) and bool(flags & (os.O_TRUNC | os.O_EXCL))
    )
    recorder.opened(spelled, reads=reads and not fresh, writes=writes, fresh=fresh)


def _list(recorder: AccessRecorder, _event: str, arguments: tuple[Any, ...]) -> None:
    spelled = "." if arguments[0] is None else _spelled(arguments[0])
    if spelled is not None and not _imports(sys._getframe(3)):  # noqa: SLF001  # who calls tells why
        recorder.lists(spelled)


def _make(recorder: AccessRecorder, event: str, arguments: tuple[Any, ...]) -> None:
    spelled = _spelled(arguments[_MAKING[event]])
    if spelled is not None and not (event == "os.mkdir" and os.path.lexists(spelled)):
        recorder.makes(spelled)


def _remove(recorder: AccessRecorder, _event: str, arguments: tuple[Any, ...]) -> None:
    spelled = _spelled(arguments[0])
    if spelled is not None and os.path.lexists(spelled):
        recorder.makes(spelled)


def _natively(handler: Callable[[AccessRecorder, str], None]) -> Callable[[str], None]:
    def hear(spelled: str) -> None:
        recorder: AccessRecorder | None = _HERE.get("recorder")
        if recorder is not None:
            _quietly(handler, recorder, spelled)

    return hear


def _read_all(recorder: AccessRecorder, spelled: str) -> None:
    for path, listed in native_io_hooks.paths_below(spelled):
        if listed:
            recorder.lists(path)
        else:
            recorder.looked_at(path, stamped(path))


def _write(recorder: AccessRecorder, spelled: str) -> None:
    # An existing folder may contain files that are not the step's own.
    if not os.path.isdir(spelled):
        recorder.makes(spelled)


def _import(recorder: AccessRecorder, _event: str, arguments: tuple[Any, ...]) -> None:
    recorder.imports.setdefault(str(arguments[0]).partition(".")[0])


def _connect(recorder: AccessRecorder, _event: str, arguments: tuple[Any, ...]) -> None:
    spelled = _spelled(arguments[0])
    if spelled and spelled.startswith("file:"):
        spelled = _database(spelled)
    if spelled and spelled != ":memory:":
        recorder.opened(spelled, reads=True, writes=stamped(spelled) is None)


def _database(uri: str) -> str | None:
    """Return the file that a database's URI names; None for one in memory."""
    parts = urlsplit(uri)
    return None if parse_qs(parts.query).get("mode") == ["memory"] else unquote(parts.path)


def _start(recorder: AccessRecorder, event: str, arguments: tuple[Any, ...]) -> None:
    if event == "os.system":
        recorder.starts(["sh", "-c", os.fsdecode(arguments[0])], None)
        return
    program, words = arguments[0], arguments[1]
    listed = [words] if isinstance(words, str | bytes | os.PathLike) else list(words or ())
    command = [os.fsdecode(word) for word in (program, *listed) if isinstance(word, str | bytes | os.PathLike)]
    folder = arguments[2] if event == "subprocess.Popen" else None
    recorder.starts(command, os.fsdecode(folder) if folder else None)


_EVENTS = {
    "open": _open,
    "os.listdir": _list,
    "os.scandir": _list,
    **dict.fromkeys(_MAKING, _make),
    "os.remove": _remove,
    "os.rmdir": _remove,
    "import": _import,
    "sqlite3.connect": _connect,
    "subprocess.Popen": _start,
    "os.system": _start,
    "os.exec": _start,
    "os.posix_spawn": _start,
}


def _watch_stat() -> None:
    """Record checks whether a path exists, which raise no audit events."""
    os.stat, os.lstat, os.access = _watched(os.stat), _watched(_lstat), _accessed
    _support_as(_access, _accessed)


def _accessed(path: Any, *more: Any, **options: Any) -> bool:
    recorder: AccessRecorder | None = _HERE.get("recorder")
    spelled = _spelled(path)
    if recorder is not None and spelled and options.get("dir_fd") is None:
        _quietly(recorder.looked_at, spelled, stamped(spelled))
    return _access(path, *more, **options)


def _watched(ask: Callable[..., os.stat_result]) -> Callable[..., os.stat_result]:
    @wraps(ask)
    def watched(path: Any, *more: Any, **options: Any) -> os.stat_result:
        recorder: AccessRecorder | None = _HERE.get("recorder")
        spelled = None if recorder is None or options.get("dir_fd") is not None else _spelled(path)
        if recorder is None or not spelled or _imports(sys._getframe(1)):  # noqa: SLF001  # as above
            return ask(path, *more, **options)
        try:
            status = ask(path, *more, **options)
        except (FileNotFoundError, NotADirectoryError):
            _quietly(recorder.looked_at, spelled, None)
            raise
        _quietly(recorder.looked_at, spelled, status)
        return status

    _support_as(ask, watched)
    return watched


def _support_as(real: Callable[..., Any], watched: Callable[..., Any]) -> None:
    for supported in (os.supports_dir_fd, os.supports_fd, os.supports_follow_symlinks, os.supports_effective_ids):
        if real in supported:
            supported.add(watched)


def _imports(frame: FrameType) -> bool:
    """Return whether the caller only searches for modules or resolves a path."""
    return frame.f_code.co_name in _SPELLING or frame.f_code.co_filename.startswith(_IMPORTING)


def _spelled(path: Any) -> str | None:
    """Return a path as text; None for a descriptor."""
    return os.fsdecode(path) if isinstance(path, str | bytes | os.PathLike) else None


def _ignored() -> tuple[str, ...]:
    """Return the folders of Python, the system, and the user's settings and caches."""
    paths = sysconfig.get_paths()
    python = {sys.prefix, sys.base_prefix, sys.exec_prefix, paths["stdlib"], paths["platstdlib"]}
    settings = [os.environ[name] for name in ("MPLCONFIGDIR", "IPYTHONDIR") if os.environ.get(name)]
    return (*_SYSTEM, *sorted(python), os.path.join(os.path.expanduser("~"), "."), *settings)


def _packages() -> Iterator[str]:
    """Yield the names of the installed top-level modules that the step has imported."""
    folders = _HERE["site"]
    used = _used()
    for name, module in list(sys.modules.items()):
        top = name.partition(".")[0]
        if top == "nbpipe" or (name in _HERE["before"] and top not in used):
            continue
        origin = getattr(module, "__file__", None) or next(iter(getattr(module, "__path__", ()) or ()), None)
        for folder in folders:
            if isinstance(origin, str) and within(origin, folder):
                yield _top(origin, folder)


def _used() -> set[str]:
    """Return the top-level modules that were loaded before the step, but that it uses.

    A forked kernel contains what other steps import as well: there, the imports while the step runs are recorded, and
    the zygote knows what these need in turn.
    """
    named = {name.partition(".")[0] for name in _HERE["imports"]}
    warm: Any = sys.modules.get(_WARM)
    if warm is None:
        return named
    bare = {name.partition(".")[0] for name in warm.bare}
    used = named | (_HERE["requested"] - bare)
    needed: set[str] = used.union(*(warm.imported.get(top, ()) for top in used))
    return needed


def _noting(real: Callable[..., Any]) -> Callable[..., Any]:
    """Return an import function that records what is imported, even if it is loaded already."""
    requested: set[str] = _HERE["requested"]

    @wraps(real)
    def noting(name: str, *rest: Any, **named: Any) -> Any:
        level = rest[3] if len(rest) > 3 else named.get("level", 0)
        top = name.partition(".")[0]
        if not level and top and top not in requested:
            requested.add(top)
            _do_as_loaded(top)
        return real(name, *rest, **named)

    vars(noting)["real"] = real
    return noting


def _do_as_loaded(package: str) -> None:
    """Do what the import of a package, and of those that it needs, would do if they were not loaded already."""
    warm: Any = sys.modules.get(_WARM)
    if package in warm.imported:
        for needed in (*sorted(warm.imported[package]), package):
            warm.repeat(needed)


def _top(origin: str, folder: str) -> str:
    """Return the name that a module's file or folder has right below the folder of packages."""
    first = origin[len(folder.rstrip("/")) + 1 :].partition("/")[0]
    return first.partition(".")[0]


def _missing(imports: Iterable[str]) -> Iterator[str]:
    """Yield the top-level modules that were imported in vain."""
    for name in imports:
        if name not in sys.modules and name not in sys.stdlib_module_names and name.isidentifier():
            yield name
