"""Reports the progress of tqdm's bars of any kind. Shipped to steps' kernels as source.

It hooks into the bars instead of reading their text: a notebook's bar prints none, and the text rounds the numbers.
"""

from __future__ import annotations

import os
import time
import weakref
from collections.abc import Callable
from contextlib import suppress
from functools import wraps
from types import ModuleType
from typing import Any

from nbpipe.execution.kernel_runtime.import_hooks import when_loaded

Tell = Callable[[float, float | None, str], None]

_PAUSE = 0.1


class _Outermost:
    """Reports one bar at a time: the first open one, as nested loops have their own bars."""

    def __init__(self, tell: Tell) -> None:
        self._tell = tell
        self._bar: Callable[[], Any] = lambda: None
        self._next = 0.0
        self._process = os.getpid()

    def moved(self, bar: Any, *, over: bool) -> None:
        """Handle a bar's refresh or closing."""
        if os.getpid() != self._process or getattr(bar, "disable", False):
            # A forked process cannot report.
            return
        if self._bar() is None:
            self._bar = weakref.ref(bar)
        now = time.monotonic()
        if self._bar() is bar and (over or now >= self._next):
            self._next = now + _PAUSE
            # A bar may count anything.
            with suppress(TypeError, ValueError, OverflowError):
                self._tell(float(bar.n), None if bar.total is None else float(bar.total), _name(bar))
        if over and self._bar() is bar:
            self._bar = lambda: None


def watch(tell: Tell) -> None:
    """Report the outermost bar from now on, without loading tqdm."""
    outermost = _Outermost(tell)
    when_loaded({"tqdm.std": lambda module: _watch(module, outermost)})


def _watch(module: ModuleType, outermost: _Outermost) -> None:
    bars = module.tqdm
    bars.refresh = _telling(bars.refresh, outermost, over=False)
    bars.close = _telling(bars.close, outermost, over=True)


def _telling(real: Callable[..., Any], outermost: _Outermost, *, over: bool) -> Callable[..., Any]:
    @wraps(real)
    def telling(bar: Any, *arguments: Any, **named: Any) -> Any:
        outermost.moved(bar, over=over)
        return real(bar, *arguments, **named)

    return telling


def _name(bar: Any) -> str:
    return str(getattr(bar, "desc", None) or "").strip().removesuffix(":")
