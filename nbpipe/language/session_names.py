"""Steps that look at names of the whole session: a step's kernel has only its own."""

from __future__ import annotations

import ast
from collections.abc import Iterable, Iterator, Mapping, Sequence

from nbpipe.errors import SourceLocation
from nbpipe.language.ast_nodes import children
from nbpipe.language.name_analysis import name_usage
from nbpipe.language.step_analysis import StepAnalysis
from nbpipe.model import PipelineWarning, Step

_CODE = "session-names"
_DISPLAYED = frozenset({"_", "__", "___", "In", "Out", "_ih", "_oh", "_dh", "_i", "_ii", "_iii"})
_LISTING = frozenset({"globals", "locals", "vars", "dir"})
_SHELL = frozenset({"user_ns", "user_global_ns", "user_module"})
_WORDS = _DISPLAYED | _LISTING | _SHELL | {"__main__", "whos", "who", "who_ls"}


def session_name_warnings(analyses: Iterable[StepAnalysis]) -> tuple[PipelineWarning, ...]:
    """Return a warning for each step whose own code lists names of its session, or reads what cells displayed."""
    return tuple(_warning(analysis.step, *found[0]) for analysis in analyses if (found := list(_found(analysis))))


def _found(analysis: StepAnalysis) -> Iterator[tuple[int, int, str]]:
    """Yield the cell, the line and the text of what a step looks at."""
    if analysis.identifiers.isdisjoint(_WORDS):
        return
    for piece, tree in zip(analysis.step.pieces, analysis.trees, strict=False):
        used = name_usage(tree.body)
        unbound = _DISPLAYED & used.needs - used.binds
        for line, text in _looks(tree.body, unbound):
            yield piece.cell, line, text


def _looks(body: Sequence[ast.stmt], unbound: frozenset[str]) -> Iterator[tuple[int, str]]:
    parents: Mapping[int, ast.AST] = {
        id(child): node for statement in body for node in ast.walk(statement) for child in children(node)
    }
    in_functions = {
        id(node) for statement in body for each in ast.walk(statement)
        if isinstance(each, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda | ast.ClassDef)
        for node in ast.walk(each)
    }  # fmt: skip
    for node in (node for statement in body for node in ast.walk(statement)):
        match node:
            case ast.Name(id=name, ctx=ast.Load()) if name in unbound:
                yield node.lineno, name
            case ast.Call(func=ast.Name(id=name), args=[], keywords=[]) if name in _LISTING:
                own = name in ("locals", "vars", "dir") and id(node) in in_functions
                if not own and not _names_one(parents.get(id(node)), parents):
                    yield node.lineno, f"{name}()"
            case ast.Attribute(attr=name, value=ast.Call(func=ast.Name(id="get_ipython"))) if name in _SHELL:
                yield node.lineno, f"get_ipython().{name}"
            case ast.Import(names=names) if any(alias.name == "__main__" for alias in names):
                yield node.lineno, "__main__"


def _names_one(parent: ast.AST | None, parents: Mapping[int, ast.AST]) -> bool:
    """Return whether one name is looked up or bound, which is known from the text: ``globals()["x"]``."""
    if isinstance(parent, ast.Subscript):
        return isinstance(parent.slice, ast.Constant)
    if isinstance(parent, ast.Attribute):
        call = parents.get(id(parent))
        return (
            isinstance(call, ast.Call)
            and parent.attr in ("get", "pop")
            and bool(call.args)
            and isinstance(call.args[0], ast.Constant)
        )
    return False


def _warning(step: Step, cell: int, line: int, text: str) -> PipelineWarning:
    if text in _DISPLAYED:
        message = f"`{step.name}` reads `{text}`, which has only what this step's own kernel executed or displayed"
        hint = "Give the value a name, and declare it as an output and an input."
    else:
        message = f"`{step.name}` looks at `{text}`, which has only this step's own names"
        hint = "A step gets the names that its code mentions: hand over what else it needs, in a dict for example."
    return PipelineWarning(_CODE, message, hint, SourceLocation(cell, line, step=step.name))
