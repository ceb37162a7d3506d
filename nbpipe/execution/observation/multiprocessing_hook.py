"""Makes Python processes that a step spawns record what they use, as forked ones do anyway.

A process of ``multiprocessing`` or joblib is sent as a pickle: an object is added to it that starts recording when
unpickled. Shipped to steps' kernels as source.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import wraps
from types import ModuleType
from typing import Any

from nbpipe.execution.kernel_runtime.import_hooks import when_loaded

Settings = Mapping[str, Any]


class _Companion:
    """Calls ``join`` in the process that unpickles it, with what ``tell`` returns when it is pickled."""

    def __init__(self, join: Callable[[Settings], None], tell: Callable[[], Settings]) -> None:
        self._join = join
        self._tell = tell

    def __reduce__(self) -> tuple[Any, ...]:
        return self._join, (self._tell(),)


def accompany(join: Callable[[Settings], None], tell: Callable[[], Settings]) -> None:
    """Call ``join`` in every process that is spawned from now on."""

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
