"""The verbs that help to write and to mend a notebook: ``nbpipe debug``."""

from __future__ import annotations

import os
import shlex
import subprocess
import sys
from pathlib import Path
from typing import Any

import click

from nbpipe.cli.output import Screen
from nbpipe.cli.verbs import JSON, NOTEBOOK, WORKSPACE, cli
from nbpipe.language.notebook import read_notebook
from nbpipe.language.trial import trial_cell
from nbpipe.run.place import absolute
from nbpipe.run.scene import Scene
from nbpipe.views import wire
from nbpipe.views.words import failure_line
from nbpipe.workspace import Workspace


@cli.command()
@NOTEBOOK
@click.argument("step")
@click.option("--locals", "with_locals", is_flag=True, help="Bind what was kept of the frame that failed, too.")
@WORKSPACE
@JSON
@click.pass_obj
def debug(
    screen: Screen, notebook: Path, step: str, *, with_locals: bool, workspace: Path | None, as_json: bool
) -> None:
    """Look into a step that failed: an IPython session with its inputs bound and its code at the prompt."""
    read_notebook(notebook)
    with Workspace.open(absolute(notebook).parent, workspace) as opened:
        scene = opened.recorded_scene(str(absolute(notebook)), step)
    if as_json:
        screen.json(scene_object(scene))
    elif sys.stdin.isatty() and sys.stdout.isatty():
        _session(absolute(notebook), step, workspace, with_locals=with_locals)
    else:
        screen.lines(scene_lines(scene))
        screen.note(f"On a terminal this starts a session. In a notebook: %load_ext nbpipe, %nbpipe debug {step}")


def _session(notebook: Path, step: str, workspace: Path | None, *, with_locals: bool) -> None:
    """Start IPython in the notebook's folder; it is a process of its own, for it owns the terminal."""
    place = f" --workspace {shlex.quote(str(absolute(workspace)))}" if workspace else ""
    asked = [f"%nbpipe debug {step}{place}", *([f"%nbpipe debug {step} --locals{place}"] if with_locals else [])]
    command = [sys.executable, "-m", "IPython", "--no-banner", "--ext=nbpipe", "-i", "-c", "\n".join(reversed(asked))]
    subprocess.run(command, cwd=notebook.parent, env={**os.environ, "JPY_SESSION_NAME": notebook.name}, check=False)


def scene_lines(scene: Scene) -> list[str]:
    """Get what a recorded step was given as plain lines, its code last."""
    failed = f", which failed: {failure_line(scene.failure)}" if scene.failure else ""
    lines = [f"step {scene.step} as in run {scene.run.number if scene.run else '?'}{failed}"]
    lines += [f"  {item.name} ({item.format or item.kind}): {', '.join(item.paths)}" for item in scene.inputs]
    lines += [f"  {line}" for line in scene.parameters.splitlines()]
    lines += [f"note: {note}" for note in scene.notes]
    return [*lines, "", *_code(scene).splitlines()]


def scene_object(scene: Scene) -> dict[str, Any]:
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
        "error": wire.failure_object(scene.failure),
    }


def _code(scene: Scene) -> str:
    said = f"{scene.failure.ename}: {scene.failure.evalue}" if scene.failure else ""
    return trial_cell(scene.pieces, scene.line, " ".join(said.split()))
