"""Records which packages import which others, and which environment variables are read during imports."""

from __future__ import annotations

import builtins
import importlib
import sys
from collections import defaultdict
from collections.abc import Callable, Iterable
from contextlib import ExitStack
from types import FrameType, ModuleType
from typing import Any

from nbpipe.execution.kernels.import_effects import ImportEffects

# Variables that the interpreter, the C library or C extensions read without ``os.environ``.
_READ_IN_C = (
    "PYTHON", "LD_", "LC_", "LANG", "MALLOC_", "GLIBC_", "OMP_", "GOMP_", "KMP_", "OPENBLAS_", "GOTO_", "MKL_",
    "BLIS_", "VECLIB_", "NUMEXPR_", "NPY_", "NUMPY_", "ARROW_", "POLARS_", "CUDA_HOME",
)  # fmt: skip

_PASSING_ON = sys.stdlib_module_names | {"_frozen_importlib", "_frozen_importlib_external"}
_OWN = {"__main__", "__mp_main__", "nbpipe"}


def read_in_c(names: Iterable[str]) -> set[str]:
    """Return those variables that C code may have read at the process's start or while libraries were loaded."""
    return {name for name in names if name.startswith(_READ_IN_C)}


class ImportGraphRecorder:
    """Context manager that records imports: ``edges`` maps a package to the packages that it imports.

    ``effects`` has what the imports do to the process, which is undone.
    """

    def __init__(self) -> None:
        self.edges: dict[str, set[str]] = defaultdict(set)
        self.effects = ImportEffects()
        self._recording = ExitStack()
        self._was: tuple[Any, ...] = ()
        self._before: set[str] = set()

    @property
    def variables(self) -> set[str]:
        """Return the environment variables that were read."""
        return self.effects.read

    def closure(self, names: Iterable[str]) -> dict[str, frozenset[str]]:
        """Return, for each third-party package among the modules, all that it imports directly or indirectly."""
        return {top: frozenset(self._reached(top)) for top in _third_party(names)}

    def find_spec(self, name: str, _path: object = None, _target: object = None) -> None:
        """Record, as the first finder, who imports a module for the first time, extension modules included."""
        self._note(sys._getframe(1), name)  # noqa: SLF001  # the documented way to ask who calls

    def __enter__(self) -> None:
        self._before = set(sys.modules)
        self._was = builtins.__import__, importlib.import_module
        builtins.__import__ = _noting(self._note, builtins.__import__)
        importlib.import_module = _noting(self._note, importlib.import_module)
        self._recording.enter_context(self.effects.recorded(_importing))
        sys.meta_path.insert(0, self)

    def __exit__(self, *_: object) -> None:
        self._recording.close()
        builtins.__import__, importlib.import_module = self._was
        sys.meta_path.remove(self)
        for name in set(sys.modules) - self._before:
            self._note_attributes(name)

    def _note_attributes(self, name: str) -> None:
        """Record the modules among a new module's attributes: extension modules import loaded modules in C."""
        top = name.partition(".")[0]
        for value in tuple(vars(sys.modules[name]).values()) if sys.modules[name] is not None else ():
            if isinstance(value, ModuleType):
                package = value.__name__.partition(".")[0]
                if package != top and package not in sys.stdlib_module_names:
                    self.edges[top].add(package)

    def _note(self, frame: FrameType | None, name: str) -> None:
        """Record an import for the package that requested it, skipping the standard library."""
        top = name.partition(".")[0]
        if top in sys.stdlib_module_names:
            return
        while frame is not None and (by := _package_of(frame)) in _PASSING_ON:
            frame = frame.f_back
        if frame is not None and by != top and not _on_behalf_of(top, frame):
            self.edges[by].add(top)

    def _reached(self, top: str) -> set[str]:
        reached: set[str] = set()
        waiting = [top]
        while waiting:
            for package in self.edges.get(waiting.pop(), ()):
                if package not in reached:
                    reached.add(package)
                    waiting.append(package)
        return _third_party(reached) - {top}


def _noting(note: Callable[[FrameType, str], None], real: Callable[..., Any]) -> Callable[..., Any]:
    """Return an import function that records absolute imports; relative ones stay in their package."""

    def noting(name: str, *rest: Any, **named: Any) -> Any:
        level = rest[3] if len(rest) > 3 else named.get("level", 0)
        if not level and not name.startswith("."):
            note(sys._getframe(1), name)  # noqa: SLF001  # as above
        return real(name, *rest, **named)

    return noting


def _on_behalf_of(top: str, frame: FrameType | None) -> bool:
    """Return whether a function imports a package for this very package, which called it."""
    if frame is None or frame.f_code.co_name == "<module>":
        return False
    while frame is not None and _package_of(frame) != top:
        frame = frame.f_back
    return frame is not None


def _importing(frame: FrameType) -> str:
    """Return the package for which a frame's code runs, skipping the standard library."""
    caller: FrameType | None = frame
    while caller is not None and _package_of(caller) in _PASSING_ON:
        caller = caller.f_back
    return "" if caller is None else _package_of(caller)


def _package_of(frame: FrameType) -> str:
    name: str = frame.f_globals.get("__name__", "")
    return name.partition(".")[0]


def _third_party(names: Iterable[str]) -> set[str]:
    """Return the packages among modules that are loaded and are neither the interpreter's nor ours."""
    tops = {name.partition(".")[0] for name in names}
    return {top for top in tops - _PASSING_ON - _OWN if sys.modules.get(top) is not None}
