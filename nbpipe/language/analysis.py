"""What a step's code needs: parameters it reads, definitions it reaches, modules it imports, and what is wrong."""

from __future__ import annotations

import ast
import builtins
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from itertools import dropwhile

from nbpipe.errors import BadPipeline, Place, Refused, UndeclaredName
from nbpipe.language.definitions import Shareable, Shared, imported_modules, normal_form, order
from nbpipe.language.ipython_syntax import is_plain, parse_cell
from nbpipe.language.names import Names, changed_in_place, flat, names_of
from nbpipe.language.text import nearest
from nbpipe.model import Parameter, Step, StepCode, Warned

GIVEN = frozenset(dir(builtins)) | {
    "get_ipython", "display", "In", "Out", "_", "__", "___", "__name__", "__doc__", "__builtins__", "__spec__",
    "__loader__", "__package__", "__annotations__",
}  # fmt: skip
_READS_ITSELF = frozenset({"getsource", "getsourcelines", "getsourcefile", "currentframe", "_getframe", "In", "_ih"})
_DYNAMIC = frozenset({"exec", "get_ipython", "globals", "locals", "vars", "setattr"})


@dataclass(frozen=True, slots=True)
class Around:
    """What surrounds a step: shared definitions, parameters, and which steps make which outputs."""

    shared: Shared
    parameters: Mapping[str, Parameter]
    makers: Mapping[str, tuple[str, ...]]


@dataclass(slots=True)
class _Found:
    parameters: dict[str, None] = field(default_factory=dict)
    definitions: dict[str, list[Shareable]] = field(default_factory=dict)
    errors: list[Refused] = field(default_factory=list)
    stars: bool = False


@dataclass(frozen=True, slots=True)
class Analysed:
    """A step's needs, its errors, and the outputs that no statement of it binds."""

    code: StepCode
    errors: tuple[Refused, ...]
    unbound: tuple[str, ...]


def analyse(step: Step, around: Around) -> Analysed:
    """Read a step's code by the rule: a name is an input, else the step's own, else a parameter, else a definition."""
    trees: list[ast.Module] = []
    for piece in step.pieces:
        try:
            trees.append(parse_cell(piece.source, Place(piece.cell, step=step.name)))
        except Refused as error:
            return Analysed(StepCode((), (), ""), (error,), ())
    whole = ast.Module([statement for tree in trees for statement in tree.body], [])
    names = names_of(whole)
    found = _Found(parameters=dict.fromkeys(name for name in step.options.params if name in around.parameters))
    _declared_parameters(step, around, found)
    given = {item.name for item in step.inputs} | {item.name for item in step.outputs if item.is_path}
    unbound = _unbound(step, names, around, given, whole)
    wanted = names.needs | {item.name for item in step.outputs if item.name not in names.binds} - set(unbound)
    for name in sorted(wanted - given - GIVEN):
        own = name in names.binds
        if own and name not in names.early:
            continue
        if _reach(name, step, around, found) or own:
            continue
        if around.shared.stars or names.stars:
            found.stars = True
        else:
            found.errors.append(_undeclared(name, step, around, _place(whole, name, step)))
    _close(step, around, found, given | names.binds)
    return Analysed(_code(step, around, found, whole), tuple(found.errors), unbound)


def _declared_parameters(step: Step, around: Around, found: _Found) -> None:
    for name in step.options.params:
        if name not in around.parameters:
            hint = nearest(name, around.parameters) or "Give it a default in the parameters cell."
            found.errors.append(BadPipeline(f"there is no parameter `{name}`", hint, step.place))


def _reach(name: str, step: Step, around: Around, found: _Found) -> bool:
    """Take a parameter or a definition called ``name``; say whether there is one."""
    if name in around.parameters and name in around.shared.by_name:
        cell = around.shared.by_name[name][0].definition.cell
        message = f"`{name}` is both a parameter and a definition (cell {cell})"
        found.errors.append(BadPipeline(message, "Rename one of them.", step.place))
        return True
    if name in around.parameters:
        found.parameters[name] = None
        return True
    try:
        definitions = around.shared.find(name)
    except BadPipeline as error:
        found.errors.append(BadPipeline(error.message, error.hint, step.place))
        return True
    if definitions:
        found.definitions[name] = definitions
    return bool(definitions)


def _close(step: Step, around: Around, found: _Found, own: set[str] | frozenset[str]) -> None:
    """Follow what the definitions need in turn."""
    todo = [item for group in found.definitions.values() for item in group] + list(around.shared.always)
    seen: set[int] = set()
    while todo:
        item = todo.pop()
        if id(item) in seen:
            continue
        seen.add(id(item))
        for other in item.definition.names:
            found.definitions.setdefault(other, [item])
        for name in sorted((item.now | item.later) - GIVEN):
            if name in found.definitions:
                todo += found.definitions[name]
            elif _reach(name, step, around, found):
                todo += found.definitions.get(name, [])
            elif name not in own:
                _unknown_in_definition(name, item, step, around, found)


def _unknown_in_definition(name: str, item: Shareable, step: Step, around: Around, found: _Found) -> None:
    if around.shared.stars:
        found.stars = True
        return
    error = _undeclared(name, step, around, step.place)
    what = " and ".join(f"`{n}`" for n in item.definition.names[:3]) or "the shared cell"
    message = f"{error.message}; {what} in cell {item.definition.cell}, which this step uses, reads it"
    found.errors.append(UndeclaredName(message, error.hint, error.place))


def _undeclared(name: str, step: Step, around: Around, place: Place) -> UndeclaredName:
    makers = [maker for maker in around.makers.get(name, ()) if maker != step.name]
    if makers:
        said = " and ".join(f"`{maker}`" for maker in makers)
        add = f"-i {name}" if len(makers) == 1 else f"-i {name}={makers[0]}.{name}"
        return UndeclaredName(
            f"`{name}` is an output of {said}, and this step does not declare it", f"Add `{add}`.", place
        )
    if name in around.shared.explored:
        return UndeclaredName(
            f"`{name}` is made in cell {around.shared.explored[name]}, which is not part of the pipeline",
            f"Make it in a step with `-o {name}` and declare `-i {name}` here, or mark that cell with `#| shared`.",
            place,
        )  # fmt: skip
    known = [*around.shared.by_name, *around.parameters, *around.makers, *GIVEN]
    hint = nearest(name, known) or "Define it, declare it as an input, or make it a parameter."
    return UndeclaredName(f"`{name}` is read, and nothing gives it", hint, place)


def _place(whole: ast.Module, name: str, step: Step) -> Place:
    """Get the first place where the name is read; pieces other than the first keep only the step's place."""
    if len(step.pieces) == 1:
        for node in ast.walk(whole):
            if isinstance(node, ast.Name) and node.id == name:
                return Place(step.pieces[0].cell, node.lineno, node.col_offset + 1, step.name)
    return step.place


def _unbound(step: Step, names: Names, around: Around, given: set[str], whole: ast.Module) -> tuple[str, ...]:
    """Get the value outputs that nothing can bind; code that binds names at run time is believed."""
    called = {node.id for node in ast.walk(whole) if isinstance(node, ast.Name)}
    if names.stars or called & _DYNAMIC:
        return ()
    known = names.binds | given | set(around.parameters) | set(around.shared.by_name)
    return tuple(item.name for item in step.outputs if not item.is_path and item.name not in known)


def _code(step: Step, around: Around, found: _Found, whole: ast.Module) -> StepCode:
    always = [*around.shared.always, *(around.shared.stars if found.stars else [])]
    definitions = order(found.definitions, always)
    texts = [piece.source for piece in step.pieces]
    trees: list[ast.AST] = [whole, *(ast.parse(d.source) for d in definitions if is_plain(d.source))]
    raw = any(not is_plain(text) for text in texts) or _reads_itself(trees)
    return StepCode(
        parameters=tuple(sorted(found.parameters)),
        definitions=definitions,
        normal=_raw(texts) if raw else normal_form(whole.body),
        imports=imported_modules(trees),
        warnings=tuple(_warnings(step, whole, trees)),
    )


def _raw(texts: list[str]) -> str:
    """Get the text as written, declarations left out: they are in the key by what they mean."""
    bodies = (dropwhile(lambda line: line.startswith("#") or not line.strip(), text.splitlines()) for text in texts)
    return "raw\n" + "\n".join("\n".join(body).rstrip() for body in bodies)


def _reads_itself(trees: list[ast.AST]) -> bool:
    words = (
        node.id if isinstance(node, ast.Name) else node.attr if isinstance(node, ast.Attribute) else ""
        for tree in trees
        for node in ast.walk(tree)
    )
    return any(word in _READS_ITSELF for word in words)


def _warnings(step: Step, whole: ast.Module, trees: list[ast.AST]) -> Iterator[Warned]:
    read = {node.id for tree in trees for node in ast.walk(tree) if isinstance(node, ast.Name)}
    outputs = {item.name for item in step.outputs}
    for item in step.inputs:
        if item.name not in read and not (read & _DYNAMIC) and item.name not in outputs:
            yield Warned("unused-input", f"the input `{item.name}` is not used", "Leave it out.", item.place)
    changed = {name for statement in flat(whole.body) for name in changed_in_place(statement)}
    for item in step.inputs:
        if item.name in changed and item.name not in outputs:
            yield Warned(
                "changed-input", f"the input `{item.name}` is changed in place, which no other step sees",
                f"Declare `-o {item.name}` if others shall have the change.", item.place,
            )  # fmt: skip
