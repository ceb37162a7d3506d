"""Steps in the author's own kernel: their context is bound, and their code is run or offered as a new cell."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from nbpipe.authoring.step_context import StepContext
from nbpipe.data import private_directory
from nbpipe.data.dataset_tables import load as load_table
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
    """Descriptions of the names that were bound in the kernel, and the author's names that were replaced."""

    descriptions: list[str] = field(default_factory=list)
    replaced: list[str] = field(default_factory=list)


def debug(session: KernelSession, context: StepContext) -> list[str]:
    """Bind a recorded step's context, offer its code as a new cell, and return lines that describe it."""
    bound = _bind(session, context)
    failure = context.failure
    error = f"{failure.ename}: {failure.evalue}".rstrip(": ") if failure else ""
    code = debug_cell(context.pieces, context.line, " ".join(error.split()))
    session.shell.set_next_input(code)
    run = f"run {context.run.number}" if context.run else "now"
    lines = [f"step {context.step} as in {run}" + (f", which failed: {failure_line(failure)}" if failure else "")]
    lines += _report(bound, context)
    if context.saved_locals:
        lines.append(
            f"saved from the frame that failed: {_listed(context.saved_locals)} (%nbpipe debug {context.step} --locals)"
        )
    return [*lines, "its code is in the new cell below"]


def bind_locals(session: KernelSession, context: StepContext) -> list[str]:
    """Bind the saved variables of the frame that failed as one object, and return lines that describe it."""
    postmortem = read_postmortem(context.folder) if context.folder and context.failure else None
    if postmortem is None:
        raise BadUsage(f"step `{context.step}` has no saved frame of a failure", f"%nbpipe debug {context.step}")
    name = f"{context.step}_locals"
    replaced = name in session.shell.user_ns
    session.shell.user_ns[name] = SimpleNamespace(**postmortem.held)
    where = "the cell" if postmortem.function == "<module>" else f"{postmortem.function}()"
    lines = [f"{name} is bound: the variables of {where} at line {postmortem.line}: {_listed(postmortem.held)}"]
    return [*lines, f"replaced here: {name}"] if replaced else lines


def run_here(session: KernelSession, context: StepContext) -> list[str]:
    """Run a step's code in this kernel with its inputs, without storing anything; raise StepFailed if it fails."""
    bound = _bind(session, context)
    session.outputs.forget(item.name for item in context.outputs)
    if any(_awaits(session, piece) for piece in context.pieces):
        # A cell with a top-level await cannot run inside another cell.
        session.shell.set_next_input(debug_cell(context.pieces))
        return [f"step {context.step} awaits: run its code in the new cell below", *_report(bound, context)]
    for piece in context.pieces:
        _execute(session, context, piece)
    unbound = [item.name for item in context.outputs if item.name not in session.shell.user_ns]
    lines = [f"step {context.step} ran here, and nothing was stored", *_report(bound, context)]
    return [*lines, f"not bound by its code: {', '.join(unbound)}"] if unbound else lines


def _execute(session: KernelSession, context: StepContext, piece: StepCell) -> None:
    if not _ran(session, piece.source, silent=False):
        raise StepFailed(f"step {context.step} failed here, and nothing was stored")


def _awaits(session: KernelSession, piece: StepCell) -> bool:
    shell = session.shell
    plain = shell.transform_cell(piece.source)  # type: ignore[no-untyped-call]
    return bool(shell.should_run_async(piece.source, transformed_cell=plain))


def _bind(session: KernelSession, context: StepContext) -> _Bound:
    space, bound = session.shell.user_ns, _Bound()
    before = dict(space)
    _define(session, context, bound)
    share_classes(space, context.digests)
    together: dict[str, dict[int, Any]] = {item.producer: {} for item in context.inputs}
    fresh = {item.name: _value(item, together[item.producer]) for item in context.inputs}
    folder = Path(private_directory.make(private_directory.HERE)) if any(map(_is_path, context.outputs)) else Path()
    fresh |= {item.name: _place(item, folder) for item in context.outputs if _is_path(item)}
    if context.parameters:
        _quietly(session, context, context.parameters)
    space.update(fresh)
    names = [*fresh, *context.values]
    bound.replaced += [name for name in names if name in before and not _same(before[name], space[name])]
    session.outputs.forget(fresh)
    bound.descriptions += [f"{item.name} ({item.format or item.kind})" for item in context.inputs]
    bound.descriptions += [f"{name} = {space[name]!r}"[:60] for name in context.values if name in space]
    bound.descriptions += [f"{item.name} → {fresh[item.name]}" for item in context.outputs if _is_path(item)]
    return bound


def _define(session: KernelSession, context: StepContext, bound: _Bound) -> None:
    """Execute the step's definitions, unless all are unchanged: defining a class again creates a different class."""
    code = session.reading().code.get(context.step)
    now, space = definition_digests(code) if code else {}, session.shell.user_ns
    differing = [name for name, digest in context.digests.items() if name not in space or now.get(name) != digest]
    if not differing or not context.definitions:
        return
    bound.replaced += [name for name in differing if name in space]
    _quietly(session, context, context.definitions)


def _quietly(session: KernelSession, context: StepContext, source: str) -> None:
    if not _ran(session, source, silent=True):
        raise StepFailed(f"the definitions and parameters of step {context.step} could not be executed in this kernel")


def _ran(session: KernelSession, source: str, *, silent: bool) -> bool:
    done = session.shell.run_cell(source, store_history=False, silent=silent)  # type: ignore[no-untyped-call]
    return bool(done.success)


def _value(item: JobInput, together: dict[int, Any]) -> Any:
    """Return an input in the form that the step's kernel gets: a value, a Path, or a list of them."""
    shared = together if item.producer else None
    paths = [Path(path) for path in item.paths]
    what = f"input `{item.name}`"
    if item.table is not None:
        return load_table(item.table.recipe, item.table.schema, item.table.names, paths)
    read = paths if item.format is None else [load_here(path, item.format, what, shared) for path in paths]
    return read if item.kind.is_list else read[0]


def _is_path(output: JobOutput) -> bool:
    return output.format is not None and is_path(output.format)


def _place(output: JobOutput, folder: Path) -> Path:
    """Return a path to write to below a temporary folder, in place of the step's own."""
    format = output.format or ""
    target = folder / output.name / basename(output.name, format.removeprefix("file") if format != "dir" else "")
    (target if format == "dir" else target.parent).mkdir(parents=True)
    return target


def _same(was: Any, now: Any) -> bool:
    return was is now or (type(was) is type(now) and isinstance(was, _SAME) and repr(was) == repr(now))


def _report(bound: _Bound, context: StepContext) -> list[str]:
    lines = [f"bound: {_listed(bound.descriptions)}"] if bound.descriptions else []
    lines += [f"replaced here: {_listed(bound.replaced)}"] if bound.replaced else []
    return [*lines, *(f"note: {note}" for note in context.notes)]


def _listed(names: Iterable[str]) -> str:
    listed = list(names)
    more = f" and {len(listed) - _LISTED} more" if len(listed) > _LISTED else ""
    return ", ".join(listed[:_LISTED]) + more
