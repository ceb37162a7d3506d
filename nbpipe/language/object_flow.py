"""Which objects code changes and which global names it rebinds, followed through aliases, functions and methods.

An object is known by its origins: where it came from. What cannot be determined from the text has none.
"""

from __future__ import annotations

import ast
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import zip_longest
from typing import Any, ClassVar

from nbpipe.language.ast_nodes import children
from nbpipe.language.callables import (
    Callables,
    dotted_name,
    is_class_method,
    named_global,
    positional_parameters,
)
from nbpipe.language.known_calls import CHANGERS, CONTAINERS, ITERATED, SAME, VIEWS
from nbpipe.language.mutation_analysis import is_mutating_call
from nbpipe.language.name_analysis import magic_texts
from nbpipe.language.object_effects import NOTHING, CallEffects, Change, Origin, Origins
from nbpipe.language.random_generators import drawn_library, seeded_library


@dataclass(slots=True)
class ObjectFlow:
    """Reads statements in order. ``names`` are the origins of what names hold, ``outside`` returns those of others.

    ``changes`` and ``rebinds`` are in the order in which the code makes them; ``draws`` are the generators of random
    numbers that are used before they are seeded. ``parts`` are the origins of what a name's list or dict holds;
    ``owner`` is the class of a method, ``instance`` the name of its first parameter; ``returns`` are the origins of
    what a function returns.
    """

    callables: Callables
    names: dict[str, Origins]
    outside: Callable[[str], Origins] = lambda _name: NOTHING
    changes: list[Change] = field(default_factory=list)
    rebinds: list[tuple[str, ast.AST]] = field(default_factory=list)
    draws: set[str] = field(default_factory=set)
    parts: dict[str, Origins] = field(default_factory=dict)
    in_function: bool = False
    owner: str = ""
    instance: str = ""
    _before: dict[str, Origins | None] | None = None
    _nested: set[str] = field(default_factory=set)
    _globals: set[str] = field(default_factory=set)
    returns: set[Origin] = field(default_factory=set)
    _seeded: set[str] = field(default_factory=set)
    _stored: bool = False
    _certain: bool = True

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
        # Through another name or a parameter, most of these are numbers, which are not changed in place.
        self._change([origin for origin in origins if _is_called(origin, node.target.id)], node)
        self._bind(node.target, origins, node)

    def _delete(self, node: ast.Delete) -> None:
        for target in node.targets:
            self._bind(target, NOTHING, node)

    def _loop(self, node: ast.For | ast.AsyncFor) -> None:
        self._bind(node.target, self._elements(node.iter), node)
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
        """Read each branch from the same start; afterwards a name may hold what it does at the end of any branch."""
        ends: list[dict[str, Origins]] = []
        start: dict[str, Origins | None] = {}
        for branch in filter(None, branches):
            outer, self._before = self._before, {}
            self.run(branch)
            ends.append({name: self.names[name] for name in self._before})
            for name, origins in self._before.items():
                start.setdefault(name, origins)
                self._restore(name, origins)
            self._before = outer
        if not all(branches):
            ends.append({})
        for name, origins in start.items():
            self._set(name, NOTHING.union(*(end.get(name, origins or NOTHING) for end in ends)))

    def _set(self, name: str, origins: Origins) -> None:
        if self._before is not None:
            self._before.setdefault(name, self.names.get(name))
        self.names[name] = origins

    def _restore(self, name: str, origins: Origins | None) -> None:
        if origins is None:
            self.names.pop(name, None)
        else:
            self.names[name] = origins

    def _define(self, node: ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef) -> None:
        self.callables.define(node)
        for decorator in node.decorator_list:
            self._called(dotted_name(decorator.func if isinstance(decorator, ast.Call) else decorator), node, [], {})
        if isinstance(node, ast.ClassDef):
            for base in node.bases:
                hook = self.callables.method_of(dotted_name(base), "__init_subclass__")
                if hook is not None:
                    self._apply(self._effects(hook, dotted_name(base)), node, {})
        self._bind_name(node.name, NOTHING, node)
        self._nested.add(node.name)

    def _import(self, node: ast.Import | ast.ImportFrom) -> None:
        for alias in node.names:
            name = alias.asname or alias.name.partition(".")[0]
            self.callables.imported.add(name)
            self._bind_name(name, NOTHING, node)

    def _global(self, node: ast.Global) -> None:
        self._globals.update(node.names if self.in_function else ())

    def _return(self, node: ast.Return) -> None:
        if node.value is not None:
            self.returns |= self._stored_value(node.value)

    # Names

    def _origins_of(self, name: str) -> Origins:
        return self.names[name] if name in self.names and name not in self._globals else self.outside(name)

    def _bind_value(self, target: ast.expr, value: ast.expr) -> None:
        pairs = (ast.Tuple, ast.List)
        if isinstance(target, pairs) and isinstance(value, pairs) and len(target.elts) == len(value.elts):
            values = [self._stored_value(item) for item in value.elts]
            for part, origins in zip(target.elts, values, strict=True):
                self._bind(part, origins, target)
        else:
            self._bind(target, self._stored_value(value), target)
            if isinstance(target, ast.Name):
                self.parts[target.id] = self._parts(value)

    def _parts(self, node: ast.AST) -> Origins:
        """Return the origins of what a display holds: a change of that is seen in the display, but not the reverse."""
        if isinstance(node, ast.Name):
            return self.parts.get(node.id, NOTHING)
        if not isinstance(node, ast.List | ast.Tuple | ast.Dict | ast.Set):
            return NOTHING
        each = [part for part in children(node) if isinstance(part, ast.expr)]
        named = [self._origins_of(part.id) for part in each if isinstance(part, ast.Name)]
        return NOTHING.union(*named, *map(self._parts, each))

    def _bind(self, target: ast.AST, origins: Origins, node: ast.AST) -> None:
        if isinstance(target, ast.Name):
            self._bind_name(target.id, origins, node)
        elif isinstance(target, ast.Starred):
            self._bind(target.value, origins, node)
        elif isinstance(target, ast.Tuple | ast.List):
            for part in target.elts:
                self._bind(part, origins, node)
        elif isinstance(target, ast.Attribute | ast.Subscript):
            named = named_global(target)
            if named:
                self._rebind(named, node)
            if isinstance(target, ast.Subscript):
                self._value(target.slice)
            self._change(self._owner_of(target), node)

    def _bind_name(self, name: str, origins: Origins, node: ast.AST) -> None:
        self.parts.pop(name, None)
        if not self.in_function or name in self._globals:
            self._rebind(name, node)
        self._set(name, origins)

    def _rebind(self, name: str, node: ast.AST) -> None:
        self._set(name, NOTHING)
        self.rebinds.append((name, node))

    def _change(self, origins: Iterable[Origin], node: ast.AST) -> None:
        self.changes += [Change(origin, node, self._certain) for origin in sorted(origins)]

    # Values

    def _value(self, node: ast.AST) -> Origins:
        """Return the origins of an expression's value, which may be the object itself or a part of it."""
        reader = self._VALUES.get(type(node))
        if reader is not None:
            return reader(self, node)
        for child in children(node):
            self._value(child)
        return NOTHING

    def _stored_value(self, node: ast.AST) -> Origins:
        """Return the origins of a value that is kept: functions in it are not called by that."""
        before, self._stored = self._stored, True
        origins = self._value(node)
        self._stored = before
        return origins

    def _later(self, read: Callable[[], object]) -> None:
        """Read what a function does that is passed on, and so may be called, or is only stored."""
        before, self._certain = self._certain, self._certain and not self._stored
        read()
        self._certain = before

    def _name(self, node: ast.Name) -> Origins:
        # A function that is passed on may be called.
        hidden = self.in_function and node.id in self.names and node.id not in self._nested
        if self.callables.function(node.id) is not None and not hidden:
            self._later(lambda: self._called(node.id, node, [], {}))
        return self._origins_of(node.id)

    def _attribute(self, node: ast.Attribute) -> Origins:
        return self._owner_of(node)

    def _subscript(self, node: ast.Subscript) -> Origins:
        self._value(node.slice)
        origins = self._owner_of(node)
        # Other subscripts of tables and lists select copies.
        return origins if isinstance(node.slice, ast.Constant) else NOTHING

    def _owner_of(self, node: ast.Attribute | ast.Subscript) -> Origins:
        """Return the origins of the object that an attribute or an item belongs to."""
        inner = node.value
        if isinstance(node, ast.Attribute) and isinstance(inner, ast.Name) and self.owner:
            shared = node.attr == "__class__" or node.attr in self.callables.class_attributes(self.owner)
            if inner.id == self.instance and shared:
                return frozenset([("name", self.owner)])
        if isinstance(inner, ast.Attribute | ast.Subscript):
            if isinstance(inner, ast.Subscript):
                self._value(inner.slice)
            return self._owner_of(inner) | self._origins_in(inner.value)
        return self._origins_of(inner.id) if isinstance(inner, ast.Name) else self._value(inner)

    def _origins_in(self, node: ast.expr) -> Origins:
        """Return the origins of what the list or dict of a name holds."""
        return self.parts.get(node.id, NOTHING) if isinstance(node, ast.Name) else NOTHING

    def _either(self, node: ast.IfExp | ast.BoolOp) -> Origins:
        return NOTHING.union(*[self._value(child) for child in children(node) if isinstance(child, ast.expr)])

    def _walrus(self, node: ast.NamedExpr) -> Origins:
        origins = self._value(node.value)
        self._bind(node.target, origins, node)
        return origins

    def _passed_on(self, node: ast.Starred | ast.Await) -> Origins:
        return self._value(node.value)

    def _lambda(self, node: ast.Lambda) -> Origins:
        self._later(lambda: self._scoped(dict.fromkeys(positional_parameters(node.args), NOTHING), [node.body]))
        return NOTHING

    def _comprehension(self, node: ast.ListComp | ast.SetComp | ast.GeneratorExp | ast.DictComp) -> Origins:
        hidden: dict[str, Origins] = {}
        for generator in node.generators:
            elements = self._elements(generator.iter)
            hidden |= {part.id: elements for part in ast.walk(generator.target) if isinstance(part, ast.Name)}
        results = [node.key, node.value] if isinstance(node, ast.DictComp) else [node.elt]
        self._scoped(hidden, [*(test for one in node.generators for test in one.ifs), *results])
        return NOTHING

    def _scoped(self, hidden: Mapping[str, Origins], body: Iterable[ast.AST]) -> None:
        """Read expressions in which some names mean something else."""
        before = {name: self.names.get(name) for name in hidden}
        self.names.update(hidden)
        for part in body:
            self._value(part)
        for name, origins in before.items():
            self._restore(name, origins)

    def _elements(self, node: ast.expr) -> Origins:
        """Return the origins of the elements of something that is iterated over."""
        if isinstance(node, ast.Call) and dotted_name(node.func) in ITERATED:
            return NOTHING.union(*[self._elements(argument) for argument in node.args])
        if isinstance(node, ast.Tuple | ast.List | ast.Set):
            return NOTHING.union(*[self._value(item) for item in node.elts])
        return self._value(node) | self._origins_in(node)

    # Calls

    def _call(self, node: ast.Call) -> Origins:
        before, self._stored = self._stored, False
        origins = self._result(node)
        self._stored = before
        return origins

    def _result(self, node: ast.Call) -> Origins:
        arguments = [self._value(argument) for argument in node.args]
        named = {item.arg or "": self._value(item.value) for item in node.keywords}
        self._magic(node)
        self._change(named.get("out", NOTHING), node)
        name = dotted_name(node.func)
        self._random(name, node)
        last = name.rpartition(".")[2]
        if last in CHANGERS and arguments:
            self._change(arguments[0], node)
        result = arguments[0] if last in SAME and arguments else NOTHING
        if name == "type" and len(arguments) == 1 and self.owner and isinstance(node.args[0], ast.Name):
            return frozenset([("name", self.owner)]) if node.args[0].id == self.instance else NOTHING
        if isinstance(node.func, ast.Attribute):
            return result | self._method(node, node.func, arguments, named)
        if not isinstance(node.func, ast.Name):
            self._value(node.func)
            return result
        return result | self._called(name, node, arguments, named)

    def _method(
        self, node: ast.Call, func: ast.Attribute, arguments: list[Origins], named: Mapping[str, Origins]
    ) -> Origins:
        owner = func.value
        origins = self._origins_of(owner.id) if isinstance(owner, ast.Name) else self._owner_of(func)
        direct = isinstance(owner, ast.Name)
        if direct and owner.id in CONTAINERS and owner.id not in self.names:  # type: ignore[attr-defined]
            self._change(arguments[0] if arguments and is_mutating_call(node) else NOTHING, node)
            return NOTHING
        if direct and owner.id in self.callables.imported:  # type: ignore[attr-defined]
            return NOTHING
        if is_mutating_call(node):
            self._change(origins, node)
        result = origins if func.attr in VIEWS else NOTHING
        known = self.callables.class_named(owner.id) if isinstance(owner, ast.Name) else None
        for class_name, method in self.callables.methods(func.attr):
            if known is None:
                bound = self._bound(method, [origins, *arguments], named)
            elif is_class_method(method):
                bound = self._bound(method, [NOTHING, *arguments], named)
            else:
                bound = self._bound(method, arguments, named)
            result |= self._apply(self._effects(method, class_name), node, bound)
        return result

    def _called(self, name: str, node: ast.AST, arguments: list[Origins], named: Mapping[str, Origins]) -> Origins:
        function = self.callables.function(name)
        if function is not None:
            return self._apply(self._effects(function, ""), node, self._bound(function, arguments, named))
        for constructor in ("__new__", "__init__", "__post_init__"):
            method = self.callables.method_of(name, constructor)
            if method is not None:
                bound = self._bound(method, [NOTHING, *arguments], named)
                self._apply(self._effects(method, name), node, bound)
        return NOTHING

    def _bound(
        self, function: ast.FunctionDef | ast.AsyncFunctionDef, arguments: list[Origins], named: Mapping[str, Origins]
    ) -> dict[str, Origins]:
        names = positional_parameters(function.args)
        return {name: origins for name, origins in zip_longest(names, arguments[: len(names)], fillvalue=NOTHING)
                if isinstance(name, str)} | dict(named)  # fmt: skip

    def _apply(self, effects: CallEffects, node: ast.AST, bound: Mapping[str, Origins]) -> Origins:
        before = self._certain
        for certain, changes in ((True, effects.changes), (False, effects.possible)):
            self._certain = before and certain
            for kind, name in changes:
                if kind == "random":
                    self._seed(name, node)
                else:
                    self._change(bound.get(name, NOTHING) if kind == "parameter" else self._origins_of(name), node)
        self._certain = before
        for name in effects.rebinds:
            self._rebind(name, node)
        self.draws |= effects.draws - self._seeded
        return NOTHING.union(
            *(
                bound.get(name, NOTHING) if kind == "parameter" else self._origins_of(name)
                for kind, name in effects.returns
            )
        )

    def _effects(self, function: ast.FunctionDef | ast.AsyncFunctionDef, owner: str) -> CallEffects:
        return call_effects(self.callables, function, owner)

    def _seed(self, library: str, node: ast.AST) -> None:
        self._seeded.add(library)
        self.changes.append(Change(("random", library), node, self._certain))

    def _random(self, name: str, node: ast.AST) -> None:
        seeded, drawn = seeded_library(name), drawn_library(name)
        if seeded is not None:
            self._seed(seeded, node)
        elif drawn is not None and drawn not in self._seeded:
            self.draws.add(drawn)

    def _magic(self, node: ast.Call) -> None:
        texts = magic_texts(node)
        if texts[:1] == ["time"] and len(texts) > 1:
            try:
                self.run(ast.parse(texts[1].strip()).body)
            except (SyntaxError, ValueError):
                return

    _STATEMENTS: ClassVar[Mapping[type[ast.AST], Callable[[Any, Any], None]]] = {
        ast.Assign: _assign, ast.AnnAssign: _annotated, ast.AugAssign: _augmented, ast.Delete: _delete,
        ast.For: _loop, ast.AsyncFor: _loop, ast.While: _while, ast.If: _if, ast.With: _with, ast.AsyncWith: _with,
        ast.Try: _try, ast.TryStar: _try, ast.Match: _match, ast.FunctionDef: _define, ast.AsyncFunctionDef: _define,
        ast.ClassDef: _define, ast.Import: _import, ast.ImportFrom: _import, ast.Global: _global, ast.Return: _return,
    }  # fmt: skip
    _VALUES: ClassVar[Mapping[type[ast.AST], Callable[[Any, Any], Origins]]] = {
        ast.Name: _name, ast.Attribute: _attribute, ast.Subscript: _subscript, ast.IfExp: _either, ast.BoolOp: _either,
        ast.NamedExpr: _walrus, ast.Starred: _passed_on, ast.Await: _passed_on, ast.Lambda: _lambda,
        ast.ListComp: _comprehension, ast.SetComp: _comprehension, ast.GeneratorExp: _comprehension,
        ast.DictComp: _comprehension, ast.Call: _call,
    }  # fmt: skip


def call_effects(callables: Callables, function: ast.FunctionDef | ast.AsyncFunctionDef, owner: str) -> CallEffects:
    """Return what a call of a function changes; ``owner`` is the class of a method, else empty."""
    known = callables.effects.get(id(function))
    if isinstance(known, CallEffects):
        return known
    # For functions that call themselves.
    callables.effects[id(function)] = CallEffects()
    parameters = [*positional_parameters(function.args), *(item.arg for item in function.args.kwonlyargs)]
    names = {name: frozenset([("parameter", name)]) for name in parameters}
    instance = parameters[0] if owner and parameters else ""
    if instance and is_class_method(function):
        names[instance] = frozenset([("name", owner)])
    flow = ObjectFlow(callables, names, lambda name: frozenset([("name", name)]), in_function=True)
    flow.owner, flow.instance = owner, instance
    flow.run(function.body)
    effects = CallEffects(
        tuple(dict.fromkeys(change.origin for change in flow.changes if change.certain)),
        tuple(dict.fromkeys(change.origin for change in flow.changes if not change.certain)),
        tuple(dict.fromkeys(name for name, _ in flow.rebinds)),
        frozenset(flow.returns),
        frozenset(flow.draws),
    )
    callables.effects[id(function)] = effects
    return effects


def _is_called(origin: Origin, name: str) -> bool:
    """Return whether this is the origin of what the name itself holds, not of an alias."""
    return origin[0] != "parameter" and origin[1].rpartition(".")[2] == name
