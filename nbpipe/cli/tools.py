"""The verbs that help to write and to mend a notebook: ``debug``, ``compare``, ``fmt``, ``lint``, ``init``."""

from __future__ import annotations

import os
import shlex
import subprocess
import sys
from pathlib import Path
from typing import Any

import click

from nbpipe.cli.output import Screen
from nbpipe.cli.verbs import JSON, NOTEBOOK, PARAM, WORKSPACE, cli, request_of
from nbpipe.errors import Refusals, Refused, refuse
from nbpipe.language.notebook import read_notebook
from nbpipe.language.trial import trial_cell
from nbpipe.run.guard import guard
from nbpipe.run.linting import Linted, find_ruff, repaired_cells, ruff_warnings
from nbpipe.run.notebooks import formatted_cells, rewrite
from nbpipe.run.place import absolute
from nbpipe.run.scene import Scene
from nbpipe.views import wire
from nbpipe.views.comparison import Side, comparison_lines, comparison_object
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
    with Workspace.read(absolute(notebook).parent, workspace) as opened:
        scene = opened.recorded_scene(str(absolute(notebook)), step)
    if as_json:
        screen.json(scene_object(scene))
    elif sys.stdin.isatty() and sys.stdout.isatty():
        _session(absolute(notebook), step, workspace, with_locals=with_locals)
    else:
        screen.lines(scene_lines(scene))
        screen.note(f"On a terminal this starts a session. In a notebook: %load_ext nbpipe, %nbpipe debug {step}")


@cli.command()
@click.argument("left", metavar="RUN")
@click.argument("right", metavar="RUN")
@WORKSPACE
@JSON
@click.pass_obj
def compare(screen: Screen, left: str, right: str, workspace: Path | None, as_json: bool) -> None:
    """Show two runs side by side: what went in, what came out, and what differs."""
    with Workspace.read(Path.cwd(), workspace) as opened:
        first, second = Side(*opened.recorded(left)), Side(*opened.recorded(right))
    if as_json:
        screen.json(comparison_object(first, second))
    else:
        screen.lines(comparison_lines(first, second, screen.columns))


@cli.command()
@click.argument("notebooks", nargs=-1, required=True, metavar="NOTEBOOK...", type=click.Path(path_type=Path))
@click.option("--check", is_flag=True, help="Write nothing; exit 1 when a notebook would change.")
@click.option("--long", "style", flag_value="long", help="Every declaration as `#| key: value` lines.")
@click.option("--short", "style", flag_value="short", help="Every declaration on the first line.")
@JSON
@click.pass_obj
def fmt(screen: Screen, notebooks: tuple[Path, ...], *, check: bool, style: str | None, as_json: bool) -> int:
    """Lay out the declarations of steps: a line over 88 columns becomes `#| key: value` lines."""
    told: list[dict[str, Any]] = []
    refused: list[Refused] = []
    for notebook in notebooks:
        try:
            cells = formatted_cells(notebook, style or "auto")
            if not check:
                rewrite(notebook, cells)
        except Refused as error:
            refused.append(_named(error, notebook, several=len(notebooks) > 1))
        except Refusals as errors:
            refused += [_named(error, notebook, several=len(notebooks) > 1) for error in errors.errors]
        else:
            told.append({"notebook": str(notebook), "cells": sorted(cells)})
            if cells and not as_json:
                numbers = ", ".join(map(str, sorted(cells)))
                screen.lines([f"{'would change' if check else 'changed'} {notebook}: cell {numbers}"])
    refuse(refused)
    changed = any(one["cells"] for one in told)
    if as_json:
        screen.json({"notebooks": told})
    elif not changed:
        screen.lines([f"{len(told)} notebook{'s' * (len(told) != 1)} left as written"])
    return int(check and changed)


def _named(error: Refused, notebook: Path, *, several: bool) -> Refused:
    """Get an error that tells which of several notebooks it is about."""
    return type(error)(f"{error.message} ({notebook})", error.hint, error.place) if several else error


@cli.command()
@NOTEBOOK
@PARAM
@click.option("--fix", is_flag=True, help="Declare names that steps read and other steps make, in the notebook file.")
@WORKSPACE
@JSON
@click.pass_obj
def lint(
    screen: Screen, notebook: Path, param: tuple[str, ...], *, fix: bool, workspace: Path | None, as_json: bool
) -> None:
    """Check a notebook without planning or running it, by ruff as well where that is installed."""
    mended = sorted(_mend(notebook)) if fix else []
    if mended and not as_json:
        screen.lines([f"changed {notebook}: cell {', '.join(map(str, mended))}"])
    request = request_of(notebook, workspace, param)
    with Workspace.read(absolute(notebook).parent, workspace) as opened:
        found = opened.check(request)
    ruff = find_ruff()
    linted = ruff_warnings(absolute(notebook), request.reading, ruff) if ruff else Linted(said="ruff is not installed")
    if as_json:
        every = [wire.warning_object(warning) for warning in (*found, *linted.warnings)]
        screen.json({"errors": [], "warnings": every, **({"fixed": mended} if fix else {})})
        return
    screen.warnings([*found, *linted.warnings])
    if linted.said:
        screen.note(f"note: {linted.said}")
    count = len(found) + len(linted.warnings)
    screen.lines([f"{notebook}: {len(request.reading.steps)} steps, {count} warnings"])


def _mend(notebook: Path) -> dict[int, str]:
    mended = repaired_cells(notebook)
    rewrite(notebook, mended)
    return mended


@cli.command()
@click.argument("folder", required=False, default=".", type=click.Path(path_type=Path))
@WORKSPACE
@JSON
@click.pass_obj
def init(screen: Screen, folder: Path, workspace: Path | None, as_json: bool) -> None:
    """Make a workspace in a folder, with its settings file, and a guard for step cells against linters."""
    from_here = folder.parent if folder.suffix == ".ipynb" else folder
    with Workspace.create(from_here, workspace) as opened:
        root = opened.place.root
    guarded = guard(from_here)
    if as_json:
        screen.json({"workspace": str(root), "wrote": list(guarded.wrote), "add": list(guarded.missing)})
        return
    screen.lines([f"workspace {root}", *(f"{told}" for told in guarded.wrote)])
    for told in guarded.missing:
        screen.note(f"note: {told}")


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
