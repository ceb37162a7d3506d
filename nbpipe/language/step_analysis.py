"""What a step's code needs: parameters it reads, definitions it reaches, modules it imports, and what is wrong."""

from __future__ import annotations

import ast
import builtins
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from itertools import dropwhile

from nbpipe.errors import BadPipeline, Refused, SourceLocation, UndeclaredName
from nbpipe.language.declaration_items import input_text
from nbpipe.language.definitions import AnalysedDefinition, SharedDefinitions, order_definitions
from nbpipe.language.ipython_syntax import check_cell, is_plain, parse_cell, too_deep
from nbpipe.language.mutation_analysis import changed_in_place
from nbpipe.language.name_analysis import NameUsage, name_usage
from nbpipe.language.normal_form import NormalForm, normal_form_of
from nbpipe.language.script_references import ScriptReferences, script_references
from nbpipe.language.source_text import lines_of, nearest
from nbpipe.model import Definition, Parameter, PipelineWarning, Step, StepCode

GIVEN = frozenset(dir(builtins)) | {
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
_DYNAMIC = frozenset({"exec", "get_ipython", "globals", "locals", "vars", "setattr"})


@dataclass(frozen=True, slots=True)
class NotebookScope:
    """What surrounds a step: shared definitions, parameters, and which steps make which outputs.

    ``hints`` keeps what has been found for names that nothing gives: one import that is missing, many steps miss.
    ``refused`` names stand in a cell that is wrong, which is told already.
    """

    shared: SharedDefinitions
    parameters: Mapping[str, Parameter]
    makers: Mapping[str, tuple[str, ...]]
    hints: dict[str, str] = field(default_factory=dict)
    refused: frozenset[str] = frozenset()


@dataclass(slots=True)
class _Found:
    parameters: dict[str, None] = field(default_factory=dict)
    definitions: dict[str, list[AnalysedDefinition]] = field(default_factory=dict)
    assigned: set[str] = field(default_factory=set)
    missing: list[tuple[str, AnalysedDefinition | None]] = field(default_factory=list)
    errors: list[Refused] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class _Code:
    """A step's pieces, read: ``trees`` one by one, ``body`` together."""

    trees: tuple[ast.Module, ...]
    body: list[ast.stmt]
    names: NameUsage
    form: NormalForm

    @property
    def dynamic(self) -> bool:
        """Return whether it may bind and read names that cannot be seen in its text."""
        return self.names.stars or bool(self.form.words & _DYNAMIC)


@dataclass(frozen=True, slots=True)
class StepAnalysis:
    """A step's needs, its errors, and the outputs that no statement of it binds."""

    code: StepCode
    errors: tuple[Refused, ...]
    unbound: tuple[str, ...]


def analyse_step(step: Step, around: NotebookScope) -> StepAnalysis:
    """Read a step's code by the rule: a name is an input, else the step's own, else a parameter, else a definition."""
    try:
        return _analysed(step, _read(step), around)
    except Refused as error:
        return StepAnalysis(StepCode((), (), ""), (error,), ())
    except RecursionError:
        return StepAnalysis(StepCode((), (), ""), (too_deep(step.place),), ())


def _read(step: Step) -> _Code:
    places = [SourceLocation(piece.cell, step=step.name) for piece in step.pieces]
    trees = tuple(parse_cell(piece.source, place) for piece, place in zip(step.pieces, places, strict=True))
    body = [statement for tree in trees for statement in tree.body]
    form = normal_form_of(body)
    if not form.simple:
        for piece, place in zip(step.pieces, places, strict=True):
            check_cell(piece.source, place)
    return _Code(trees, body, name_usage(body), form)


def _analysed(step: Step, code: _Code, around: NotebookScope) -> StepAnalysis:
    found = _Found(parameters=dict.fromkeys(name for name in step.options.params if name in around.parameters))
    bound = frozenset([item.name for item in step.inputs] + [item.name for item in step.outputs if item.is_path])
    _own_reads(step, code, around, found, bound)
    _close(around, found, bound, step.place)
    stars = code.names.stars or bool(around.shared.stars)
    if not stars and not _scripts(code, around.shared.always, step.place).runs:
        found.errors += _missing(step, code, around, found, bound)
    taken = around.shared.stars if stars and found.missing else []
    return StepAnalysis(
        _code(step, code, around, found, taken), tuple(found.errors), _unbound(step, code, around, bound)
    )


def _own_reads(step: Step, code: _Code, around: NotebookScope, found: _Found, bound: frozenset[str]) -> None:
    """Take what the step's own code reads, and what an output is that no statement binds."""
    names = code.names
    annotations = names.annotations - names.binds
    strict = names.needs if around.shared.lazy else names.needs | annotations
    for name in sorted(strict - bound):
        own = name in names.binds
        if own and name not in names.early:
            continue
        if not _reach(name, step.place, around, found) and not own and name not in GIVEN:
            found.missing.append((name, None))
    unbound = {item.name for item in step.outputs if not item.is_path} - names.binds
    for name in sorted((unbound | names.unsure | names.mentioned | annotations) - strict - bound):
        _reach_quietly(name, around, found)


def _reach(name: str, place: SourceLocation, around: NotebookScope, found: _Found) -> bool:
    """Take a parameter or a definition called ``name``; say whether there is one."""
    if name in around.parameters and name in around.shared.by_name:
        cell = around.shared.by_name[name][0].definition.cell
        message = f"`{name}` is both a parameter and a definition (cell {cell})"
        found.errors.append(BadPipeline(message, "Rename one of them.", place))
        return True
    if name in around.parameters:
        found.parameters[name] = None
        return True
    try:
        definitions = around.shared.find(name)
    except BadPipeline as error:
        found.errors.append(BadPipeline(error.message, error.hint, place))
        return True
    if definitions:
        found.definitions[name] = definitions
    return bool(definitions)


def _reach_quietly(name: str, around: NotebookScope, found: _Found) -> None:
    """Take a parameter or a definition called ``name`` if that is simply possible."""
    if name in around.parameters:
        found.parameters[name] = None
        return
    try:
        definitions = around.shared.find(name)
    except BadPipeline:
        return
    if definitions:
        found.definitions[name] = definitions


def _close(around: NotebookScope, found: _Found, given: frozenset[str], place: SourceLocation) -> None:
    """Follow what the definitions need in turn."""
    todo = [item for group in found.definitions.values() for item in group] + list(around.shared.always)
    seen: set[int] = set()
    tried: set[str] = set()
    while todo:
        item = todo.pop()
        if id(item) in seen:
            continue
        seen.add(id(item))
        found.assigned |= item.assigns
        for other in item.definition.names:
            found.definitions.setdefault(other, [item])
        for name in sorted(item.now | item.later | item.quiet):
            # Inputs are there when a function is called, but not yet while it is defined.
            if name in found.parameters or (name in given and name not in item.now):
                continue
            if name not in found.definitions and name not in tried:
                tried.add(name)
                if name in item.quiet and name not in item.now | item.later:
                    _reach_quietly(name, around, found)
                elif not _reach(name, place, around, found) and name not in GIVEN:
                    found.missing.append((name, item))
            todo += found.definitions.get(name, [])


def _missing(step: Step, code: _Code, around: NotebookScope, found: _Found, given: frozenset[str]) -> list[Refused]:
    """Return an error for each name that nothing gives."""
    errors: list[Refused] = []
    for name, item in found.missing:
        if name in found.assigned or name in around.refused or (item is not None and name in code.names.binds | given):
            continue
        error = _undeclared(name, step, around, _place(name, step, code) if item is None else step.place)
        if item is not None:
            what = " and ".join(f"`{n}`" for n in item.definition.names[:3]) or "the shared cell"
            message = f"{error.message}; {what} in cell {item.definition.cell}, which this step uses, reads it"
            error = UndeclaredName(message, error.hint, error.place, add=error.add)
        errors.append(error)
    return sorted(errors, key=lambda error: (error.place.cell or 0, error.place.line or 0, error.place.column or 0))


def _undeclared(name: str, step: Step, around: NotebookScope, place: SourceLocation) -> UndeclaredName:
    makers = [maker for maker in around.makers.get(name, ()) if maker != step.name]
    if makers:
        listed = " and ".join(f"`{maker}`" for maker in makers)
        item = name if len(makers) == 1 else f"{name}={makers[0]}.{name}"
        message = f"`{name}` is an output of {listed}, and this step does not declare it"
        # Which of several is meant, only the author knows.
        add = item if len(makers) == 1 else ""
        return UndeclaredName(message, _cure(item, step, place), place, add=add)
    if name in around.shared.explored:
        return UndeclaredName(
            f"`{name}` is made in cell {around.shared.explored[name]}, which is not part of the pipeline",
            f"Make it in a step with `-o {name}` and declare `-i {name}` here, or mark that cell with `#| shared`.",
            place,
        )  # fmt: skip
    if name not in around.hints:
        known = [*around.shared.by_name, *around.parameters, *around.makers]
        hint = nearest(name, known) or nearest(name, GIVEN, cutoff=0.75)
        around.hints[name] = hint or "Define it, declare it as an input, or make it a parameter."
    return UndeclaredName(f"`{name}` is read, and nothing gives it", around.hints[name], place)


def _cure(item: str, step: Step, place: SourceLocation) -> str:
    """Return what to write: the whole value of ``in`` where the cell has one, which cannot be given twice."""
    there = [input_text(declared) for declared in step.inputs if declared.place.cell == place.cell]
    piece = next((piece.source for piece in step.pieces if piece.cell == place.cell), "")
    whole = ", ".join([*there, item])
    written = f"#| in: {whole}" if _IN_LINES.search(piece) else f"-i {whole}"
    return f"Make it `{written}`." if there else f"Add `{written}`."


def _place(name: str, step: Step, code: _Code) -> SourceLocation:
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


def _unbound(step: Step, code: _Code, around: NotebookScope, given: frozenset[str]) -> tuple[str, ...]:
    """Return the value outputs that nothing can bind; code that binds names at run time is believed."""
    if code.dynamic:
        return ()
    known = (code.names.binds, given, around.parameters, around.shared.by_name, around.refused)
    outputs = [item.name for item in step.outputs if not item.is_path]
    return tuple(name for name in outputs if not any(name in names for names in known))


def _code(step: Step, code: _Code, around: NotebookScope, found: _Found, stars: list[AnalysedDefinition]) -> StepCode:
    shared = order_definitions(found.definitions, [*around.shared.always, *stars])
    texts = [piece.source for piece in step.pieces]
    words = code.form.words.union(*(item.words for item in shared))
    modules = dict.fromkeys([*code.form.modules, *(name for item in shared for name in item.modules)])
    scripts = _scripts(code, shared, step.place)
    modules |= dict.fromkeys(scripts.modules)
    itself = bool((words | {name.rpartition(".")[2] for name in modules}) & _READS_ITSELF)
    if itself:
        normal = _raw(_numbered(text) for text in texts)
    else:
        plain = all(is_plain(text) for text in texts)
        normal = code.form.normal if plain else _raw(_body(text) for text in texts)
    return StepCode(
        parameters=tuple(sorted(found.parameters)),
        definitions=tuple(_as_written(item.definition) if itself else item.definition for item in shared),
        normal=normal,
        imports=tuple(modules),
        warnings=(*_warnings(step, code, words), *_hidden(step, scripts)),
        files=scripts.files,
        raw=_raw(_body(text) for text in texts),
    )


def _scripts(code: _Code, shared: Iterable[AnalysedDefinition], place: SourceLocation) -> ScriptReferences:
    """Return the scripts that the step's code and these definitions run."""
    trees = list(code.trees) if "get_ipython" in code.form.words else []
    trees += [parse_cell(item.definition.source, place) for item in shared if "get_ipython" in item.words]
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
            "hidden-code", f"which file `{text}` runs cannot be told, so its changes do not count", hint, step.place
        )


def _as_written(definition: Definition) -> Definition:
    """Return a definition for code that reads its own text: comments and layout count."""
    return replace(definition, normal="raw\n" + definition.source)


def _raw(bodies: Iterable[list[str]]) -> str:
    return "raw\n" + "\n".join("\n".join(body).rstrip() for body in bodies)


def _body(text: str) -> list[str]:
    """Return the lines as written, declarations left out: they are in the key by what they mean."""
    return list(dropwhile(lambda line: line.startswith("#") or not line.strip(), lines_of(text)))


def _numbered(text: str) -> list[str]:
    """Return the lines as written, those of the declaration empty: code that reads itself sees every line's number."""
    lines = lines_of(text)
    at = next((number for number, line in enumerate(lines) if line.strip()), len(lines))
    goes_on = True
    while at < len(lines) and (goes_on or _DIRECTIVE.match(lines[at])):
        goes_on = lines[at].rstrip().endswith("\\") and not _DIRECTIVE.match(lines[at])
        lines[at] = ""
        at += 1
    return lines


def _warnings(step: Step, code: _Code, read: frozenset[str]) -> Iterator[PipelineWarning]:
    outputs = {item.name for item in step.outputs}
    for item in step.inputs:
        if item.name not in read and not (read & _DYNAMIC) and item.name not in outputs:
            yield PipelineWarning("unused-input", f"the input `{item.name}` is not used", "Leave it out.", item.place)
    touched = code.body if step.inputs and code.form.touches else []
    changed = {name for statement in touched for name in changed_in_place(statement)}
    for item in step.inputs:
        if item.name in changed and item.name not in outputs:
            yield PipelineWarning(
                "changed-input", f"the input `{item.name}` is changed in place, which no other step sees",
                f"Declare `-o {item.name}` if others shall have the change.", item.place,
            )  # fmt: skip
