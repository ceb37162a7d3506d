"""Which objects code changes and which global names it rebinds: statements in their order, and calls of functions.

An object is known by its origins: where it came from. What cannot be determined from the text has none.
"""

from __future__ import annotations

import ast
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

from nbpipe.language.ast_nodes import children
from nbpipe.language.call_flow import CallFlow
from nbpipe.language.callables import Callables, Function, dotted_name, is_class_method, positional_parameters
from nbpipe.language.name_state import NameState
from nbpipe.language.object_effects import NOTHING, CallEffects, Origin, Origins, Use
from nbpipe.language.object_retention import acts
from nbpipe.language.partial_views import VIEWED
from nbpipe.language.value_kinds import LOOKED_AT

INPLACE: Mapping[type[ast.operator], tuple[str, ...]] = {
    ast.Add: ("__iadd__",), ast.Sub: ("__isub__",), ast.Mult: ("__imul__",), ast.BitOr: ("__ior__",),
    ast.BitAnd: ("__iand__",), ast.MatMult: ("__imatmul__",), ast.LShift: ("__ilshift__",),
}  # fmt: skip
_MADE = ("__new__", "__init__")


@dataclass(slots=True)
class ObjectFlow(CallFlow):
    """Reads statements in order, and keeps in ``state`` what names hold."""

    def run(self, statements: Iterable[ast.AST]) -> None:
        """Read statements as if they were executed once, with every branch taken."""
        for statement in statements:
            self._STATEMENTS.get(type(statement), ObjectFlow._below)(self, statement)

    def call(self, name: str, node: ast.AST) -> None:
        """Read a call of a known function or class by its name, whatever its arguments are."""
        self._called(name, node, [], {})

    # Statements

    def _below(self, node: ast.AST) -> None:
        for child in children(node):
            if isinstance(child, ast.stmt):
                self.run([child])
            else:
                self._value(child)

    def _assign(self, node: ast.Assign) -> None:
        for target in node.targets:
            self._bind_value(target, node.value)

    def _annotated(self, node: ast.AnnAssign) -> None:
        if node.value is not None:
            self._bind_value(node.target, node.value)

    def _augmented(self, node: ast.AugAssign) -> None:
        self._value(node.value)
        if not isinstance(node.target, ast.Name):
            self._bind(node.target, NOTHING, node)
            return
        origins = self._origins_of(node.target.id)
        certain = isinstance(node.value, ast.List | ast.ListComp | ast.Set | ast.Dict)
        self._special(node, self._own_objects(node.target, origins), INPLACE.get(type(node.op), ()))
        self._use(Use.ADDED, origins, node)
        # Through another name or a parameter, most of these are numbers, which are not changed in place.
        may_be_array = [origin for origin in origins if origin[0] in VIEWED]
        called = [origin for origin in origins if certain or _is_called(origin, node.target.id)]
        self._change({*called, *may_be_array}, node)
        self._bind(node.target, origins, node)

    def _delete(self, node: ast.Delete) -> None:
        for target in node.targets:
            self._bind(target, NOTHING, node)

    def _loop(self, node: ast.For | ast.AsyncFor) -> None:
        elements = self._with_parts(node.iter)
        self._use(Use.PASSED, elements, node.iter)
        self._special(node.iter, self._own_objects(node.iter, elements), ("__iter__", "__next__"))
        self._bind(node.target, elements, node)
        self._loop_functions(node.target, node.iter)
        self.varying.update(part.id for part in ast.walk(node.target) if isinstance(part, ast.Name))
        self._branches(node.body, node.orelse)

    def _while(self, node: ast.While) -> None:
        self._value(node.test)
        self._branches(node.body, node.orelse)

    def _if(self, node: ast.If) -> None:
        self._value(node.test)
        self._branches(node.body, node.orelse)

    def _with(self, node: ast.With | ast.AsyncWith) -> None:
        for item in node.items:
            origins = self._value(item.context_expr)
            self._special(item.context_expr, origins, ("__enter__", "__exit__", "__aenter__", "__aexit__"))
            if item.optional_vars is not None:
                self._bind(item.optional_vars, origins, node)
        self.run(node.body)

    def _try(self, node: ast.Try | ast.TryStar) -> None:
        self.run([*node.body, *node.orelse])
        for handler in node.handlers:
            if handler.name:
                self._bind_name(handler.name, NOTHING, handler)
            self._branches(handler.body, ())
        self.run(node.finalbody)

    def _match(self, node: ast.Match) -> None:
        origins = self._value(node.subject)
        for case in node.cases:
            for part in ast.walk(case.pattern):
                name = getattr(part, "name", None) or getattr(part, "rest", None)
                if isinstance(name, str):
                    self._bind_name(name, origins, node)
        self._branches(*[case.body for case in node.cases], ())

    def _branches(self, *branches: Sequence[ast.stmt]) -> None:
        self.state.branches(self.run, *branches)

    def _define(self, node: ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef) -> None:
        self.callables.define(node)
        for decorator in node.decorator_list:
            called = decorator.func if isinstance(decorator, ast.Call) else decorator
            self._called(dotted_name(called), node, [], {})
            if isinstance(called, ast.Attribute) and not self.in_function:
                # f.register adds to f.
                self._change([each for each in self._owner_of(called) if each[0] == "definition"], node)
        if isinstance(node, ast.ClassDef):
            hooks = [(base, "__init_subclass__") for base in node.bases]
            hooks += [(item.value, made) for item in node.keywords if item.arg == "metaclass" for made in _MADE]
            for base, name in hooks:
                hook = self.callables.method_of(dotted_name(base), name)
                if hook is not None:
                    self._apply(self.effects(hook, dotted_name(base)), node, {})
        self._bind_name(node.name, NOTHING, node)
        self._nested.add(node.name)

    def _import(self, node: ast.Import | ast.ImportFrom) -> None:
        for alias, root in zip(node.names, imported_roots(node), strict=True):
            name = alias.asname or alias.name.partition(".")[0]
            self.callables.imported[name] = _full_name(node, alias)
            self._bind_name(name, frozenset([("module", root)]), node)

    def _global(self, node: ast.Global) -> None:
        self.state.globals.update(node.names if self.in_function else ())

    def _return(self, node: ast.Return) -> None:
        if node.value is not None:
            self.returns |= self._stored_value(node.value)
            self.returned_parts |= self._parts(node.value)

    def _expression(self, node: ast.Expr) -> None:
        before = len(self.changes)
        self._value(node.value)
        call = node.value
        if len(self.changes) > before or not acts(call, shown=node is self.shown):
            return
        method: ast.Attribute = call.func  # type: ignore[attr-defined]  # it is a method's call
        if self._kind(method.value) in LOOKED_AT and not self._is_own_method(method):
            return
        self._suspect([origin for origin in self._owner_of(method) if origin[0] not in VIEWED], node)

    def effects(self, function: Function, owner: str) -> CallEffects:
        """Return what a call of a function changes; ``owner`` is the class of a method, else empty."""
        return call_effects(self.callables, function, owner)

    _STATEMENTS: ClassVar[Mapping[type[ast.AST], Callable[[Any, Any], None]]] = {
        ast.Assign: _assign, ast.AnnAssign: _annotated, ast.AugAssign: _augmented, ast.Delete: _delete,
        ast.For: _loop, ast.AsyncFor: _loop, ast.While: _while, ast.If: _if, ast.With: _with, ast.AsyncWith: _with,
        ast.Try: _try, ast.TryStar: _try, ast.Match: _match, ast.FunctionDef: _define, ast.AsyncFunctionDef: _define,
        ast.ClassDef: _define, ast.Expr: _expression, ast.Import: _import, ast.ImportFrom: _import, ast.Global: _global,
        ast.Return: _return,
    }  # fmt: skip


def call_effects(callables: Callables, function: ast.FunctionDef | ast.AsyncFunctionDef, owner: str) -> CallEffects:
    """Return what a call of a function changes; ``owner`` is the class of a method, else empty."""
    known = callables.effects.get(id(function))
    if isinstance(known, CallEffects):
        return known
    # For functions that call themselves.
    callables.effects[id(function)] = CallEffects()
    parameters = [*positional_parameters(function.args), *(item.arg for item in function.args.kwonlyargs)]
    names: dict[str, Origins] = {name: frozenset([("parameter", name)]) for name in parameters}
    collected = [item.arg for item in (function.args.vararg, function.args.kwarg) if item is not None]
    instance = parameters[0] if owner and parameters else ""
    if instance and is_class_method(function):
        names[instance] = frozenset([("name", owner)])
    flow = ObjectFlow(callables, NameState(names, lambda name: frozenset([("name", name)])), in_function=True)
    flow.owner, flow.instance = owner, instance
    for name in collected:
        # The list and the dict are the function's own, what they hold is not.
        flow.state.names[name] = NOTHING
        flow.state.parts[name] = frozenset([("parameter", name)])
    flow.run(function.body)
    last = {change.origin: change.restores for change in flow.changes}
    changes = [change for change in flow.changes if not last[change.origin]]
    effects = CallEffects(
        tuple(dict.fromkeys(change.origin for change in changes if change.certain)),
        tuple(dict.fromkeys(change.origin for change in changes if change.known and not change.certain)),
        tuple(dict.fromkeys(name for name, _ in flow.rebinds)),
        frozenset(flow.returns),
        frozenset(flow.draws),
        tuple(dict.fromkeys(change.origin for change in changes if not change.known)),
        tuple(flow.uses),
        tuple(origin for origin, restored in last.items() if restored),
        frozenset(flow.returned_parts),
    )
    callables.effects[id(function)] = effects
    return effects


def _full_name(node: ast.Import | ast.ImportFrom, alias: ast.alias) -> str:
    if isinstance(node, ast.ImportFrom):
        return f"{node.module or ''}.{alias.name}"
    return alias.name if alias.asname else alias.name.partition(".")[0]


def imported_roots(node: ast.Import | ast.ImportFrom) -> list[str]:
    """Return the packages that an import is of, one for each name."""
    modules = [alias.name if isinstance(node, ast.Import) else node.module or "" for alias in node.names]
    return [module.partition(".")[0] for module in modules]


def _is_called(origin: Origin, name: str) -> bool:
    """Return whether this is the origin of what the name itself holds, not of an alias."""
    return origin[0] != "parameter" and origin[1].rpartition(".")[2] == name
