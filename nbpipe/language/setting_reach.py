"""Which settings each step gets: those above it that concern a library that it uses, by imports or through values."""

from __future__ import annotations

import ast
import builtins
import sys
from collections.abc import Iterable, Mapping, Sequence

from nbpipe.language.definitions import AnalysedDefinition
from nbpipe.language.qualified_names import QualifiedNames
from nbpipe.language.setting_table import FORMAT_PACKAGES, concerns, libraries_used
from nbpipe.language.step_analysis import NotebookScope, StepDraft
from nbpipe.model import Input, StepOutput

# With these, code shows values as text.
_SHOWING = frozenset({"print", "repr", "str", "format", "display", "ascii"})
_BUILTIN_NAMES = frozenset(dir(builtins))
_STANDARD = frozenset(sys.stdlib_module_names)
_CODE = ("FunctionDef(", "AsyncFunctionDef(", "ClassDef(")
# What these set is used by operators, without a name of the library.
_ARITHMETIC = ("decimal.", "numpy.seterr")


class SettingReach:
    """The steps of a notebook, with the libraries that each uses; ``positions`` are those of their first cells."""

    def __init__(self, drafts: Sequence[StepDraft], scope: NotebookScope, positions: Mapping[str, int]) -> None:
        self._drafts = {draft.step.name: draft for draft in drafts}
        self._scope = scope
        self._positions = positions
        self._own = {name: _own_libraries(draft, scope) for name, draft in self._drafts.items()}
        self._handed = self._handed_on()

    def of(self, step: str, settings: Iterable[AnalysedDefinition]) -> list[AnalysedDefinition]:
        """Return the settings that a step gets."""
        draft = self._drafts[step]
        return self.concerning(step, [setting for setting in settings if self._is_above(setting, draft)])

    def concerns(self, step: str, users: Iterable[str]) -> bool:
        """Return whether a step's own code or its definitions use one of these libraries."""
        return concerns(users, self._own[step])

    def concerns_values(self, step: str, users: Iterable[str], setting: str) -> bool:
        """Return whether a step uses one of these libraries through its inputs, by methods, by showing them, or so."""
        if not concerns(users, self._handed[step]):
            return False
        draft = self._drafts[step]
        by_operators = setting.startswith(_ARITHMETIC) and _computes(draft)
        return by_operators or _handles_values(draft, self._scope.shared.names)

    def concerning(self, step: str, settings: Sequence[AnalysedDefinition]) -> list[AnalysedDefinition]:
        """Return those settings that concern a library that a step uses."""
        if not settings:
            return []
        draft = self._drafts[step]
        handed = self._handed[step]
        handles, computes = _handles_values(draft, self._scope.shared.names), _computes(draft)
        chosen = []
        for setting in settings:
            by_operators = computes and setting.definition.setting.startswith(_ARITHMETIC)
            used = self._own[step] | (handed if handles or by_operators else frozenset())
            if concerns(setting.users, used) and not self._is_foreign_filter(setting, used):
                chosen.append(setting)
        return chosen

    def _is_foreign_filter(self, setting: AnalysedDefinition, used: frozenset[str]) -> bool:
        """Return whether it filters warnings by a category of libraries that are not used."""
        if not setting.definition.setting.startswith("warnings."):
            return False
        items = [item for name in setting.now for item in self._scope.shared.by_name.get(name, [])]
        needed = {name.partition(".")[0] for item in items for name in item.modules} - _STANDARD
        return bool(needed) and not concerns(needed, used)

    def _is_above(self, setting: AnalysedDefinition, draft: StepDraft) -> bool:
        """Return whether a setting was in force when the step's first cell began, by place or by count of execution."""
        run_before = bool(draft.step.pieces) and setting.definition.cell < draft.step.pieces[0].cell
        return run_before or setting.position < self._positions[draft.step.name]

    def _handed_on(self) -> dict[str, frozenset[str]]:
        """Return the libraries that the values of each step's inputs may be of: those that the steps above them use."""
        handed: dict[str, frozenset[str]] = {}
        makers: dict[str, list[str]] = {}
        for name, draft in self._drafts.items():
            origins = [self._origin(name, item) for item in draft.step.inputs]
            packages = [package for named, _ in origins for package in named]
            handed[name] = libraries_used(packages, frozenset()) if packages else frozenset()
            makers[name] = [maker for _, made in origins for maker in made]
        order = [name for name in handed if makers[name]]
        changed = True
        while changed:
            changed = False
            for name in order:
                libraries = handed[name].union(*(self._own[maker] | handed[maker] for maker in makers[name]))
                changed |= len(libraries) > len(handed[name])
                handed[name] = libraries
            # Most values come from steps above, some notebooks are written from the end.
            order.reverse()
        return handed

    def _origin(self, step: str, item: Input) -> tuple[tuple[str, ...], list[str]]:
        """Return the packages that an input's format names, else the steps that make it."""
        if not isinstance(item.source, StepOutput):
            return FORMAT_PACKAGES.get(item.format or "", ()), []
        source = item.source
        names = [source.step] if source.step is not None else self._scope.makers.get(source.output, ())
        formats, makers = [item.format], []
        for name in names:
            draft = self._drafts.get(name)
            output = draft.step.output(source.output) if draft is not None and name != step else None
            if output is not None:
                formats.append(output.format)
                makers += [] if output.is_path or output.format in FORMAT_PACKAGES else [name]
        return tuple(package for each in formats for package in FORMAT_PACKAGES.get(each or "", ())), makers


def _own_libraries(draft: StepDraft, scope: NotebookScope) -> frozenset[str]:
    always = scope.shared.always
    # A magic or another program may look at whatever the process has set.
    shell = ["subprocess"] if draft.runs_scripts else []
    # Names that nothing else binds are those of star imports.
    stars = [module for item in scope.shared.stars for module in item.modules] if draft.needs.missing else []
    return libraries_used([*draft.modules(always), *shell, *stars], draft.identifiers(always))


def _handles_values(draft: StepDraft, names: QualifiedNames) -> bool:
    """Return whether the code may call a method of a value or show it as text."""
    normals = [item.definition.normal for item in draft.definitions]
    if any(normal.startswith(_CODE) or "Lambda(" in normal for normal in normals):
        return True
    imports = names.inside(draft.body).imports
    own = {name for name in draft.binds if name in imports}
    known = (_BUILTIN_NAMES | set(imports) | set(draft.needs.definitions)) - (draft.binds - own)
    expressions = [each.value for each in draft.body if isinstance(each, ast.Expr)]
    for node in (node for statement in draft.body for node in ast.walk(statement)):
        if isinstance(node, ast.Attribute | ast.JoinedStr) or (
            isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id in _SHOWING
        ):
            expressions.append(node)
        elif isinstance(node, ast.Call):
            expressions += [each for each in node.args if isinstance(each, ast.Name) and each.id in _SHOWING]
    return any(_reads_other(node, known) for node in expressions)


def _reads_other(node: ast.expr, known: frozenset[str]) -> bool:
    """Return whether an expression reads a name that is no definition and not built in, or is such a function."""
    if isinstance(node, ast.Name) and node.id in _SHOWING:
        return True
    return any(isinstance(part, ast.Name) and part.id not in known for part in ast.walk(node))


def _computes(draft: StepDraft) -> bool:
    nodes = (node for statement in draft.body for node in ast.walk(statement))
    return any(isinstance(node, ast.BinOp | ast.AugAssign | ast.UnaryOp | ast.Call) for node in nodes)
