"""Keeps a kernel able to answer after code that deletes or spoils built-in functions. Shipped to kernels as source."""

from __future__ import annotations

import builtins
from typing import Any


def keep_builtins(shell: Any) -> None:
    """Have a shell put back, after each piece of code, the built-in functions without which it could not go on."""
    run = shell.run_code
    names = vars(builtins)
    is_callable = callable
    kept = {name: value for name, value in names.items() if is_callable(value)}

    async def run_code(*arguments: Any, **more: Any) -> Any:
        try:
            return await run(*arguments, **more)
        finally:
            # No built-in name may be used here.
            for name, value in kept.items():
                if name not in names or not is_callable(names[name]):
                    names[name] = value

    shell.run_code = run_code
