"""Has the Python processes that a step spawns record what they use, as its forked ones do by themselves.

A process of ``multiprocessing`` or joblib is sent over as a pickle: an object goes with it that, taken out at the other
end, begins to record there. Shipped to steps' kernels as source.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import wraps
from types import ModuleType
from typing import Any

from nbpipe.execution.kernel_runtime.import_hooks import when_loaded

Told = Mapping[str, Any]


class _Companion:
    """Calls ``join`` in the process that takes it out of its pickle, with what ``tell`` says while it is put in."""

    def __init__(self, join: Callable[[Told], None], tell: Callable[[], Told]) -> None:
        self._join = join
        self._tell = tell

    def __reduce__(self) -> tuple[Any, ...]:
        return self._join, (self._tell(),)


def accompany(join: Callable[[Told], None], tell: Callable[[], Told]) -> None:
    """Have ``join`` called in every process that is spawned from now on."""

    def change(module: ModuleType) -> None:
        process = module.BaseProcess
        process.start = _starting(process.start, _Companion(join, tell))

    when_loaded({"multiprocessing.process": change})


def _starting(real: Callable[[Any], None], companion: _Companion) -> Callable[[Any], None]:
    @wraps(real)
    def starting(process: Any) -> None:
        vars(process)["_nbpipe"] = companion
        real(process)

    return starting
