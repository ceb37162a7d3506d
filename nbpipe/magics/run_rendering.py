"""A run that is carried out for a notebook: in the background, while a cell waits, or in the kernel itself."""

from __future__ import annotations

from nbpipe.magics.blocking_run import run_and_wait
from nbpipe.magics.card_actions import show_card
from nbpipe.magics.display import show_lines
from nbpipe.magics.front_end_metadata import is_watched
from nbpipe.magics.in_kernel_steps import run_here
from nbpipe.magics.kernel_session import KernelSession
from nbpipe.verbs.run_calls import DetachedResponse, InKernelRequest, RunRequest
from nbpipe.workspace.step_contexts import context_now


def carry_out(session: KernelSession, response: RunRequest) -> None:
    """Submit the steps and show their card; without a front end, wait for them."""
    if is_watched(session.shell):
        show_card(session, session.submit(response.request, session.executed_cells(), response.run_options), None)
    else:
        run_and_wait(session, response.request, response.run_options)


def run_step_here(session: KernelSession, response: InKernelRequest) -> None:
    """Run a step's code in this kernel, and show what it bound."""
    context = context_now(session.workspace, response.request, response.step)
    show_lines(run_here(session, context))


def render_detached(_session: KernelSession, response: DetachedResponse) -> None:
    """Show the run that continues in the background."""
    show_lines([f"run {response.run.number} continues in the background: %nbpipe status, %nbpipe cancel"])
