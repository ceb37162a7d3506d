"""What calls do to objects: calls of functions and methods, of what holds them, and of what is passed to others."""

from __future__ import annotations

import ast
from collections.abc import Mapping
from dataclasses import dataclass
from itertools import zip_longest

from nbpipe.language.call_arguments import (
    bound_method,
    called_method,
    named_arguments,
    partial_function,
    positional_arguments,
)
from nbpipe.language.callables import Function, dotted_name, is_class_method, mutable_defaults, positional_parameters
from nbpipe.language.known_calls import (
    ADDING,
    CHANGERS,
    CONTAINERS,
    FILLING,
    PIPING,
    VIEWS,
    asks_for_no_copy,
    changes_first_argument,
    returns_argument,
    written_by_position,
)
from nbpipe.language.mutation_analysis import MUTATORS, is_mutating_call
from nbpipe.language.name_analysis import magic_texts
from nbpipe.language.object_effects import NOTHING, CallEffects, Change, Origin, Origins, Use
from nbpipe.language.partial_views import VIEWED, whole_of
from nbpipe.language.process_state import FOLDER, process_state
from nbpipe.language.random_generators import drawn_library, seeded_library
from nbpipe.language.value_flow import ValueFlow
from nbpipe.language.value_kinds import LOOKING, Kind, keeps_state

# What takes a function to call it later, for which it returns another one.
_HOLDING = frozenset({"partial", "partialmethod", "methodcaller"})
# So many parameters may get what a * hands over, or what a function is called with by another one.
_MOST = 16


@dataclass(slots=True)
class CallFlow(ValueFlow):
    """Reads expressions with the calls in them."""

    def _call(self, node: ast.Call) -> Origins:
        before, self._stored = self._stored, False
        origins = self._result(node)
        self._stored = before
        return origins

    def _result(self, node: ast.Call) -> Origins:
        name = dotted_name(node.func)
        arguments, named = self._arguments(node, name)
        self._magic(node)
        self._change(process_state(self.callables.full_name(name)), node)
        self._change(named.get("out", NOTHING) | written_by_position(name, arguments), node)
        self._random(name, node)
        last = name.rpartition(".")[2]
        # torch marks its functions that change a tensor.
        marked = last.endswith("_") and not last.startswith("_") and name.partition(".")[0] in self.callables.imported
        if (last in CHANGERS or marked) and arguments:
            self._change(arguments[0], node)
        if last in FILLING:
            self._change(NOTHING.union(*arguments), node)
        shares = arguments and returns_argument(self.callables.full_name(name), node)
        result = arguments[0] if shares else NOTHING
        if name == "type" and len(arguments) == 1 and self.owner and isinstance(node.args[0], ast.Name):
            return frozenset([("name", self.owner)]) if node.args[0].id == self.instance else NOTHING
        if isinstance(node.func, ast.Attribute):
            return result | self._method(node, node.func, arguments, named)
        if isinstance(node.func, ast.Name):
            return result | self._called(name, node, arguments, named)
        if not isinstance(node.func, ast.Lambda):
            self._value(node.func)
        return result | self._call_value(node.func, node, arguments, named)

    def _arguments(self, node: ast.Call, name: str) -> tuple[list[Origins], dict[str, Origins]]:
        """Read the arguments of a call: functions among them may be called with the others, and their contents."""
        positional, by_name = positional_arguments(node), named_arguments(node)
        others = [*positional, *(value for _, value in by_name)]
        functions = [each for each in others if self._is_function(each)]
        plain = {id(each) for each in functions}
        arguments: list[Origins] = []
        for each in positional:
            origins = NOTHING if id(each) in plain else self._value(each)
            if isinstance(each, ast.Starred):
                arguments += [origins | self.state.origins_in(each.value)] * _MOST
            else:
                arguments.append(origins)
        named = {key: NOTHING if id(value) in plain else self._value(value) for key, value in by_name}
        given = NOTHING.union(*arguments, *named.values())
        if name not in LOOKING:
            self._use(Use.PASSED, given, node)
        if not functions or name.rpartition(".")[2] in _HOLDING:
            return arguments, named
        given |= NOTHING.union(*(self._parts(each) for each in others if id(each) not in plain))
        if isinstance(node.func, ast.Attribute) and node.func.attr in PIPING:
            given |= self._owner_of(node.func)
        before, self._given = self._given, given
        for each in functions:
            self._hand_on(each, node)
        self._given = before
        return arguments, named

    def _hand_on(self, function: ast.expr, node: ast.AST) -> None:
        """Read what a function does that a call is given."""
        if isinstance(function, ast.Lambda) or self.callables.function(dotted_name(function)) is not None:
            self._value(function)
            return
        given = [self._given] * _MOST if self._given else []
        self._later(lambda: self._call_value(function, node, given, {}))

    def _is_function(self, node: ast.expr) -> bool:
        """Return whether an expression is a function of which is known what it changes."""
        if isinstance(node, ast.Name):
            is_imported = node.id in self.callables.imported and changes_first_argument(node)
            return is_imported or self.callables.function(node.id) is not None or bool(self._functions_of(node))
        if isinstance(node, ast.Attribute):
            return node.attr in MUTATORS or changes_first_argument(node)
        if not isinstance(node, ast.Call):
            return isinstance(node, ast.Lambda)
        method = bound_method(node)
        if method is not None and method.attr in MUTATORS:
            return True
        return bool(called_method(node)) or partial_function(node) is not None

    def _functions_of(self, node: ast.AST) -> tuple[ast.expr, ...]:
        """Return the functions that a name stands for."""
        if not isinstance(node, ast.Name):
            return ()
        known = self.state.functions.get(node.id)
        if known is None and node.id not in self.state.names:
            return self.callables.aliases.get(node.id, ())
        return known or ()

    def _call_value(
        self, function: ast.AST, node: ast.AST, arguments: list[Origins], named: Mapping[str, Origins]
    ) -> Origins:
        """Read a call of what an expression stands for, and return the origins of its result."""
        if isinstance(function, ast.Name) and not changes_first_argument(function):
            return self._called(function.id, node, arguments, named)
        if isinstance(function, ast.Lambda):
            names = positional_parameters(function.args)
            given = {**dict.fromkeys(names, NOTHING), **dict(zip(names, arguments, strict=False)), **named}
            self._scoped({name: given[name] for name in names}, [function.body])
            return NOTHING
        inner = partial_function(function)
        if inner is not None and isinstance(function, ast.Call):
            own = [self._value(each) for each in positional_arguments(function)[1:]]
            by_name = {name: self._value(value) for name, value in named_arguments(function)}
            return self._call_value(inner, node, [*own, *arguments], {**by_name, **named})
        first = arguments[0] if arguments else NOTHING
        if changes_first_argument(function) or called_method(function) in MUTATORS:
            self._change(first, node)
            return NOTHING
        method = bound_method(function)
        if method is not None and method.attr in MUTATORS:
            self._change(self._owner_of(method), node)
        return NOTHING

    def _method(
        self, node: ast.Call, func: ast.Attribute, arguments: list[Origins], named: Mapping[str, Origins]
    ) -> Origins:
        owner = func.value
        origins = self._origins_of(owner.id) if isinstance(owner, ast.Name) else self._owner_of(func)
        direct = isinstance(owner, ast.Name)
        root, _, last = dotted_name(owner).rpartition(".")
        is_free = root in self.callables.imported if root else last not in self.state.names
        if last in CONTAINERS and is_free:
            self._change(arguments[0] if arguments and is_mutating_call(node) else NOTHING, node)
            return NOTHING
        if direct and owner.id in self.callables.imported:  # type: ignore[attr-defined]
            return NOTHING
        held = NOTHING
        if isinstance(owner, ast.Name):
            held = self.state.kept.get(owner.id, NOTHING)
            if func.attr in ADDING:
                self.state.put_into(owner.id, NOTHING.union(*arguments))
        if is_mutating_call(node):
            self._change(origins | held, node)
        else:
            self._use(Use.PASSED, origins, node)
        shares = func.attr in VIEWS or asks_for_no_copy(node)
        result = origins | self._parts(owner) if shares else NOTHING
        known = self.callables.class_named(owner.id) if isinstance(owner, ast.Name) else None
        for class_name, method in self.callables.methods(func.attr):
            if known is None:
                bound = self._bound(method, [origins | held, *arguments], named)
            elif is_class_method(method):
                bound = self._bound(method, [NOTHING, *arguments], named)
            else:
                bound = self._bound(method, arguments, named)
            result |= self._apply(self.effects(method, class_name), node, bound)
        return result

    def _passed(self, name: str, node: ast.AST) -> None:
        """Read a call of a function by whatever it is passed to."""
        function = self.callables.function(name)
        if function is not None:
            given = [self._given] * len(positional_parameters(function.args)) if self._given else []
            self._called(name, node, given, {})

    def _called(self, name: str, node: ast.AST, arguments: list[Origins], named: Mapping[str, Origins]) -> Origins:
        # A name that holds what a function returned is no function of the notebook, although one in it has this name.
        function = self.callables.function(name) if self.state.kinds.get(name) is not Kind.CALLED else None
        if function is not None:
            if any(self._keeps_state(each) for each in function.decorator_list):
                self._change(self._origins_of(name), node)
            return self._apply(self.effects(function, ""), node, self._bound(function, arguments, named))
        functions = self._functions_of(ast.Name(name))
        if functions:
            # For a name that stands for itself, as after f = partial(f, 1).
            self.state.functions[name] = ()
            results = [self._call_value(each, node, arguments, named) for each in functions]
            self.state.functions[name] = functions
            return NOTHING.union(*results)
        if name in self.state.names and self.callables.class_named(name) is None:
            self._change(self.state.kept.get(name, NOTHING), node)
            self._use(Use.CALLED, self._origins_of(name), node)
            return self._special(node, self._origins_of(name), ("__call__",))
        for constructor in ("__new__", "__init__", "__post_init__"):
            method = self.callables.method_of(name, constructor)
            if method is not None:
                bound = self._bound(method, [NOTHING, *arguments], named)
                self._apply(self.effects(method, name), node, bound)
        return NOTHING

    def _keeps_state(self, decorator: ast.expr) -> bool:
        called = self.callables.function(decorator.id) if isinstance(decorator, ast.Name) else None
        return called is not None and keeps_state(called)

    def _bound(self, function: Function, arguments: list[Origins], named: Mapping[str, Origins]) -> dict[str, Origins]:
        names = positional_parameters(function.args)
        bound = {name: origins for name, origins in zip_longest(names, arguments[: len(names)], fillvalue=NOTHING)
                 if isinstance(name, str)}  # fmt: skip
        for name in mutable_defaults(function).difference(names[: len(arguments)], named):
            # A default value is the function's own: it lives on between calls.
            bound[name] = self._origins_of(function.name)
        return bound | dict(named)

    def _resolved(self, origin: Origin, bound: Mapping[str, Origins]) -> Origins:
        """Return the origins that one in a function stands for where it is called."""
        kind, name = origin
        if kind == "parameter":
            return bound.get(name, NOTHING)
        if kind in VIEWED:
            return self._perhaps(self._resolved(whole_of(origin), bound), kind)
        return self._origins_of(name)

    def _apply(self, effects: CallEffects, node: ast.AST, bound: Mapping[str, Origins]) -> Origins:
        before = self._certain
        for certain, changes in ((True, effects.changes), (False, effects.possible)):
            self._certain = before and certain
            for origin in changes:
                if origin[0] == "random":
                    self._seed(origin[1], node)
                elif origin[0] == "process":
                    self._change([origin], node)
                else:
                    self._change(self._resolved(origin, bound), node)
        self._certain = before
        self._put_back(effects.restores, node)
        for origin in effects.suspected:
            self._suspect(self._resolved(origin, bound), node)
        for use, origin in effects.uses:
            self._use(use, self._resolved(origin, bound), node)
        for name in effects.rebinds:
            self._rebind(name, node)
        self.draws |= effects.draws - self._seeded
        return NOTHING.union(*(self._resolved(origin, bound) for origin in effects.returns))

    def _seed(self, library: str, node: ast.AST) -> None:
        self._seeded.add(library)
        self.changes.append(Change(("random", library), node, self._certain))

    def _random(self, name: str, node: ast.Call) -> None:
        full = self.callables.full_name(name)
        seeded, drawn = seeded_library(full), drawn_library(full, node)
        if seeded is not None:
            self._seed(seeded, node)
        elif drawn is not None and drawn not in self._seeded:
            self.draws.add(drawn)

    def _magic(self, node: ast.Call) -> None:
        texts = magic_texts(node)
        if texts[:1] == ["cd"]:
            self._change([FOLDER], node)
        if texts[:1] == ["time"] and len(texts) > 1:
            try:
                self.run(ast.parse(texts[1].strip()).body)
            except (SyntaxError, ValueError):
                return
