"""``nbpipe debug``: an IPython session on a terminal, plain lines or JSON elsewhere."""

from __future__ import annotations

import os
import shlex
import subprocess
import sys
from typing import Any

from nbpipe.authoring.step_context import StepContext
from nbpipe.cli.shell_caller import ShellCaller
from nbpipe.language.debug_cell import debug_cell
from nbpipe.resolve.workspace_layout import absolute
from nbpipe.verbs.debug_calls import DebugResponse
from nbpipe.views import json_output
from nbpipe.views.wording import failure_line


def render_debug(caller: ShellCaller, response: DebugResponse) -> int:
    """Show the context of a step, or start a session with it; return the exit code."""
    screen, context = caller.screen, response.step_context
    if screen.as_json:
        screen.json(context_object(context))
    elif sys.stdin.isatty() and sys.stdout.isatty():
        _session(caller, context.step, with_locals=response.with_locals)
    else:
        screen.lines(context_lines(context))
        screen.note(
            f"On a terminal this starts a session. In a notebook: %load_ext nbpipe, %nbpipe debug {context.step}"
        )
    return 0


def _session(caller: ShellCaller, step: str, *, with_locals: bool) -> None:
    """Start IPython in the notebook's folder, in a process of its own because it takes over the terminal."""
    named, notebook = caller.named_workspace, absolute(caller.saved)
    workspace = f" --workspace {shlex.quote(str(absolute(named)))}" if named else ""
    commands = [f"%nbpipe debug {step}{workspace}"]
    commands += [f"%nbpipe debug {step} --locals{workspace}"] if with_locals else []
    options = ["--no-banner", "--ext=nbpipe", "-i", "-c", "\n".join(reversed(commands))]
    command = [sys.executable, "-m", "IPython", *options]
    subprocess.run(command, cwd=notebook.parent, env={**os.environ, "JPY_SESSION_NAME": notebook.name}, check=False)


def context_lines(context: StepContext) -> list[str]:
    """Return the context of a recorded step as plain lines, its code last."""
    failed = f", which failed: {failure_line(context.failure)}" if context.failure else ""
    lines = [f"step {context.step} as in run {context.run.number if context.run else '?'}{failed}"]
    lines += [f"  {item.name} ({item.format or item.kind}): {', '.join(item.paths)}" for item in context.inputs]
    lines += [f"  {line}" for line in context.parameters.splitlines()]
    lines += [f"note: {note}" for note in context.notes]
    return [*lines, "", *_code(context).splitlines()]


def context_object(context: StepContext) -> dict[str, Any]:
    """Return the context of a recorded step as JSON."""
    return {
        "step": context.step,
        "run": context.run.id if context.run else None,
        "inputs": {
            item.name: {"paths": list(item.paths), "kind": item.kind, "format": item.format} for item in context.inputs
        },
        "parameters": dict(context.values),
        "definitions": context.definitions,
        "code": _code(context),
        "locals": list(context.saved_locals),
        "notes": list(context.notes),
        "error": json_output.failure_object(context.failure),
    }


def _code(context: StepContext) -> str:
    error = f"{context.failure.ename}: {context.failure.evalue}" if context.failure else ""
    return debug_cell(context.pieces, context.line, " ".join(error.split()))
