"""What a step's code needs: parameters, definitions and modules; and the errors in it."""

from __future__ import annotations

import ast
import builtins
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from copy import copy
from dataclasses import dataclass, field, fields, replace
from itertools import dropwhile

from nbpipe.errors import BadPipeline, Refused, SourceLocation, UndeclaredName
from nbpipe.language.declaration_items import input_text
from nbpipe.language.definition_order import defined_too_early, described, order_definitions
from nbpipe.language.definitions import AnalysedDefinition, SharedDefinitions
from nbpipe.language.ipython_syntax import is_plain, parse_cell, too_deep
from nbpipe.language.mutation_analysis import changed_in_place
from nbpipe.language.output_types import unstorable_outputs
from nbpipe.language.parsed_notebook import CHANGED_INPUT
from nbpipe.language.script_references import ScriptReferences, script_references
from nbpipe.language.source_text import lines_of, nearest
from nbpipe.language.star_imports import exported_names, star_modules
from nbpipe.language.step_text import DYNAMIC_CALLS, StepText, read_text
from nbpipe.model import Definition, Parameter, PipelineWarning, Step, StepCode, StepOutput

BUILTIN_NAMES = frozenset(dir(builtins)) | {
    "get_ipython", "display", "In", "Out", "_", "__", "___", "__name__", "__doc__", "__builtins__", "__spec__",
    "__loader__", "__package__", "__annotations__",
}  # fmt: skip
_READS_ITSELF = frozenset(
    {"getsource", "getsourcelines", "getsourcefile", "findsource", "getcomments", "getblock", "currentframe",
     "_getframe", "_current_frames", "getframeinfo", "f_lineno", "tb_lineno", "co_firstlineno", "co_lines",
     "co_positions", "linecache", "In", "_ih"}
)  # fmt: skip
_IN_LINES = re.compile(r"\A\s*#.*\n#\s?\|")
_DIRECTIVE = re.compile(r"#\s?\|")


@dataclass(frozen=True, slots=True)
class NotebookScope:
    """What surrounds a step: shared definitions, parameters, and which steps make which outputs.

    ``binders`` are the steps whose code binds a name. ``hints`` caches the hints for undefined names: many steps may
    miss the same import. ``refused`` names are in an erroneous cell, which is reported already.
    """

    shared: SharedDefinitions
    parameters: Mapping[str, Parameter]
    makers: Mapping[str, tuple[str, ...]]
    binders: Mapping[str, Sequence[Step]] = field(default_factory=dict)
    hints: dict[str, str] = field(default_factory=dict)
    refused: frozenset[str] = frozenset()


@dataclass(slots=True)
class _StepNeeds:
    parameters: dict[str, None] = field(default_factory=dict)
    definitions: dict[str, list[AnalysedDefinition]] = field(default_factory=dict)
    assigned: set[str] = field(default_factory=set)
    missing: list[tuple[str, AnalysedDefinition | None]] = field(default_factory=list)
    errors: list[Refused] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class StepAnalysis:
    """A step's needs, its errors, the outputs that no statement of it binds, its parsed cells, and the names in it.

    ``doubtful`` are the names that it reads and that only an erroneous cell may define. ``is_complete``: it has no
    errors, and nothing that it reads is undefined.
    """

    step: Step
    code: StepCode
    errors: tuple[Refused, ...]
    unbound: tuple[str, ...]
    trees: tuple[ast.Module, ...] = ()
    identifiers: frozenset[str] = frozenset()
    doubtful: tuple[str, ...] = ()
    is_complete: bool = False


@dataclass(frozen=True, slots=True)
class StepDraft:
    """A step whose code is read, before it is known which settings it gets; or the error that it cannot be read."""

    step: Step
    code: StepText | None = None
    needs: _StepNeeds = field(default_factory=_StepNeeds)
    error: Refused | None = None

    @property
    def body(self) -> list[ast.stmt]:
        """Return the statements of all its cells."""
        return self.code.body if self.code is not None else []

    @property
    def trees(self) -> tuple[ast.Module, ...]:
        """Return its cells one by one; none if it cannot be read."""
        return self.code.trees if self.code is not None else ()

    @property
    def binds(self) -> frozenset[str]:
        """Return the names that the step binds, and its inputs."""
        own = self.code.names.binds if self.code is not None else frozenset[str]()
        return own | {item.name for item in self.step.inputs}

    @property
    def runs_scripts(self) -> bool:
        """Return whether it may use magics or other programs."""
        return self.code is not None and "get_ipython" in self.code.form.identifiers

    @property
    def definitions(self) -> list[AnalysedDefinition]:
        """Return the definitions that it uses."""
        return [item for group in self.needs.definitions.values() for item in group]

    def modules(self, always: Iterable[AnalysedDefinition]) -> list[str]:
        """Return the modules that its code and its definitions import."""
        own = self.code.form.modules if self.code is not None else ()
        return [*own, *(name for item in (*self.definitions, *always) for name in item.modules)]

    def identifiers(self, always: Iterable[AnalysedDefinition]) -> frozenset[str]:
        """Return the names and attributes in its code and its definitions."""
        own = self.code.form.identifiers if self.code is not None else frozenset[str]()
        return own.union(*(item.identifiers for item in (*self.definitions, *always)))


def draft_step(step: Step, scope: NotebookScope) -> StepDraft:
    """Read a step's code by the rule: a name is an input, else the step's own, else a parameter, else a definition."""
    try:
        code = read_text(step)
        needs = _StepNeeds(parameters=dict.fromkeys(name for name in step.options.params if name in scope.parameters))
        _own_reads(step, code, scope, needs, _bound(step))
        _reach_attributes(scope, needs, code.form.identifiers)
        reached = [item for group in needs.definitions.values() for item in group]
        _close(scope, needs, _bound(step), step.place, [*reached, *scope.shared.always])
    except Refused as error:
        return StepDraft(step, error=error)
    except RecursionError:
        return StepDraft(step, error=too_deep(step.place))
    return StepDraft(step, code, needs)


def analyse_step(draft: StepDraft, scope: NotebookScope, settings: Iterable[AnalysedDefinition] = ()) -> StepAnalysis:
    """Return what the step needs, with these settings."""
    if draft.code is None:
        return StepAnalysis(draft.step, StepCode((), (), ""), (draft.error,) if draft.error is not None else (), ())
    try:
        return _analysed(draft.step, draft.code, _copy(draft.needs), scope, list(settings))
    except Refused as error:
        return StepAnalysis(draft.step, StepCode((), (), ""), (error,), ())
    except RecursionError:
        return StepAnalysis(draft.step, StepCode((), (), ""), (too_deep(draft.step.place),), ())


def binders(drafts: Iterable[StepDraft]) -> dict[str, list[Step]]:
    """Return the steps whose code binds each name."""
    bound: dict[str, list[Step]] = {}
    for draft in drafts:
        for name in draft.code.names.binds if draft.code is not None else ():
            bound.setdefault(name, []).append(draft.step)
    return bound


def missing_for(setting: AnalysedDefinition, scope: NotebookScope) -> str:
    """Return a name that a setting needs and steps cannot get; empty if there is none."""
    needs = _StepNeeds()
    _close(scope, needs, frozenset(), SourceLocation(), [setting])
    spoiled = [name for name in sorted(setting.now) if name not in needs.definitions and name not in needs.parameters]
    wanting = [name for name, _ in needs.missing]
    if needs.errors:
        return next((name for name in spoiled if name in scope.shared.by_name), "a name")
    return next(iter(wanting), "") if not scope.shared.stars else ""


def _copy(needs: _StepNeeds) -> _StepNeeds:
    return _StepNeeds(*(copy(getattr(needs, item.name)) for item in fields(needs)))


def _bound(step: Step) -> frozenset[str]:
    return frozenset([item.name for item in step.inputs] + [item.name for item in step.outputs if item.is_path])


def _analysed(
    step: Step, code: StepText, needs: _StepNeeds, scope: NotebookScope, settings: list[AnalysedDefinition]
) -> StepAnalysis:
    bound = _bound(step)
    if settings:
        _close(scope, needs, bound, step.place, list(settings))
    stars = code.names.stars or bool(scope.shared.stars)
    if not _scripts(code, scope.shared.always, step.place).runs:
        undefined = _unexplained(code, scope, needs.missing) if stars else needs.missing
        needs.errors += _missing(step, code, scope, replace(needs, missing=undefined), bound)
    if not code.dynamic:
        needs.errors += unstorable_outputs(step, code.body)
    star_imports = scope.shared.stars if stars and needs.missing else []
    result = _code(step, code, scope, needs, [*settings, *star_imports])
    return StepAnalysis(
        step, result, tuple(needs.errors), _unbound(step, code, scope, bound), code.trees, code.form.identifiers,
        tuple(name for name, _ in needs.missing if name in scope.refused), not (needs.missing or needs.errors),
    )  # fmt: skip


def _own_reads(step: Step, code: StepText, scope: NotebookScope, needs: _StepNeeds, bound: frozenset[str]) -> None:
    """Collect what the step's own code reads, and outputs that no statement binds."""
    names = code.names
    annotations = names.annotations - names.binds
    strict = names.needs if scope.shared.lazy else names.needs | annotations
    for name in sorted(strict - bound):
        own = name in names.binds
        if own and name not in names.early:
            continue
        if not _reach(name, step.place, scope, needs) and not own and name not in BUILTIN_NAMES:
            needs.missing.append((name, None))
    unbound = {item.name for item in step.outputs if not item.is_path} - names.binds
    for name in sorted((unbound | names.unsure | names.mentioned | annotations) - strict - bound):
        _reach_quietly(name, scope, needs)


def _reach(name: str, place: SourceLocation, scope: NotebookScope, needs: _StepNeeds) -> bool:
    """Collect the parameter or definition called ``name``, and return whether there is one."""
    if name in scope.parameters and name in scope.shared.by_name:
        cell = scope.shared.by_name[name][0].definition.cell
        message = f"`{name}` is both a parameter and a definition (cell {cell})"
        needs.errors.append(BadPipeline(message, "Rename one of them.", place))
        return True
    if name in scope.parameters:
        needs.parameters[name] = None
        return True
    # One kernel would not have bound a built-in name yet.
    if name in BUILTIN_NAMES and _stands_below(scope.shared.by_name.get(name, ()), place):
        return False
    try:
        definitions = scope.shared.find(name)
    except BadPipeline as error:
        needs.errors.append(BadPipeline(error.message, error.hint, place))
        return True
    if definitions:
        needs.definitions[name] = definitions
    return bool(definitions)


def _stands_below(items: Iterable[AnalysedDefinition], place: SourceLocation) -> bool:
    return place.cell is not None and all(item.definition.cell > place.cell for item in items)


def _reach_quietly(name: str, scope: NotebookScope, needs: _StepNeeds) -> None:
    """Collect the parameter or definition called ``name`` if there is one; report no errors."""
    if name in scope.parameters:
        needs.parameters[name] = None
        return
    try:
        definitions = scope.shared.find(name)
    except BadPipeline:
        return
    if definitions:
        needs.definitions[name] = definitions


def _close(
    scope: NotebookScope,
    needs: _StepNeeds,
    bound: frozenset[str],
    place: SourceLocation,
    todo: list[AnalysedDefinition],
) -> None:
    """Collect what these definitions need in turn."""
    seen: set[int] = set()
    tried: set[str] = set()
    while todo:
        item = todo.pop()
        if id(item) in seen:
            continue
        seen.add(id(item))
        needs.assigned |= item.assigns
        todo += _reach_attributes(scope, needs, item.identifiers)
        for other in item.definition.names:
            needs.definitions.setdefault(other, [item])
        for name in sorted(item.now | item.later | item.quiet):
            # Inputs are there when a function is called, but not yet while it is defined.
            if name in needs.parameters or (name in bound and name not in item.now):
                continue
            if name not in needs.definitions and name not in tried:
                tried.add(name)
                if name in item.quiet and name not in item.now | item.later:
                    _reach_quietly(name, scope, needs)
                elif not _reach(name, place, scope, needs) and name not in BUILTIN_NAMES:
                    needs.missing.append((name, item))
            todo += needs.definitions.get(name, [])


def _reach_attributes(scope: NotebookScope, needs: _StepNeeds, identifiers: frozenset[str]) -> list[AnalysedDefinition]:
    """Collect and return the definitions whose attributes of a library's objects some code uses."""
    added = [
        item for name in sorted(scope.shared.attributes.keys() & identifiers) for item in scope.shared.attributes[name]
    ]
    for item in added:
        needs.definitions.setdefault(item.definition.names[0], [item])
    return added


def _missing(
    step: Step, code: StepText, scope: NotebookScope, needs: _StepNeeds, bound: frozenset[str]
) -> list[Refused]:
    """Return an error for each undefined name."""
    errors: list[Refused] = []
    for name, item in needs.missing:
        if item is not None and name in bound and name in item.now:
            errors.append(defined_too_early(name, item, step))
        if name in needs.assigned or name in scope.refused or (item is not None and name in code.names.binds | bound):
            continue
        error = _undeclared(name, step, scope, _place(name, step, code) if item is None else step.place)
        if item is not None:
            message = f"{error.message}; {described(item)}, which this step uses, reads it"
            error = UndeclaredName(message, error.hint, error.place, add=error.add)
        errors.append(error)
    return sorted(errors, key=lambda error: (error.place.cell or 0, error.place.line or 0, error.place.column or 0))


def _unexplained(
    code: StepText, scope: NotebookScope, missing: list[tuple[str, AnalysedDefinition | None]]
) -> list[tuple[str, AnalysedDefinition | None]]:
    """Return the undefined names that no ``import *`` can be relied on to bind.

    A name that another step or a cell outside the pipeline binds would be theirs in one kernel.
    """
    modules = [*star_modules(code.body), *(module for item in scope.shared.stars for module in item.modules)]
    exported = exported_names(modules)
    elsewhere = scope.shared.explored.keys() | scope.makers.keys()
    return [
        (name, item) for name, item in missing
        if name in elsewhere or (exported is not None and name not in exported)
    ]  # fmt: skip


def _undeclared(name: str, step: Step, scope: NotebookScope, place: SourceLocation) -> UndeclaredName:
    makers = [maker for maker in scope.makers.get(name, ()) if maker != step.name]
    if makers:
        listed = " and ".join(f"`{maker}`" for maker in makers)
        item = name if len(makers) == 1 else f"{name}={makers[0]}.{name}"
        message = f"`{name}` is an output of {listed}, and this step does not declare it"
        # Only the author knows which of several is meant.
        add = item if len(makers) == 1 else ""
        return UndeclaredName(message, _cure(item, step, place), place, add=add)
    elsewhere = _bound_elsewhere(name, step, scope, place)
    if elsewhere is not None:
        return elsewhere
    if name not in scope.hints:
        known = [*scope.shared.by_name, *scope.parameters, *scope.makers]
        hint = nearest(name, known) or nearest(name, BUILTIN_NAMES, cutoff=0.75)
        scope.hints[name] = hint or "Define it, declare it as an input, or make it a parameter."
    return UndeclaredName(f"`{name}` is used but never defined", scope.hints[name], place)


def _bound_elsewhere(name: str, step: Step, scope: NotebookScope, place: SourceLocation) -> UndeclaredName | None:
    """Return the error for a name that a step or a cell outside the pipeline binds: the last one above, if any is."""
    cells = {piece.cell for piece in step.pieces}
    bound: list[tuple[int, Step | None]] = [(cell, None) for cell in scope.shared.explored.get(name, ())]
    bound += [(binder.place.cell or 0, binder) for binder in scope.binders.get(name, ()) if binder.name != step.name]
    if not bound:
        return None
    above = [item for item in bound if item[0] < min(cells)]
    cell, binder = max(above or bound, key=lambda item: item[0])
    if binder is None:
        return UndeclaredName(
            f"`{name}` is defined in cell {cell}, which is not part of the pipeline",
            f"Define it in a step with `-o {name}` and declare `-i {name}` here, or mark that cell with `#| shared`.",
            place,
        )  # fmt: skip
    message = f"`{name}` is bound in step `{binder.name}` (cell {cell}), which does not declare it as an output"
    return UndeclaredName(
        message, f"Add it there with `-o {name}`, and here with `-i {name}`; or bind it in this step.", place
    )


def _cure(item: str, step: Step, place: SourceLocation) -> str:
    """Return the fix: the complete value of ``in`` if the cell has one, because it cannot be set twice."""
    there = [input_text(declared) for declared in step.inputs if declared.place.cell == place.cell]
    piece = next((piece.source for piece in step.pieces if piece.cell == place.cell), "")
    value = ", ".join([*there, item])
    written = f"#| in: {value}" if _IN_LINES.search(piece) else f"-i {value}"
    return f"Make it `{written}`." if there else f"Add `{written}`."


def _place(name: str, step: Step, code: StepText) -> SourceLocation:
    """Return the first place where the step's code reads the name."""
    for piece, tree in zip(step.pieces, code.trees, strict=True):
        reads = [
            (node.lineno, node.col_offset) for node in ast.walk(tree)
            if isinstance(node, ast.Name) and node.id == name and isinstance(node.ctx, ast.Load)
        ]  # fmt: skip
        if reads and is_plain(piece.source):
            line, column = min(reads)
            text = lines_of(piece.source)[line - 1].encode()[:column]
            return SourceLocation(piece.cell, line, len(text.decode()) + 1, step.name)
    return step.place


def _unbound(step: Step, code: StepText, scope: NotebookScope, bound: frozenset[str]) -> tuple[str, ...]:
    """Return the value outputs that nothing can bind; dynamic code may bind any name."""
    if code.dynamic:
        return ()
    sources = (code.names.binds, bound, scope.parameters, scope.shared.by_name, scope.refused)
    outputs = [item.name for item in step.outputs if not item.is_path]
    return tuple(name for name in outputs if not any(name in names for names in sources))


def _code(
    step: Step, code: StepText, scope: NotebookScope, needs: _StepNeeds, more: list[AnalysedDefinition]
) -> StepCode:
    shared = order_definitions(needs.definitions, [*scope.shared.always, *more])
    texts = [piece.source for piece in step.pieces]
    identifiers = code.form.identifiers.union(*(item.identifiers for item in shared if not item.users))
    modules = dict.fromkeys([*code.form.modules, *(name for item in shared for name in item.modules)])
    scripts = _scripts(code, shared, step.place)
    modules |= dict.fromkeys(scripts.modules)
    reads_itself = bool((identifiers | {name.rpartition(".")[2] for name in modules}) & _READS_ITSELF)
    if reads_itself:
        normal = _raw(_numbered(text) for text in texts)
    else:
        normal = code.form.normal if code.plain else _raw(_body(text) for text in texts)
    return StepCode(
        parameters=tuple(sorted(needs.parameters)),
        definitions=tuple(_as_written(item.definition) if reads_itself else item.definition for item in shared),
        normal=normal,
        imports=tuple(modules),
        warnings=(*_warnings(step, code, identifiers), *_hidden(step, scripts)),
        files=scripts.files,
        raw=_raw(_body(text) for text in texts),
    )


def _scripts(code: StepText, shared: Iterable[AnalysedDefinition], place: SourceLocation) -> ScriptReferences:
    """Return the scripts that the step's code and these definitions run."""
    trees = list(code.trees) if "get_ipython" in code.form.identifiers else []
    trees += [parse_cell(item.definition.source, place) for item in shared if "get_ipython" in item.identifiers]
    return script_references(trees)


def _hidden(step: Step, scripts: ScriptReferences) -> Iterator[PipelineWarning]:
    for text in scripts.installing:
        yield PipelineWarning(
            "installs",
            f"`{text}` changes what is installed, so the step's results serve their own run only",
            "Install before the run, in the environment of the notebook's kernel.",
            step.place,
        )
    for text in scripts.hidden:
        hint = "Write its path as it is, or declare the file with `hash`."
        yield PipelineWarning(
            "hidden-code",
            f"the file that `{text}` runs cannot be determined, so changes to it do not count",
            hint,
            step.place,
        )


def _as_written(definition: Definition) -> Definition:
    """Return a definition for code that reads its own text: comments and layout count."""
    return replace(definition, normal="raw\n" + definition.source)


def _raw(bodies: Iterable[list[str]]) -> str:
    return "raw\n" + "\n".join("\n".join(body).rstrip() for body in bodies)


def _body(text: str) -> list[str]:
    """Return the lines as written, without declarations, whose meaning is in the key already."""
    return list(dropwhile(lambda line: line.startswith("#") or not line.strip(), lines_of(text)))


def _numbered(text: str) -> list[str]:
    """Return the lines as written, with the declaration blank: code that reads itself sees line numbers."""
    lines = lines_of(text)
    at = next((number for number, line in enumerate(lines) if line.strip()), len(lines))
    continued = True
    while at < len(lines) and (continued or _DIRECTIVE.match(lines[at])):
        continued = lines[at].rstrip().endswith("\\") and not _DIRECTIVE.match(lines[at])
        lines[at] = ""
        at += 1
    return lines


def _warnings(step: Step, code: StepText, read: frozenset[str]) -> Iterator[PipelineWarning]:
    outputs = {item.name for item in step.outputs}
    for item in step.inputs:
        if item.name not in read and not (read & DYNAMIC_CALLS) and item.name not in outputs:
            hint = "Leave it out."
            if isinstance(item.source, StepOutput):
                hint = "Leave it out; if only the order of the steps matters, write it as `after`."
            yield PipelineWarning("unused-input", f"the input `{item.name}` is not used", hint, item.place)
    touched = code.body if step.inputs and code.form.touches else []
    changed = {name for statement in touched for name in changed_in_place(statement)}
    for item in step.inputs:
        if item.name in changed and item.name not in outputs:
            yield PipelineWarning(
                CHANGED_INPUT, f"the input `{item.name}` is changed in place, which no other step sees",
                f"Declare `-o {item.name}` if other steps should see the change.", item.place,
            )  # fmt: skip
