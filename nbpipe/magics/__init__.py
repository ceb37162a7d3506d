"""nbpipe in a live kernel: ``%load_ext nbpipe`` provides ``%%step``, ``%%nbstep`` and ``%nbpipe``."""

from __future__ import annotations

import builtins
import gc
from dataclasses import dataclass
from typing import Any

from IPython.core.interactiveshell import InteractiveShell

from nbpipe.magics.await_transformer import NAME, AwaitTransformer, await_function
from nbpipe.magics.card_actions import show_card
from nbpipe.magics.display import ErrorDisplay, hint
from nbpipe.magics.front_end_metadata import is_watched
from nbpipe.magics.ipython_completer import offer, offer_no_more
from nbpipe.magics.kernel_session import KernelSession
from nbpipe.magics.output_binder import OutputBinder
from nbpipe.magics.recorded_run_rendering import show_run
from nbpipe.magics.step_magics import StepMagics, as_magic
from nbpipe.widget import CardWidget

__all__ = ["load_ipython_extension", "unload_ipython_extension"]

_HOOKS = "_nbpipe_hooks"


@dataclass(frozen=True, slots=True)
class _Loaded:
    """What the extension has registered in the kernel."""

    session: KernelSession
    hooks: list[tuple[str, Any]]
    waiter: AwaitTransformer


def load_ipython_extension(shell: InteractiveShell) -> None:
    """Register the magics, record the cells that are run from now on, and show the notebook's active runs."""
    if hasattr(shell, _HOOKS):
        return
    session = KernelSession(shell, hint)
    magics = StepMagics(shell, session)
    shell.register_magics(magics)
    shell.input_transformers_cleanup.append(as_magic)
    landing = OutputBinder(shell, session.outputs)
    session.live.landed = landing.tell
    waiter = AwaitTransformer(session.outputs)
    shell.ast_transformers.append(waiter)
    setattr(builtins, NAME, await_function(session.outputs, ErrorDisplay))
    hooks: list[tuple[str, Any]] = [
        ("pre_run_cell", session.cells.before),
        ("pre_run_cell", landing.before),
        ("pre_run_cell", magics.mending.withdraw),
        ("pre_run_cell", CardWidget.finish_all),
        ("pre_run_cell", lambda _info: session.gestures.begin_cell()),
        ("post_run_cell", session.cells.after),
        ("post_run_cell", lambda _result: session.gestures.end_cell()),
    ]
    offer(shell, session)
    for event, hook in hooks:
        shell.events.register(event, hook)
    setattr(shell, _HOOKS, _Loaded(session, hooks, waiter))
    if is_watched(shell) and session.has_workspace:
        with ErrorDisplay():
            _show_again(session)
    # The many objects of the loaded modules make a full collection due, for which the first step cell would wait.
    gc.collect()


def unload_ipython_extension(shell: InteractiveShell) -> None:
    """Unregister the magics and stop what was started for them."""
    loaded: _Loaded | None = getattr(shell, _HOOKS, None)
    if loaded is None:
        return
    for event, hook in loaded.hooks:
        shell.events.unregister(event, hook)
    shell.input_transformers_cleanup.remove(as_magic)
    shell.ast_transformers.remove(loaded.waiter)
    offer_no_more(shell)
    for kind, names in (("cell", ("step", "nbstep")), ("line", ("step", "nbstep", "nbpipe"))):
        for name in names:
            shell.magics_manager.magics[kind].pop(name, None)
    loaded.session.close()
    delattr(builtins, NAME)
    delattr(shell, _HOOKS)


def _show_again(session: KernelSession) -> None:
    """Show the active runs of this notebook, or else its last run, since a restarted kernel does not know them."""
    workspace = session.readable
    live = workspace.runs.live(session.identity)
    for run in live:
        show_card(session, session.live.watch(run.id), None)
    last = None if live else workspace.runs.newest(session.identity)
    if last is not None:
        run, steps = last
        show_run(run, steps, workspace.runs.origin_numbers(steps), workspace.runs.metrics(run.id, steps))
