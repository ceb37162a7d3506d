"""The steps' outputs in the user's namespace: bound when they are ready, awaited by the cell that reads them."""

from __future__ import annotations

import contextlib
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import CodeType, FunctionType
from typing import Any, Self

from nbpipe.data.formats import is_own, libraries, load_here
from nbpipe.data.notebook_classes import share_classes
from nbpipe.errors import NbpipeError, StepFailed
from nbpipe.magics.run_view import RunView
from nbpipe.model import Artifact, ExecutionRecord, ObjectReference, Status
from nbpipe.views.terminal_text import fit
from nbpipe.views.wording import duration, failure_line

# Larger outputs, and those that need a library that is not loaded, are loaded by the cell that reads them.
_AT_ONCE_BYTES = 32 << 20
_HINT_SECONDS = 0.5
_PAUSE = 0.2
# How many results may have outputs that are loaded later, and share objects with those that are bound.
_NEWEST = 8
_FAILURE_COLUMNS = 500


@dataclass(frozen=True, slots=True)
class _Expected:
    """The source of an expected name: a step of a run that is active, or has ended but is not bound yet."""

    step: str
    view: RunView
    classes: Mapping[str, str]


class OutputBindings:
    """The outputs that are bound or expected in this kernel."""

    def __init__(
        self, namespace: dict[str, Any], hint: Callable[[], WaitMessage], path_of: Callable[[Artifact], Path]
    ) -> None:
        self._namespace = namespace
        self._hint = hint
        self._path_of = path_of
        self._bound: dict[str, ObjectReference] = {}
        self._expected: dict[str, _Expected] = {}
        self._renewed: dict[str, _Expected] = {}
        self._own: set[str] = set()
        self._refused: set[ObjectReference] = set()
        self._together: dict[tuple[tuple[str, ObjectReference], ...], dict[int, Any]] = {}

    def expect(self, names: Iterable[str], step: str, view: RunView, classes: Mapping[str, str]) -> None:
        """Expect outputs of a step: cells that read these names wait for them from now on."""
        for name in names:
            self._own.discard(name)
            self._renewed.pop(name, None)
            self._bound.pop(name, None)
            self._expected[name] = _Expected(step, view, classes)

    def expect_too(self, names: Iterable[str], step: str, view: RunView, classes: Mapping[str, str]) -> None:
        """Expect outputs of a step that another one needs: bound names are rebound if the result is new."""
        for name in names:
            if name in self._bound or (name in self._expected and self._expected[name].view is not view):
                self._renewed[name] = _Expected(step, view, classes)
            elif name not in self._own:
                self._expected[name] = _Expected(step, view, classes)

    def forget(self, names: Iterable[str]) -> None:
        """Stop expecting these names, because the user's code binds them."""
        for name in names:
            if self._expected.pop(name, None) or self._renewed.pop(name, None) or self._bound.pop(name, None):
                self._own.add(name)

    @property
    def expected(self) -> frozenset[str]:
        """Return the names that are not bound yet."""
        return frozenset(self._expected)

    @property
    def names(self) -> frozenset[str]:
        """Return the names of bound and expected outputs."""
        return frozenset(self._expected) | frozenset(self._renewed) | frozenset(self._bound)

    def bind(self, artifact: Artifact, *, again: bool = False, beside: Iterable[Artifact] = ()) -> Any:
        """Bind an output to its name in the notebook: the value, or the path of a file or folder.

        ``beside`` are all outputs of the same result: those that are bound share the objects that they shared.
        """
        name = artifact.name
        if not again and self._bound.get(name) == artifact.reference and name in self._namespace:
            self._expected.pop(name, None)
            return self._namespace[name]
        value = self._value(artifact, self._shared(beside))
        self._namespace[name] = value
        self._bound[name] = artifact.reference
        self._expected.pop(name, None)
        return value

    def _shared(self, beside: Iterable[Artifact]) -> dict[int, Any]:
        """Return the shared objects of a result whose outputs are loaded one by one; only of the newest results."""
        result = tuple((artifact.name, artifact.reference) for artifact in beside)
        if not result:
            return {}
        shared = self._together.pop(result, {})
        self._together[result] = shared
        while len(self._together) > _NEWEST:
            self._together.pop(next(iter(self._together)))
        return shared

    def _value(self, artifact: Artifact, together: dict[int, Any]) -> Any:
        try:
            path = self._path_of(artifact)
            if artifact.is_path:
                return path
            return load_here(path, artifact.format, f"output `{artifact.name}`", together)
        except NbpipeError:
            self._refused.add(artifact.reference)
            raise

    def unbind(self, name: str) -> None:
        """Unbind a name that an earlier result was bound to."""
        if self._bound.pop(name, None) is not None:
            self._namespace.pop(name, None)

    def has_come(self) -> bool:
        """Return whether outputs are ready that are cheap to load; any thread may call it, so it changes nothing."""
        renewed = list(self._renewed.values())
        return bool(self._light()) or any(expected.view.is_done(expected.step) for expected in renewed)

    def bind_ready(self) -> None:
        """Bind outputs that are ready and cheap to load."""
        for artifact, expected in self._ready():
            share_classes(self._namespace, expected.classes)
            # If an output cannot be loaded, the cell that reads it reports the error.
            with contextlib.suppress(NbpipeError):
                self.bind(artifact, beside=_outputs(expected))

    def _ready(self) -> list[tuple[Artifact, _Expected]]:
        for name, expected in list(self._renewed.items()):
            artifact = _output(expected.view.succeeded(expected.step), name)
            if artifact is not None and self._bound.get(name) != artifact.reference and name not in self._expected:
                self._expected[name] = expected
            if artifact is not None or expected.view.is_done(expected.step):
                self._renewed.pop(name, None)
        return self._light()

    def _light(self) -> list[tuple[Artifact, _Expected]]:
        ready: list[tuple[Artifact, _Expected]] = []
        for name, expected in list(self._expected.items()):
            artifact = _output(expected.view.succeeded(expected.step), name)
            if artifact is not None and artifact.reference not in self._refused and _is_light(artifact):
                ready.append((artifact, expected))
        return ready

    def await_made(self, name: str) -> None:
        """Wait until the step that produces an output has ended, without binding anything."""
        expected = self._expected.get(name) or self._renewed.get(name)
        if expected is not None:
            self._wait(name, expected)

    def await_names(self, names: Iterable[str]) -> None:
        """Bind these names, waiting for their steps; raise StepFailed if an output is not produced."""
        for name in names:
            if name in self._expected:
                self._await(name, self._expected[name])
            elif name in self._renewed:
                self._await_renewal(name, self._renewed[name])

    def _await_renewal(self, name: str, expected: _Expected) -> None:
        """Wait until it is known whether a bound name has a new result; without one it is not changed."""
        self._wait(name, expected)
        self._ready()
        if name in self._expected:
            self._await(name, self._expected[name])

    def _await(self, name: str, expected: _Expected) -> None:
        self._wait(name, expected)
        artifact = _output(expected.view.succeeded(expected.step), name)
        if artifact is None:
            self.unbind(name)
            raise _missing(name, expected.step, expected.view)
        share_classes(self._namespace, expected.classes)
        self.bind(artifact, beside=_outputs(expected))

    def _wait(self, name: str, expected: _Expected) -> None:
        view, step = expected.view, expected.step
        with self._hint() as hint, _interruptible():
            begin = time.monotonic()
            while not view.is_done(step):
                with view.changed:
                    view.changed.wait(_PAUSE)
                if time.monotonic() - begin > _HINT_SECONDS:
                    hint.say(name, step, view.record(step), time.monotonic() - begin)

    def read_by(self, code: CodeType | None, names: Iterable[str]) -> list[str]:
        """Return the expected names among those that a cell, and the functions it calls, read."""
        awaited = self._expected.keys() | self._renewed.keys()
        names_read = awaited & set(names)
        todo: list[CodeType] = [code] if code is not None else []
        seen: set[CodeType] = set()
        functions = [self._namespace.get(name) for name in names]
        todo += [function.__code__ for function in functions if isinstance(function, FunctionType)]
        while todo:
            code = todo.pop()
            if code in seen:
                continue
            seen.add(code)
            todo += [constant for constant in code.co_consts if isinstance(constant, CodeType)]
            for name in code.co_names:
                if name in awaited:
                    names_read.add(name)
                value = self._namespace.get(name)
                if isinstance(value, FunctionType) and value.__globals__ is self._namespace:
                    todo.append(value.__code__)
        return sorted(names_read)


class WaitMessage:
    """The message about what a cell waits for; short waits show none."""

    def __init__(self, show: Callable[[str, Any], Any]) -> None:
        self._show = show
        self._handle: Any = None
        self._summary = ""
        self._next = 0.0

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        if self._handle is not None:
            self._show(self._summary, self._handle)

    def say(self, name: str, step: str, record: ExecutionRecord | None, seconds: float) -> None:
        """Show what the cell waits for, updated once a second."""
        self._summary = f"waited {duration(seconds)} for `{name}`, an output of {step}"
        if time.monotonic() < self._next:
            return
        self._next = time.monotonic() + 1.0
        state = record.status.value if record else "submitted"
        line = f"waiting for `{name}`, an output of {step} ({state}, {duration(seconds)}); "
        line += "interrupt the kernel to stop waiting; the step continues"
        self._handle = self._show(line, self._handle)


@contextlib.contextmanager
def _interruptible() -> Iterator[None]:
    """Let an interrupt end the waiting; in an async cell it would otherwise only take effect at the next await."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, signal.SIG_DFL if before is None else before)


def _output(record: ExecutionRecord | None, name: str) -> Artifact | None:
    return next((artifact for artifact in record.artifacts if artifact.name == name), None) if record else None


def _outputs(expected: _Expected) -> tuple[Artifact, ...]:
    record = expected.view.succeeded(expected.step)
    return record.artifacts if record is not None else ()


def _is_light(artifact: Artifact) -> bool:
    if artifact.is_path:
        return True
    if not is_own(artifact.format):
        # What another package reads may take any time, or fail.
        return False
    needed = libraries(artifact.format)
    light = artifact.bytes <= _AT_ONCE_BYTES and artifact.format not in ("pickle", "cloudpickle", "figure")
    return light and all(library in sys.modules for library in needed)


def _missing(name: str, step: str, view: RunView) -> StepFailed:
    record = view.record(step)
    if view.error is not None:
        return StepFailed(f"`{name}` is not available: {view.error}")
    if record is None or record.failure is None or record.status is not Status.FAILED:
        ended = record or view.run
        state = ended.status.value if ended else "unknown"
        return StepFailed(f"`{name}` is an output of step {step}, which is {state}", "Run its cell again.")
    failure = fit(failure_line(record.failure), _FAILURE_COLUMNS)
    return StepFailed(f"`{name}` is an output of step {step}, which failed: {failure}",
                      "Fix the step's cell and run it again.")  # fmt: skip
