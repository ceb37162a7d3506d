"""A step in the author's own kernel: what it was given is bound here, its code is offered as a cell, or run at once."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from nbpipe.authoring.step_context import StepContext
from nbpipe.data import private_directory
from nbpipe.data.formats import basename, is_path, load_here
from nbpipe.data.notebook_classes import share_classes
from nbpipe.data.postmortem import read_postmortem
from nbpipe.errors import BadUsage, StepFailed
from nbpipe.language.debug_cell import debug_cell
from nbpipe.magics.kernel_session import KernelSession
from nbpipe.model import JobInput, JobOutput, StepCell
from nbpipe.run.job_factory import definition_digests
from nbpipe.views.wording import failure_line

_SAME = (type(Path()), bool, int, float, complex, str, bytes, list, tuple, dict, set, type(None))
_LISTED = 12


@dataclass(slots=True)
class _Bound:
    """What was bound in the kernel, in words, and which names of the author's were replaced."""

    said: list[str] = field(default_factory=list)
    replaced: list[str] = field(default_factory=list)


def debug(session: KernelSession, scene: StepContext) -> list[str]:
    """Bind what a recorded step was given, offer its code as a new cell, and get what to tell about it."""
    bound = _bind(session, scene)
    failure = scene.failure
    said = f"{failure.ename}: {failure.evalue}".rstrip(": ") if failure else ""
    code = debug_cell(scene.pieces, scene.line, " ".join(said.split()))
    session.shell.set_next_input(code)
    run = f"run {scene.run.number}" if scene.run else "now"
    lines = [f"step {scene.step} as in {run}" + (f", which failed: {failure_line(failure)}" if failure else "")]
    lines += _told(bound, scene)
    if scene.kept:
        lines.append(f"kept of the frame that failed: {_listed(scene.kept)} (%nbpipe debug {scene.step} --locals)")
    return [*lines, "its code is in the new cell below"]


def bind_locals(session: KernelSession, scene: StepContext) -> list[str]:
    """Bind what was kept of the frame that failed as one object, and get what to tell about it."""
    kept = read_postmortem(scene.folder) if scene.folder and scene.failure else None
    if kept is None:
        raise BadUsage(f"nothing was kept of a failing frame of step `{scene.step}`", f"%nbpipe debug {scene.step}")
    name = f"{scene.step}_locals"
    replaced = name in session.shell.user_ns
    session.shell.user_ns[name] = SimpleNamespace(**kept.held)
    where = "the cell" if kept.function == "<module>" else f"{kept.function}()"
    lines = [f"{name} is bound: what {where} held at line {kept.line}: {_listed(kept.held)}"]
    return [*lines, f"replaced here: {name}"] if replaced else lines


def run_here(session: KernelSession, scene: StepContext) -> list[str]:
    """Run a step's code in this kernel with its inputs; nothing is stored. StepFailed when it raises."""
    bound = _bind(session, scene)
    session.outputs.forget(item.name for item in scene.outputs)
    if any(_awaits(session, piece) for piece in scene.pieces):
        # A cell that awaits cannot run inside another one.
        session.shell.set_next_input(debug_cell(scene.pieces))
        return [f"step {scene.step} awaits: run its code in the new cell below", *_told(bound, scene)]
    for piece in scene.pieces:
        _execute(session, scene, piece)
    unbound = [item.name for item in scene.outputs if item.name not in session.shell.user_ns]
    lines = [f"step {scene.step} ran here, and nothing was stored", *_told(bound, scene)]
    return [*lines, f"not bound by its code: {', '.join(unbound)}"] if unbound else lines


def _execute(session: KernelSession, scene: StepContext, piece: StepCell) -> None:
    if not _ran(session, piece.source, silent=False):
        raise StepFailed(f"step {scene.step} failed here, and nothing was stored")


def _awaits(session: KernelSession, piece: StepCell) -> bool:
    shell = session.shell
    plain = shell.transform_cell(piece.source)  # type: ignore[no-untyped-call]
    return bool(shell.should_run_async(piece.source, transformed_cell=plain))


def _bind(session: KernelSession, scene: StepContext) -> _Bound:
    space, bound = session.shell.user_ns, _Bound()
    before = dict(space)
    _define(session, scene, bound)
    share_classes(space, scene.digests)
    fresh = {item.name: _value(item) for item in scene.inputs}
    folder = Path(private_directory.make(private_directory.HERE)) if any(map(_is_path, scene.outputs)) else Path()
    fresh |= {item.name: _place(item, folder) for item in scene.outputs if _is_path(item)}
    if scene.parameters:
        _quietly(session, scene, scene.parameters)
    space.update(fresh)
    names = [*fresh, *scene.values]
    bound.replaced += [name for name in names if name in before and not _same(before[name], space[name])]
    session.outputs.forget(fresh)
    bound.said += [f"{item.name} ({item.format or item.kind})" for item in scene.inputs]
    bound.said += [f"{name} = {space[name]!r}"[:60] for name in scene.values if name in space]
    bound.said += [f"{item.name} → {fresh[item.name]}" for item in scene.outputs if _is_path(item)]
    return bound


def _define(session: KernelSession, scene: StepContext, bound: _Bound) -> None:
    """Make the step's definitions, unless all of them are here as they were: a class made anew is another class."""
    code = session.reading().code.get(scene.step)
    now, space = definition_digests(code) if code else {}, session.shell.user_ns
    differing = [name for name, digest in scene.digests.items() if name not in space or now.get(name) != digest]
    if not differing or not scene.definitions:
        return
    bound.replaced += [name for name in differing if name in space]
    _quietly(session, scene, scene.definitions)


def _quietly(session: KernelSession, scene: StepContext, source: str) -> None:
    if not _ran(session, source, silent=True):
        raise StepFailed(f"what step {scene.step} is given could not be made in this kernel")


def _ran(session: KernelSession, source: str, *, silent: bool) -> bool:
    done = session.shell.run_cell(source, store_history=False, silent=silent)  # type: ignore[no-untyped-call]
    return bool(done.success)


def _value(item: JobInput) -> Any:
    """Return an input as the step's kernel gets it: its value, its Path, or a list of them."""
    paths = [Path(path) for path in item.paths]
    what = f"input `{item.name}`"
    read = paths if item.format is None else [load_here(path, item.format, what) for path in paths]
    return read if item.kind.is_list else read[0]


def _is_path(output: JobOutput) -> bool:
    return output.format is not None and is_path(output.format)


def _place(output: JobOutput, folder: Path) -> Path:
    """Return a path to write to, as the step's kernel gives one, below a temporary folder."""
    format = output.format or ""
    target = folder / output.name / basename(output.name, format.removeprefix("file") if format != "dir" else "")
    (target if format == "dir" else target.parent).mkdir(parents=True)
    return target


def _same(was: Any, now: Any) -> bool:
    return was is now or (type(was) is type(now) and isinstance(was, _SAME) and repr(was) == repr(now))


def _told(bound: _Bound, scene: StepContext) -> list[str]:
    lines = [f"bound: {_listed(bound.said)}"] if bound.said else []
    lines += [f"replaced here: {_listed(bound.replaced)}"] if bound.replaced else []
    return [*lines, *(f"note: {note}" for note in scene.notes)]


def _listed(names: Iterable[str]) -> str:
    found = list(names)
    more = f" and {len(found) - _LISTED} more" if len(found) > _LISTED else ""
    return ", ".join(found[:_LISTED]) + more
