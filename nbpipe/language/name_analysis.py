"""Which names a piece of code binds, and which it needs from outside, by Python's own scoping rules."""

from __future__ import annotations

import ast
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from nbpipe.language.ast_nodes import children

_NAME = re.compile(r"[^\W\d]\w*")
# pandas reads these names from around the call.
_AFTER_AT = re.compile(r"@([^\W\d]\w*)")
_IMPLICIT = frozenset({"__class__"})
_IN_CLASSES = frozenset({"__module__", "__qualname__"})
_LEAVING = (ast.Raise, ast.Return, ast.Continue, ast.Break)


@dataclass(frozen=True, slots=True)
class NameUsage:
    """The names that code binds at its top level, and those that it reads from outside.

    ``early`` is read while the code runs, before any statement of it could bind it; ``later`` by its functions when
    they are called; ``annotations`` by annotations alone. ``unsure`` is read where a binding may be missing (in one
    branch only, or after a call), ``mentioned`` in the text of a magic or in one that a call evaluates: both are
    optional. ``assigned`` are the names that functions bind under ``global``.
    """

    binds: frozenset[str]
    early: frozenset[str]
    later: frozenset[str]
    annotations: frozenset[str] = frozenset()
    unsure: frozenset[str] = frozenset()
    mentioned: frozenset[str] = frozenset()
    assigned: frozenset[str] = frozenset()
    stars: bool = False

    @property
    def needs(self) -> frozenset[str]:
        """Return the names that must come from outside."""
        return self.early | (self.later - self.binds)


def name_usage(body: Iterable[ast.AST]) -> NameUsage:
    """Return the names used by top-level statements in order: a name bound earlier is not needed later."""
    scope = _Scope("module")
    for statement in body:
        scope.visit(statement)
    later = scope.later | scope.forced
    binds = scope.binds | scope.assigned
    unsure = scope.unsure | ((later - scope.sure) & binds)
    return NameUsage(
        frozenset(binds), frozenset(scope.early), frozenset(later), frozenset(scope.annotations),
        frozenset(unsure - scope.early), frozenset(scope.mentioned), frozenset(scope.assigned), scope.stars,
    )  # fmt: skip


class _Scope(ast.NodeVisitor):
    """One module, class or function body, visited in execution order; ``sure`` names are always bound."""

    def __init__(self, kind: str) -> None:
        self.kind = kind
        self.sure = set(_IN_CLASSES) if kind == "class" else set[str]()
        self.binds = set(self.sure)
        self.reads = set[str]()
        self.early = set[str]()
        self.unsure = set[str]()
        self.later = set[str]()
        self.forced = set[str]()
        self.assigned = set[str]()
        self.annotations = set[str]()
        self.mentioned = set[str]()
        self.globals = set[str]()
        self.nonlocals = set[str]()
        self.through = set[str]()
        self.hidden: list[set[str]] = []
        self.stars = False

    # Nodes

    def visit(self, node: ast.AST) -> None:
        """Visit a node with the method named after its kind."""
        _METHODS.get(type(node), _Scope.generic_visit)(self, node)

    def generic_visit(self, node: ast.AST) -> None:
        """Visit the children of a node."""
        for child in children(node):
            self.visit(child)

    # Names

    def read(self, name: str) -> None:
        """Record that ``name`` is read here."""
        if name in _IMPLICIT:
            return
        if self.hidden:
            if any(name in names for names in self.hidden):
                return
            if self.kind == "class":
                # A comprehension does not see the names of the class around it.
                self.through.add(name)
                return
        self.reads.add(name)
        if name not in self.sure:
            (self.unsure if name in self.binds else self.early).add(name)

    def bind(self, name: str) -> None:
        """Record that ``name`` is bound here."""
        if not any(name in names for names in self.hidden):
            self.binds.add(name)
            self.sure.add(name)

    def visit_Name(self, node: ast.Name) -> None:
        if isinstance(node.ctx, ast.Store):
            self.bind(node.id)
            return
        self.read(node.id)
        if isinstance(node.ctx, ast.Del):
            # Deleting a name changes it, so it belongs to this code.
            self.binds.add(node.id)
            self.sure.discard(node.id)

    def visit_Attribute(self, node: ast.Attribute) -> None:
        self.visit(node.value)

    def visit_Constant(self, node: ast.Constant) -> None:
        """Read nothing."""

    def visit_Global(self, node: ast.Global) -> None:
        self.globals.update(node.names if self.kind != "module" else ())

    def visit_Nonlocal(self, node: ast.Nonlocal) -> None:
        self.nonlocals.update(node.names)

    def visit_Import(self, node: ast.Import | ast.ImportFrom) -> None:
        for alias in node.names:
            if alias.name == "*":
                self.stars = True
            else:
                self.bind(alias.asname or alias.name.partition(".")[0])

    visit_ImportFrom = visit_Import  # noqa: N815 - ast names visitors so

    # Statements that bind after they have read

    def visit_Assign(self, node: ast.Assign) -> None:
        self._visit_all([node.value, *node.targets])

    def visit_NamedExpr(self, node: ast.NamedExpr) -> None:
        self._visit_all([node.value, node.target])

    def visit_AugAssign(self, node: ast.AugAssign) -> None:
        if isinstance(node.target, ast.Name):
            self.read(node.target.id)
        self._visit_all([node.value, node.target])

    def visit_AnnAssign(self, node: ast.AnnAssign) -> None:
        if node.value is not None:
            self.visit(node.value)
        if node.value is not None or not isinstance(node.target, ast.Name):
            self.visit(node.target)
        elif self.kind == "function":
            self.binds.add(node.target.id)
        if self.kind != "function":
            self._annotation(node.annotation)

    def _annotation(self, node: ast.expr | None) -> None:
        if node is not None:
            loaded = {part.id for part in ast.walk(node) if isinstance(part, ast.Name)}
            self.annotations |= loaded.difference(self.sure, *self.hidden)

    # Branches

    def _visit_all(self, nodes: Iterable[ast.AST]) -> None:
        for node in nodes:
            self.visit(node)

    def _branches(self, *branches: Sequence[ast.AST]) -> None:
        """Visit each branch; afterwards the names are sure that every completed branch binds."""
        start, bound_at_ends = self.sure, []
        for branch in branches:
            self.sure = set(start)
            self._visit_all(branch)
            if not (branch and isinstance(branch[-1], _LEAVING)):
                bound_at_ends.append(self.sure)
        self.sure = set.intersection(*bound_at_ends) if bound_at_ends else start

    def visit_If(self, node: ast.If) -> None:
        self.visit(node.test)
        self._branches(node.body, node.orelse)

    def visit_While(self, node: ast.While) -> None:
        self.visit(node.test)
        self._branches(node.body, ())
        self._branches(node.orelse, ())

    def visit_For(self, node: ast.For | ast.AsyncFor) -> None:
        self.visit(node.iter)
        self._branches([node.target, *node.body], ())
        self._branches(node.orelse, ())

    visit_AsyncFor = visit_For  # noqa: N815 - ast names visitors so

    def visit_Try(self, node: ast.Try | ast.TryStar) -> None:
        start = set(self.sure)
        self._visit_all([*node.body, *node.orelse])
        done = [*node.body, *node.orelse]
        bound_at_ends = [] if done and isinstance(done[-1], _LEAVING) else [self.sure]
        for handler in node.handlers:
            self.sure = set(start)
            self.visit(handler)
            if not isinstance(handler.body[-1], _LEAVING):
                bound_at_ends.append(self.sure)
        self.sure = set.intersection(*bound_at_ends) if bound_at_ends else start
        self._visit_all(node.finalbody)

    visit_TryStar = visit_Try  # noqa: N815 - ast names visitors so

    def visit_ExceptHandler(self, node: ast.ExceptHandler) -> None:
        if node.type is not None:
            self.visit(node.type)
        if node.name:
            self.bind(node.name)
        self._visit_all(node.body)
        if node.name:
            self.sure.discard(node.name)

    def visit_Match(self, node: ast.Match) -> None:
        self.visit(node.subject)
        cases = [[case.pattern, *([case.guard] if case.guard else []), *case.body] for case in node.cases]
        last = node.cases[-1]
        anything = isinstance(last.pattern, ast.MatchAs) and last.pattern.pattern is None and last.guard is None
        self._branches(*cases, *([] if anything else [()]))

    def visit_MatchAs(self, node: ast.MatchAs | ast.MatchStar) -> None:
        self.generic_visit(node)
        if node.name:
            self.bind(node.name)

    visit_MatchStar = visit_MatchAs  # noqa: N815 - ast names visitors so

    def visit_MatchMapping(self, node: ast.MatchMapping) -> None:
        self.generic_visit(node)
        if node.rest:
            self.bind(node.rest)

    # Scopes inside this one

    def visit_FunctionDef(self, node: ast.FunctionDef | ast.AsyncFunctionDef) -> None:
        self._visit_all(node.decorator_list)
        self._defaults(node.args)
        self.hidden.append(_type_names(node))
        for argument in _arguments(node.args):
            self._annotation(argument.annotation)
        self._annotation(node.returns)
        self._function(node.args, node.body)
        self.hidden.pop()
        self.bind(node.name)

    visit_AsyncFunctionDef = visit_FunctionDef  # noqa: N815 - ast names visitors so

    def visit_Lambda(self, node: ast.Lambda) -> None:
        self._defaults(node.args)
        self._function(node.args, [node.body])

    def _defaults(self, arguments: ast.arguments) -> None:
        self._visit_all([*arguments.defaults, *(default for default in arguments.kw_defaults if default)])

    def _function(self, arguments: ast.arguments, body: Iterable[ast.AST]) -> None:
        inner = _Scope("function")
        inner.binds.update(argument.arg for argument in _arguments(arguments))
        inner._visit_all(body)
        own = inner.binds - inner.globals - inner.nonlocals
        self.later |= ((inner.reads - inner.globals) | inner.later).difference(own, *self.hidden)
        self.annotations |= inner.annotations.difference(own, *self.hidden)
        self.forced |= inner.reads & inner.globals
        self.assigned |= inner.binds & inner.globals
        self._bubble(inner)

    def _bubble(self, inner: _Scope) -> None:
        self.forced |= inner.forced
        self.assigned |= inner.assigned
        self.mentioned |= inner.mentioned

    def visit_ClassDef(self, node: ast.ClassDef) -> None:
        self._visit_all(node.decorator_list)
        self.hidden.append(_type_names(node))
        self._visit_all([*node.bases, *node.keywords])
        inner = _Scope("class")
        inner._visit_all(node.body)
        for name in sorted(inner.early | inner.unsure | inner.through):
            self.read(name)
        self.later |= inner.later.difference(*self.hidden)
        self.annotations |= inner.annotations.difference(self.sure, *self.hidden)
        self.assigned |= inner.binds & inner.globals
        self._bubble(inner)
        self.hidden.pop()
        self.bind(node.name)

    def visit_TypeAlias(self, node: ast.AST) -> None:
        """Visit ``type NAME = …`` (Python 3.12), whose value is evaluated lazily."""
        loaded = {part.id for part in ast.walk(node) if isinstance(part, ast.Name) and isinstance(part.ctx, ast.Load)}
        self.later |= loaded - _type_names(node)
        name = getattr(node, "name", None)
        if isinstance(name, ast.Name):
            self.bind(name.id)

    def visit_ListComp(self, node: ast.ListComp | ast.SetComp | ast.GeneratorExp) -> None:
        self._comprehension(node.generators, [node.elt])

    visit_SetComp = visit_ListComp  # noqa: N815 - ast names visitors so
    visit_GeneratorExp = visit_ListComp  # noqa: N815 - ast names visitors so

    def visit_DictComp(self, node: ast.DictComp) -> None:
        self._comprehension(node.generators, [node.key, node.value])

    def _comprehension(self, generators: Sequence[ast.comprehension], elements: Iterable[ast.expr]) -> None:
        self.visit(generators[0].iter)
        parts = [part for generator in generators for part in ast.walk(generator.target)]
        self.hidden.append(
            {part.id for part in parts if isinstance(part, ast.Name) and isinstance(part.ctx, ast.Store)}
        )
        for index, generator in enumerate(generators):
            self._visit_all([*([generator.iter] if index else []), generator.target, *generator.ifs])
        self._visit_all(elements)
        self.hidden.pop()

    # Magics

    def visit_Call(self, node: ast.Call) -> None:
        self.generic_visit(node)
        texts = magic_texts(node)
        for text in texts:
            self.mentioned.update(_NAME.findall(text))
        self.mentioned.update(_names_in_expression(node))
        if texts[:1] == ["time"] and len(texts) > 1:
            self._visit_all(_statements(texts[1]))


def _names_in_expression(call: ast.Call) -> list[str]:
    """Return the names in a text that a call evaluates: of pandas those after an ``@``, of ``eval`` all."""
    match call.func:
        case ast.Attribute(attr="query" | "eval"):
            pattern = _AFTER_AT
        case ast.Name(id="eval"):
            pattern = _NAME
        case _:
            return []
    texts = [part.value for each in call.args[:1] for part in ast.walk(each)
             if isinstance(part, ast.Constant) and isinstance(part.value, str)]  # fmt: skip
    return [name for text in texts for name in pattern.findall(text)]


# Python 3.11 has no `type` statement.
_METHODS: Mapping[type[ast.AST], Callable[[_Scope, Any], None]] = {
    getattr(ast, name.removeprefix("visit_")): method
    for name, method in vars(_Scope).items()
    if name.startswith("visit_") and hasattr(ast, name.removeprefix("visit_"))
}


def magic_texts(node: ast.AST) -> list[str]:
    """Return the texts in IPython's call of a magic or a shell command, the magic's name first."""
    if not isinstance(node, ast.Call) or not isinstance(node.func, ast.Attribute):
        return []
    shell = node.func.value
    if not isinstance(shell, ast.Call) or not isinstance(shell.func, ast.Name) or shell.func.id != "get_ipython":
        return []
    return [part.value for part in node.args if isinstance(part, ast.Constant) and isinstance(part.value, str)]


def _statements(text: str) -> list[ast.stmt]:
    try:
        return ast.parse(text.strip()).body
    except (SyntaxError, ValueError):
        return []


def _arguments(arguments: ast.arguments) -> list[ast.arg]:
    starred = [argument for argument in (arguments.vararg, arguments.kwarg) if argument]
    return [*arguments.posonlyargs, *arguments.args, *arguments.kwonlyargs, *starred]


def _type_names(node: ast.AST) -> set[str]:
    """Return the names of type parameters (Python 3.12)."""
    return {parameter.name for parameter in getattr(node, "type_params", [])}
