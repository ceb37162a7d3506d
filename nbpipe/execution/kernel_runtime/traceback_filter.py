"""Keeps nbpipe's frames out of the tracebacks that a step's kernel shows. Shipped to steps' kernels as source."""

from __future__ import annotations

import traceback
from collections.abc import Callable, Iterator
from types import TracebackType
from typing import Any

_OURS = "nbpipe"
# Generated cells call this module, and no code of the author is in them.
_RUNTIME = "nbpipe.execution.kernel_runtime.step_runtime"
_CALLS = frozenset({"begin", "load", "path", "save"})


def filter_tracebacks(shell: Any) -> None:
    """Have a shell show tracebacks without the frames of nbpipe, and none at all for a generated cell."""
    shown = shell.InteractiveTB.structured_traceback

    def structured_traceback(kind: Any = None, error: Any = None, trace: Any = None, *rest: Any, **more: Any) -> Any:
        if isinstance(error, BaseException):
            if _is_from_generated_cell(trace):
                return [line.rstrip("\n") for line in traceback.format_exception_only(error)]
            trace = _without_ours(trace)
            _filter_chain(error, trace)
        return shown(kind, error, trace, *rest, **more)

    shell.InteractiveTB.structured_traceback = structured_traceback


def _entries(trace: TracebackType | None) -> Iterator[TracebackType]:
    while trace is not None:
        yield trace
        trace = trace.tb_next


def _module(entry: TracebackType) -> str:
    return str(entry.tb_frame.f_globals.get("__name__") or "")


def _is_ours(entry: TracebackType) -> bool:
    return _module(entry).partition(".")[0] == _OURS


def _is_from_generated_cell(trace: TracebackType | None) -> bool:
    entered: Callable[[TracebackType], bool] = lambda entry: (  # noqa: E731  # for this one question
        _module(entry) == _RUNTIME and entry.tb_frame.f_code.co_name in _CALLS
    )
    return any(entered(entry) for entry in _entries(trace))


def _without_ours(trace: TracebackType | None) -> TracebackType | None:
    """Return a traceback without nbpipe's frames; all of them if there are no others."""
    kept = [entry for entry in _entries(trace) if not _is_ours(entry)]
    if not kept:
        return trace
    for entry, following in zip(kept, [*kept[1:], None], strict=True):
        entry.tb_next = following
    return kept[0]


def _filter_chain(error: BaseException, trace: TracebackType | None) -> None:
    """Do the same for what an error was raised from; an error inside of nbpipe is left out."""
    seen: set[int] = set()
    error.__traceback__ = trace
    current: BaseException | None = error
    while current is not None and id(current) not in seen:
        seen.add(id(current))
        former = current.__cause__ or (None if current.__suppress_context__ else current.__context__)
        if former is not None:
            if all(_is_ours(entry) for entry in _entries(former.__traceback__)):
                current.__cause__, current.__suppress_context__ = None, True
                return
            former.__traceback__ = _without_ours(former.__traceback__)
        current = former
