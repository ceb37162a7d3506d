"""The output of ``logs`` and ``pull`` in a notebook."""

from __future__ import annotations

from nbpipe.magics.display import show_lines, show_log
from nbpipe.magics.kernel_session import KernelSession
from nbpipe.verbs.result_calls import LogResponse, PullResponse
from nbpipe.views import log_text


def render_log(_session: KernelSession, response: LogResponse) -> None:
    """Show the output of a step."""
    show_log(response.log, log_text.origin_line(response.log, response.step, response.numbers))


def render_pulled(session: KernelSession, response: PullResponse) -> None:
    """Show where an output was copied to, or that it is bound."""
    artifact = response.artifact
    if response.path is not None:
        path = response.path
        shown = path.relative_to(session.base) if path.is_relative_to(session.base) else path
        show_lines([f"{response.output} → {shown}"])
        return
    session.outputs.await_names([artifact.name])
    session.outputs.bind(artifact, again=True)
    show_lines([f"{artifact.name} is bound: {artifact.format}, {artifact.bytes:,} bytes"])
