"""nbpipe in a live kernel: ``%load_ext nbpipe`` gives ``%%step``, ``%%nbstep`` and ``%nbpipe``."""

from __future__ import annotations

from typing import Any

from IPython.core.interactiveshell import InteractiveShell

from nbpipe.magics.commands import StepMagics, as_magic
from nbpipe.magics.completion import offer, offer_no_more
from nbpipe.magics.session import Session

__all__ = ["load_ipython_extension", "unload_ipython_extension"]

_HOOKS = "_nbpipe_hooks"


def load_ipython_extension(shell: InteractiveShell) -> None:
    """Give the kernel its magics, and remember from now on which cells it ran."""
    if hasattr(shell, _HOOKS):
        return
    session = Session(shell)
    magics = StepMagics(shell, session)
    shell.register_magics(magics)
    shell.input_transformers_cleanup.append(as_magic)
    offer(shell, session)
    hooks: list[tuple[str, Any]] = [("pre_run_cell", session.cells.before), ("post_run_cell", session.cells.after)]
    for event, hook in hooks:
        shell.events.register(event, hook)
    setattr(shell, _HOOKS, (session, hooks))


def unload_ipython_extension(shell: InteractiveShell) -> None:
    """Take the magics away and stop what was started for them."""
    session, hooks = getattr(shell, _HOOKS, (None, []))
    if session is None:
        return
    for event, hook in hooks:
        shell.events.unregister(event, hook)
    shell.input_transformers_cleanup.remove(as_magic)
    offer_no_more(shell)
    for kind, names in (("cell", ("step", "nbstep")), ("line", ("nbpipe",))):
        for name in names:
            shell.magics_manager.magics[kind].pop(name, None)
    session.close()
    delattr(shell, _HOOKS)
