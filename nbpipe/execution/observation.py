"""What a step uses without declaring it, seen in its own kernel: files, folders, paths, modules, programs.

Python tells an audit hook of opened files, listed folders, imports and started programs (PEP 578). It tells nobody of
questions whether a path is there, so ``os.stat`` is watched beside it. What native code and child programs read stays
unseen; of a program at least the files that its command names are taken. Shipped to steps' kernels as source.

Left out: what belongs to Python, the system or nbpipe (installed modules count by their distributions); what the step
has made itself; settings and caches of the user (hidden folders in the home folder); what the import system looks
through. The idea of recording a build step's reads
and the paths that it probed in vain is that of mkcheck and of Bazel's sandboxes.
"""

from __future__ import annotations

import builtins
import importlib
import json
import os
import pkgutil
import stat
import sys
import sysconfig
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import wraps
from importlib.util import source_from_cache
from types import FrameType
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit

from nbpipe.data.listing import names_in
from nbpipe.data.packages import installed
from nbpipe.execution.commands import paths_named

Stamp = tuple[int, int, int, int, int]

# What the zygote leaves in the kernels that it forks (nbpipe.execution.zygote).
_WARM = "nbpipe_warm"
_SYSTEM = ("/proc", "/sys", "/dev", "/etc", "/usr", "/lib", "/lib32", "/lib64", "/bin", "/sbin", "/run", "/boot")
_WRITING = os.O_WRONLY | os.O_RDWR | os.O_TRUNC | os.O_APPEND | os.O_CREAT
_MAKING = {"os.mkdir": 0, "os.rename": 1, "os.link": 1, "os.symlink": 1}
# What looks for modules and distributions: it looks through folders that do not matter to the step.
_IMPORTING = ("<frozen importlib", os.path.dirname(importlib.__file__) + "/", pkgutil.__file__)
# The system's own realpath asks about each folder above a path: that is spelling, not looking.
_SPELLING = frozenset({"realpath", "_joinrealpath"})
_stat, _lstat, _access = os.stat, os.lstat, os.access
# Set while a thread is in here: what this does itself is not heard.
_BUSY = threading.local()


def stamp_of(found: os.stat_result) -> Stamp:
    """Get what tells whether a file is still the one it was."""
    return found.st_dev, found.st_ino, found.st_size, found.st_mtime_ns, found.st_ctime_ns


@dataclass(slots=True)
class Recorder:
    """What one step has used. Paths are named as the code spells them: relative to ``base``, or absolute."""

    base: str
    ignored: tuple[str, ...]
    watched: tuple[str, ...]
    declared: frozenset[str]
    children: str
    pid: int = field(default_factory=os.getpid)
    reads: dict[str, Stamp] = field(default_factory=dict)
    listed: dict[str, list[str]] = field(default_factory=dict)
    probed: dict[str, str] = field(default_factory=dict)
    written: dict[str, None] = field(default_factory=dict)
    imports: dict[str, None] = field(default_factory=dict)
    programs: dict[str, None] = field(default_factory=dict)
    made: set[str] = field(default_factory=set)
    extended: dict[str, os.stat_result | None] = field(default_factory=dict)

    def opened(self, spelled: str, *, reads: bool, writes: bool, fresh: bool = True) -> None:
        """Hear that a file is opened; a compiled module stands for its source. One not ``fresh`` keeps what it held."""
        if spelled.endswith(".pyc"):
            spelled = _source_of(spelled)
        path = self._path(spelled)
        if path is None:
            return
        found = _stamped(path)
        if reads and path in self.extended:
            self._sees(self._name(spelled, path), path, self.extended.pop(path))
        elif reads:
            self.asked(spelled, found)
        if writes and not reads and not fresh and not self._own(path):
            # What it held before matters once the step reads it, and a log that is only written to is never read.
            self.extended[path] = found
        if writes:
            self.makes(spelled)

    def asked(self, spelled: str, found: os.stat_result | None) -> None:
        """Hear that somebody looks at a path, and what is there."""
        path = self._path(spelled)
        if path is not None and not self._own(path):
            self._sees(self._name(spelled, path), path, found)

    def _sees(self, name: str, path: str, found: os.stat_result | None) -> None:
        if found is None:
            self._keep("probed", name, "absent")
        elif stat.S_ISREG(found.st_mode):
            self._keep("reads", name, stamp_of(found))
        elif stat.S_ISDIR(found.st_mode) and not self.base.startswith(path.rstrip("/") + "/") and path != self.base:
            self._keep("probed", name, "folder")

    def lists(self, spelled: str) -> None:
        """Hear that a folder is listed: the names in it count."""
        path = self._path(spelled)
        if path is None or self._own(path):
            return
        name = self._name(spelled, path)
        if name not in self.listed:
            found = names_in(path)
            self._keep(*(("probed", name, "absent") if found is None else ("listed", name, self._foreign(path, found))))

    def makes(self, spelled: str) -> None:
        """Hear that a path is written or made."""
        path = self._path(spelled)
        if path is not None:
            self._keep("written", self._name(spelled, path), None)
            self.made.add(path)

    def starts(self, words: Sequence[str], folder: str | None) -> None:
        """Hear that a program is started: files that its command names are read."""
        self._keep("programs", json.dumps(list(words)), None)
        for spelled, listed in paths_named(words, folder or ""):
            found = _stamped(spelled)
            if listed:
                self.lists(spelled)
            elif found is not None and stat.S_ISREG(found.st_mode):
                self.asked(spelled, found)

    def _keep(self, kind: str, name: str, value: Any) -> None:
        getattr(self, kind).setdefault(name, value)
        if os.getpid() != self.pid:
            # A forked child's memory is lost with it.
            line = json.dumps([kind, name, value]) + "\n"
            descriptor = os.open(self.children, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
            try:
                os.write(descriptor, line.encode("utf-8", "surrogatepass"))
            finally:
                os.close(descriptor)

    def _path(self, spelled: str) -> str | None:
        """Get a path from the root, unless it is none of the step's business."""
        path = os.path.normpath(os.path.join(os.getcwd(), spelled))
        if path in self.declared or self._passed_over(path):
            return None
        return path

    def _passed_over(self, path: str) -> bool:
        """Say whether the longest of the folders that hold a path is one to be ignored."""
        ignored = max((len(folder) for folder in self.ignored if _covered(path, folder)), default=-1)
        return ignored > max((len(folder) for folder in self.watched if _within(path, folder)), default=-1)

    def _own(self, path: str) -> bool:
        """Say whether the step itself has made this, or a folder that holds it."""
        while path not in self.made:
            above = os.path.dirname(path)
            if above == path:
                return False
            path = above
        return True

    def _foreign(self, path: str, names: Iterable[str]) -> list[str]:
        return [name for name in names if os.path.join(path, name) not in self.made]

    def _name(self, spelled: str, path: str) -> str:
        if os.path.isabs(spelled) or os.getcwd() != self.base:
            return path
        return os.path.relpath(path, self.base)

    def take_in_children(self) -> None:
        """Take over what forked children have written down."""
        try:
            with open(self.children, encoding="utf-8", errors="surrogatepass") as lines:
                for line in lines:
                    kind, name, value = json.loads(line)
                    getattr(self, kind).setdefault(name, value)
        except FileNotFoundError:
            return


_HERE: dict[str, Any] = {}


def begin(job: Mapping[str, Any], folder: str, declared: Iterable[str]) -> None:
    """Record from now on what the step uses; ``folder`` is its attempt's."""
    base = os.getcwd()
    frozen = [module["path"] for module in job["modules"]]
    watched = (base, *job.get("roots", ()))
    ignored = (*_ignored(), *job.get("ours", ()), *job.get("site", ()))
    known = frozenset({*frozen, *declared, *map(os.path.realpath, declared)})
    _HERE.update(
        recorder=Recorder(base, ignored, watched, known, os.path.join(folder, "children.jsonl")),
        before=frozenset(sys.modules),
        asked=set(),
        installed=installed(job.get("site", ())),
        site=tuple(job.get("site", ())),
        imports=tuple(job.get("imports", ())),
    )
    if "hook" not in _HERE:
        _HERE["hook"] = _hear
        sys.addaudithook(_hear)
        _watch_stat()
    if _WARM in sys.modules:
        builtins.__import__ = _noting(builtins.__import__)
        importlib.import_module = _noting(importlib.import_module)


def report() -> dict[str, Any]:
    """Get what the step has used until now, for the worker."""
    recorder: Recorder = _HERE.pop("recorder")
    recorder.take_in_children()
    builtins.__import__ = getattr(builtins.__import__, "real", builtins.__import__)
    importlib.import_module = getattr(importlib.import_module, "real", importlib.import_module)
    left = {name: _left(recorder, name) for name in (*recorder.probed, *recorder.listed)}
    return {
        "reads": recorder.reads,
        "listed": recorder.listed,
        "probed": recorder.probed,
        "left": {name: state for name, state in left.items() if state is not None},
        "written": list(recorder.written),
        "packages": sorted(set(_packages())),
        "missing": sorted(_missing(recorder.imports)),
        "programs": [json.loads(words) for words in recorder.programs],
        "reinstalled": installed(_HERE["site"]) != _HERE["installed"],
        "site": _HERE["site"],
    }


def _left(recorder: Recorder, name: str) -> Any:
    """Get what the step itself has left where it had found nothing, or in a folder that it had listed."""
    path = os.path.join(recorder.base, name)
    if name in recorder.probed:
        return "made" if path in recorder.made and os.path.lexists(path) else None
    names = names_in(path)
    own = names is not None and any(os.path.join(path, each) in recorder.made for each in names)
    return names if own else None


def _hear(event: str, arguments: tuple[Any, ...]) -> None:
    """Take an audit event; nothing of what this does itself is heard."""
    recorder: Recorder | None = _HERE.get("recorder")
    heard = _EVENTS.get(event)
    if heard is not None and recorder is not None:
        _quietly(heard, recorder, event, arguments)


def _quietly(heard: Callable[..., None], *told: Any) -> None:
    """Take something that happens, unless it happens because of this very module."""
    if getattr(_BUSY, "here", False):
        return
    _BUSY.here = True
    try:
        heard(*told)
    except (OSError, ValueError):
        # A path that the system cannot even look for: the step's own call tells what is wrong with it.
        return
    finally:
        _BUSY.here = False


def _open(recorder: Recorder, _event: str, arguments: tuple[Any, ...]) -> None:
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


def _list(recorder: Recorder, _event: str, arguments: tuple[Any, ...]) -> None:
    spelled = "." if arguments[0] is None else _spelled(arguments[0])
    if spelled is not None and not _imports(sys._getframe(3)):  # noqa: SLF001  # who calls tells why
        recorder.lists(spelled)


def _make(recorder: Recorder, event: str, arguments: tuple[Any, ...]) -> None:
    spelled = _spelled(arguments[_MAKING[event]])
    if spelled is not None and not (event == "os.mkdir" and os.path.lexists(spelled)):
        recorder.makes(spelled)


def _remove(recorder: Recorder, _event: str, arguments: tuple[Any, ...]) -> None:
    spelled = _spelled(arguments[0])
    if spelled is not None and os.path.lexists(spelled):
        recorder.makes(spelled)


def _import(recorder: Recorder, _event: str, arguments: tuple[Any, ...]) -> None:
    recorder.imports.setdefault(str(arguments[0]).partition(".")[0])


def _connect(recorder: Recorder, _event: str, arguments: tuple[Any, ...]) -> None:
    spelled = _spelled(arguments[0])
    if spelled and spelled.startswith("file:"):
        spelled = _database(spelled)
    if spelled and spelled != ":memory:":
        recorder.opened(spelled, reads=True, writes=_stamped(spelled) is None)


def _database(uri: str) -> str | None:
    """Get the file that a database's URI names; None for one in memory."""
    parts = urlsplit(uri)
    return None if parse_qs(parts.query).get("mode") == ["memory"] else unquote(parts.path)


def _start(recorder: Recorder, event: str, arguments: tuple[Any, ...]) -> None:
    if event == "os.system":
        recorder.starts(["sh", "-c", os.fsdecode(arguments[0])], None)
        return
    program, words = arguments[0], arguments[1]
    listed = [words] if isinstance(words, str | bytes | os.PathLike) else list(words or ())
    told = [os.fsdecode(word) for word in (program, *listed) if isinstance(word, str | bytes | os.PathLike)]
    folder = arguments[2] if event == "subprocess.Popen" else None
    recorder.starts(told, os.fsdecode(folder) if folder else None)


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
    """Hear of questions whether a path is there, which no audit event tells."""
    os.stat, os.lstat, os.access = _watched(_stat), _watched(_lstat), _accessed
    _support_as(_access, _accessed)


def _accessed(path: Any, *more: Any, **options: Any) -> bool:
    recorder: Recorder | None = _HERE.get("recorder")
    spelled = _spelled(path)
    if recorder is not None and spelled and options.get("dir_fd") is None:
        _quietly(recorder.asked, spelled, _stamped(spelled))
    return _access(path, *more, **options)


def _watched(ask: Callable[..., os.stat_result]) -> Callable[..., os.stat_result]:
    @wraps(ask)
    def watched(path: Any, *more: Any, **options: Any) -> os.stat_result:
        recorder: Recorder | None = _HERE.get("recorder")
        spelled = None if recorder is None or options.get("dir_fd") is not None else _spelled(path)
        if recorder is None or not spelled or _imports(sys._getframe(1)):  # noqa: SLF001  # as above
            return ask(path, *more, **options)
        try:
            found = ask(path, *more, **options)
        except (FileNotFoundError, NotADirectoryError):
            _quietly(recorder.asked, spelled, None)
            raise
        _quietly(recorder.asked, spelled, found)
        return found

    _support_as(ask, watched)
    return watched


def _support_as(real: Callable[..., Any], watched: Callable[..., Any]) -> None:
    for supported in (os.supports_dir_fd, os.supports_fd, os.supports_follow_symlinks, os.supports_effective_ids):
        if real in supported:
            supported.add(watched)


def _imports(frame: FrameType) -> bool:
    """Say whether code that only looks for modules, or spells a path out, is asking."""
    return frame.f_code.co_name in _SPELLING or frame.f_code.co_filename.startswith(_IMPORTING)


def _spelled(path: Any) -> str | None:
    """Get a path as text; None for a descriptor."""
    return os.fsdecode(path) if isinstance(path, str | bytes | os.PathLike) else None


def _stamped(path: str) -> os.stat_result | None:
    try:
        return _stat(path)
    except (OSError, ValueError):
        return None


def _within(path: str, folder: str) -> bool:
    return path == folder or path.startswith(folder.rstrip("/") + "/")


def _covered(path: str, folder: str) -> bool:
    """Say whether a path lies in a folder; one that ends in ``/.`` means all hidden names in the folder before it."""
    return path.startswith(folder) if folder.endswith("/.") else _within(path, folder)


def _source_of(compiled: str) -> str:
    try:
        return source_from_cache(compiled)
    except ValueError:
        return compiled


def _ignored() -> tuple[str, ...]:
    """Get the folders of Python, the system, and the user's settings and caches."""
    paths = sysconfig.get_paths()
    python = {sys.prefix, sys.base_prefix, sys.exec_prefix, paths["stdlib"], paths["platstdlib"]}
    settings = [os.environ[name] for name in ("MPLCONFIGDIR", "IPYTHONDIR") if os.environ.get(name)]
    return (*_SYSTEM, *sorted(python), os.path.join(os.path.expanduser("~"), "."), *settings)


def _packages() -> Iterator[str]:
    """Get the names of the installed top-level modules that the step has imported."""
    folders = _HERE["site"]
    used = _used()
    for name, module in list(sys.modules.items()):
        top = name.partition(".")[0]
        if top == "nbpipe" or (name in _HERE["before"] and top not in used):
            continue
        origin = getattr(module, "__file__", None) or next(iter(getattr(module, "__path__", ()) or ()), None)
        for folder in folders:
            if isinstance(origin, str) and _within(origin, folder):
                yield _top(origin, folder)


def _used() -> set[str]:
    """Get the top-level modules that were there before the step, and that it uses all the same.

    A warm kernel holds what other steps import as well: there, what code asks for while the step runs is noted, and
    the zygote tells what that needs in turn.
    """
    named = {name.partition(".")[0] for name in _HERE["imports"]}
    warm: Any = sys.modules.get(_WARM)
    if warm is None:
        return named
    bare = {name.partition(".")[0] for name in warm.bare}
    used = named | (_HERE["asked"] - bare)
    needed: set[str] = used.union(*(warm.imported.get(top, ()) for top in used))
    return needed


def _noting(real: Callable[..., Any]) -> Callable[..., Any]:
    """Get an import function that notes what is asked for, although it is loaded already."""
    asked: set[str] = _HERE["asked"]

    @wraps(real)
    def noting(name: str, *rest: Any, **named: Any) -> Any:
        level = rest[3] if len(rest) > 3 else named.get("level", 0)
        if not level and not name.startswith("."):
            asked.add(name.partition(".")[0])
        return real(name, *rest, **named)

    vars(noting)["real"] = real
    return noting


def _top(origin: str, folder: str) -> str:
    """Get the name that a module's file or folder has right below the folder of packages."""
    first = origin[len(folder.rstrip("/")) + 1 :].partition("/")[0]
    return first.partition(".")[0]


def _missing(imports: Iterable[str]) -> Iterator[str]:
    """Get the top-level modules that were asked for and are nowhere."""
    for name in imports:
        if name not in sys.modules and name not in sys.stdlib_module_names and name.isidentifier():
            yield name
