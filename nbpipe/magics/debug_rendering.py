"""The output of ``debug`` in a notebook."""

from __future__ import annotations

from nbpipe.magics.display import show_lines
from nbpipe.magics.in_kernel_steps import bind_locals, debug
from nbpipe.magics.kernel_session import KernelSession
from nbpipe.verbs.debug_calls import DebugResponse


def render_debug(session: KernelSession, response: DebugResponse) -> None:
    """Show the context of a recorded step, which is bound."""
    show_lines((bind_locals if response.with_locals else debug)(session, response.step_context))
