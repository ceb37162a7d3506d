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
from nbpipe.verbs.responses import DebugResponse
from nbpipe.views import json_output
from nbpipe.views.wording import failure_line


def render_debug(caller: ShellCaller, response: DebugResponse) -> int:
    """Show what a step was given, or start a session with it; return the exit code."""
    screen, scene = caller.screen, response.scene
    if screen.as_json:
        screen.json(scene_object(scene))
    elif sys.stdin.isatty() and sys.stdout.isatty():
        _session(caller, scene.step, with_locals=response.with_locals)
    else:
        screen.lines(scene_lines(scene))
        screen.note(f"On a terminal this starts a session. In a notebook: %load_ext nbpipe, %nbpipe debug {scene.step}")
    return 0


def _session(caller: ShellCaller, step: str, *, with_locals: bool) -> None:
    """Start IPython in the notebook's folder; it is a process of its own, for it owns the terminal."""
    named, notebook = caller.named_workspace, absolute(caller.saved)
    workspace = f" --workspace {shlex.quote(str(absolute(named)))}" if named else ""
    asked = [f"%nbpipe debug {step}{workspace}"]
    asked += [f"%nbpipe debug {step} --locals{workspace}"] if with_locals else []
    command = [sys.executable, "-m", "IPython", "--no-banner", "--ext=nbpipe", "-i", "-c", "\n".join(reversed(asked))]
    subprocess.run(command, cwd=notebook.parent, env={**os.environ, "JPY_SESSION_NAME": notebook.name}, check=False)


def scene_lines(scene: StepContext) -> list[str]:
    """Get what a recorded step was given as plain lines, its code last."""
    failed = f", which failed: {failure_line(scene.failure)}" if scene.failure else ""
    lines = [f"step {scene.step} as in run {scene.run.number if scene.run else '?'}{failed}"]
    lines += [f"  {item.name} ({item.format or item.kind}): {', '.join(item.paths)}" for item in scene.inputs]
    lines += [f"  {line}" for line in scene.parameters.splitlines()]
    lines += [f"note: {note}" for note in scene.notes]
    return [*lines, "", *_code(scene).splitlines()]


def scene_object(scene: StepContext) -> dict[str, Any]:
    """Get the same as JSON."""
    return {
        "step": scene.step,
        "run": scene.run.id if scene.run else None,
        "inputs": {
            item.name: {"paths": list(item.paths), "kind": item.kind, "format": item.format} for item in scene.inputs
        },
        "parameters": dict(scene.values),
        "definitions": scene.definitions,
        "code": _code(scene),
        "locals": list(scene.kept),
        "notes": list(scene.notes),
        "error": json_output.failure_object(scene.failure),
    }


def _code(scene: StepContext) -> str:
    said = f"{scene.failure.ename}: {scene.failure.evalue}" if scene.failure else ""
    return debug_cell(scene.pieces, scene.line, " ".join(said.split()))
