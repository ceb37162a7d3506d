"""What calls do to objects: calls of functions and methods, of what holds them, and of what is passed to others."""

from __future__ import annotations

import ast
from collections.abc import Mapping
from dataclasses import dataclass
from itertools import zip_longest

from nbpipe.language.call_arguments import (
    bound_method,
    called_method,
    is_getter,
    named_arguments,
    partial_function,
    positional_arguments,
)
from nbpipe.language.callables import (
    Function,
    dotted_name,
    is_class_method,
    is_property,
    mutable_defaults,
    named_defaults,
    positional_parameters,
)
from nbpipe.language.known_calls import (
    ADDING,
    ARRAY_METHODS,
    CHANGERS,
    COLLECTING,
    CONTAINERS,
    FILLING,
    PIPING,
    SELECTING,
    SPELLED,
    TENSOR_METHODS,
    VIEWS,
    asks_for_no_copy,
    changes_first_argument,
    overwrites_argument,
    returns_argument,
    written_by_method,
    written_by_position,
)
from nbpipe.language.mutation_analysis import MUTATORS, is_mutating_call, is_mutator
from nbpipe.language.name_analysis import magic_texts
from nbpipe.language.object_effects import NOTHING, CallEffects, Change, Origin, Origins, Use
from nbpipe.language.partial_views import COPIED, SLICE, VIEWED, whole_of
from nbpipe.language.process_state import FOLDER, option_set, process_state
from nbpipe.language.random_generators import drawn_library, seeded_library
from nbpipe.language.value_flow import DISPLAYS, ValueFlow
from nbpipe.language.value_kinds import CLASS_KINDS, IN_PLACE, LOOKING, PURE_IN_TABLES, Kind, keeps_state

# What takes a function to call it later, for which it returns another one.
_HOLDING = frozenset({"partial", "partialmethod", "methodcaller"})
# The methods of an estimator that may overwrite what they are given, if it is made so.
_OVERWRITING_METHODS = frozenset({"fit", "transform", "fit_transform", "inverse_transform"})
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
        self._texts(name, node)
        self._random(name, node)
        full = self.callables.full_name(name)
        self._changed_arguments(full, node, arguments, named)
        result = arguments[0] if arguments and returns_argument(full, node) else NOTHING
        if full == "iter" and node.args and self._kind(node.args[0]) is not Kind.CONSUMED:
            # An iterator of its own; only that of an iterator is the iterator.
            result = NOTHING
        if node.args and full in SELECTING:
            result |= NOTHING.union(*arguments, *map(self._parts, node.args))
        if full in COLLECTING:
            others = [*arguments, *named.values(), *map(self._parts, node.args)]
            self._holds(node, NOTHING.union(*others, *(self._parts(each.value) for each in node.keywords)))
        if name == "type" and len(arguments) == 1 and self.owner and isinstance(node.args[0], ast.Name):
            return frozenset([("name", self.owner)]) if node.args[0].id == self.instance else NOTHING
        if isinstance(node.func, ast.Attribute):
            return result | self._method(node, node.func, arguments, named)
        if isinstance(node.func, ast.Name):
            return result | self._called(name, node, arguments, named)
        if not isinstance(node.func, ast.Lambda):
            self._value(node.func)
        return result | self._call_value(node.func, node, arguments, named)

    def _changed_arguments(
        self, full_name: str, node: ast.Call, arguments: list[Origins], named: Mapping[str, Origins]
    ) -> None:
        """Note what a function of a library changes of what it is given."""
        root, _, last = full_name.rpartition(".")
        imported = dotted_name(node.func).partition(".")[0] in self.callables.imported
        self._change(process_state(full_name) | (option_set(full_name, node) if imported else NOTHING), node)
        written = [
            self._parts(each.value) for each in node.keywords if each.arg == "out" and isinstance(each.value, ast.Tuple)
        ]
        self._change(
            NOTHING.union(named.get("out", NOTHING), written_by_position(full_name, arguments), *written), node
        )
        if last == "print":
            self._change([each for each in named.get("file", NOTHING) if each[0] != "module"], node)
        if last in FILLING:
            self._change(NOTHING.union(*arguments), node)
        # torch marks its functions that change a tensor.
        marked = last.endswith("_") and not last.startswith("_") and imported
        spelled = root == "operator" and last in SPELLED
        if arguments and (last in CHANGERS or marked or spelled or overwrites_argument(full_name, node)):
            self._change(arguments[0], node)

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
                arguments += [origins | self._parts(each.value)] * _MOST
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
            return node.attr in MUTATORS or changes_first_argument(node) or self._is_own_method(node)
        if not isinstance(node, ast.Call):
            return isinstance(node, ast.Lambda)
        method = bound_method(node)
        if method is not None and (is_mutator(method.attr) or self._is_own_method(method)):
            return True
        return bool(called_method(node)) or partial_function(node) is not None or is_getter(node)

    def _is_own_method(self, node: ast.Attribute) -> bool:
        """Return whether an attribute is named as a method of a class of the notebook."""
        return any(not is_property(method) for _, method in self.callables.methods(node.attr))

    def _functions_of(self, node: ast.AST) -> tuple[ast.expr, ...]:
        """Return the functions that a name stands for."""
        return self._functions_named(node.id) if isinstance(node, ast.Name) else ()

    def _functions_named(self, name: str) -> tuple[ast.expr, ...]:
        known = self.state.functions.get(name)
        if known is None and name not in self.state.names:
            return self.callables.aliases.get(name, ())
        return known or ()

    def _call_value(
        self, function: ast.AST, node: ast.AST, arguments: list[Origins], named: Mapping[str, Origins]
    ) -> Origins:
        """Read a call of what an expression stands for, and return the origins of its result."""
        if isinstance(function, ast.Name) and not changes_first_argument(function):
            return self._called(function.id, node, arguments, named)
        if isinstance(function, ast.Lambda):
            return self._called_lambda(function, node, arguments, named)
        inner = partial_function(function)
        if inner is not None and isinstance(function, ast.Call):
            own = [self._value(each) for each in positional_arguments(function)[1:]]
            by_name = {name: self._value(value) for name, value in named_arguments(function)}
            return self._call_value(inner, node, [*own, *arguments], {**by_name, **named})
        first = arguments[0] if arguments else NOTHING
        if changes_first_argument(function) or is_mutator(called_method(function)):
            self._change(first, node)
            return NOTHING
        if is_getter(function):
            return first
        method = bound_method(self._with_getter(function))
        if method is None:
            return NOTHING
        receiver = self._owner_of(method)
        if is_mutator(method.attr):
            self._change(receiver, node)
        return self._own_methods(method, receiver, node, arguments, named)

    def _with_getter(self, function: ast.AST) -> ast.AST:
        """Return a call of a name that stands for ``attrgetter("name")`` as a call of that."""
        if not isinstance(function, ast.Call):
            return function
        getter = next(filter(is_getter, self._functions_of(function.func)), None)
        return ast.copy_location(ast.Call(getter, function.args, []), function) if getter is not None else function

    def _called_lambda(
        self, function: ast.Lambda, node: ast.AST, arguments: list[Origins], named: Mapping[str, Origins]
    ) -> Origins:
        names = positional_parameters(function.args)
        defaults = dict(zip(reversed(names), map(self._value, reversed(function.args.defaults)), strict=False))
        given = {**dict.fromkeys(names, NOTHING), **defaults, **dict(zip(names, arguments, strict=False)), **named}
        origins = self._scoped({name: given[name] for name in names}, (), function.body)
        if not isinstance(function.body, DISPLAYS):
            return origins
        self._holds(node, origins)
        return NOTHING

    def _method(
        self, node: ast.Call, func: ast.Attribute, arguments: list[Origins], named: Mapping[str, Origins]
    ) -> Origins:
        owner = func.value
        origins = self._origins_of(owner.id) if isinstance(owner, ast.Name) else self._owner_of(func)
        direct = isinstance(owner, ast.Name)
        root, _, last = dotted_name(owner).rpartition(".")
        imported = self.callables.imported
        is_free = root in imported if root else last not in self.state.names or last in imported
        if last in CONTAINERS and is_free:
            if arguments and (is_mutating_call(node) or func.attr in IN_PLACE.get(CLASS_KINDS.get(last), ())):
                self._change(arguments[0], node)
            return NOTHING
        if direct and owner.id in imported:  # type: ignore[attr-defined]
            return NOTHING
        held = self.state.kept.get(owner.id, NOTHING) if isinstance(owner, ast.Name) else self._kept_by(owner)
        container = owner.value if isinstance(owner, ast.Subscript) else owner
        if isinstance(container, ast.Name) and func.attr in ADDING:
            self.state.put_into(container.id, NOTHING.union(*arguments))
        kind = self._kind(owner)
        self._changed_by_method(node, func.attr, kind, origins | held, arguments)
        if not is_mutating_call(node):
            self._use(Use.PASSED, origins, node)
        if func.attr == "copy" and origins:
            self._holds(node, self._copied(origins, kind) | self._parts(owner))
        shares = func.attr in VIEWS or asks_for_no_copy(node)
        result = origins | self._parts(owner) if shares else NOTHING
        if func.attr in ARRAY_METHODS or (func.attr in TENSOR_METHODS and kind is Kind.TENSOR):
            result |= self._perhaps(origins, SLICE)
        return result | self._own_methods(func, origins | held, node, arguments, named)

    def _changed_by_method(
        self, node: ast.Call, name: str, kind: Kind | None, origins: Origins, arguments: list[Origins]
    ) -> None:
        """Note what a method of an object of this kind changes."""
        in_place = is_mutating_call(node) and not (kind is Kind.TABLE and name in PURE_IN_TABLES)
        if in_place or kind is Kind.WRITER or name in IN_PLACE.get(kind, ()):
            self._change(origins, node)
        if kind is Kind.ARRAY:
            self._change(written_by_method(name, arguments), node)
        if kind is Kind.OVERWRITING and arguments and name in _OVERWRITING_METHODS:
            self._change(arguments[0], node)

    def _copied(self, origins: Origins, kind: Kind | None) -> Origins:
        """Return the origins of the elements that a copy has in common with the object, if it is not a deep one."""
        return origins if kind is Kind.LIST else self._perhaps(origins, COPIED)

    def _own_methods(
        self, func: ast.Attribute, receiver: Origins, node: ast.AST, arguments: list[Origins],
        named: Mapping[str, Origins]
    ) -> Origins:  # fmt: skip
        """Read a call of the methods with this name of the notebook's classes, and return the origins of its result."""
        result = NOTHING
        receiver = self._own_objects(func.value, receiver)
        known = self.callables.class_named(func.value.id) if isinstance(func.value, ast.Name) else None
        for class_name, method in self.callables.methods(func.attr):
            if known is None:
                bound = self._bound(method, [receiver, *arguments], named)
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
        functions = self._functions_named(name)
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
        if isinstance(node, ast.Call) and self.callables.class_named(name) is not None:
            self._holds(node, self._kept_by(node))
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
        for name, value in named_defaults(function).items():
            if name not in names[: len(arguments)] and name not in named:
                bound[name] = self._origins_of(value)
        if "" in named:
            bound |= {name: bound[name] | named[""] for name in names if name not in named and name in bound}
        rest, others = function.args.vararg, function.args.kwarg
        if rest is not None:
            bound[rest.arg] = NOTHING.union(*arguments[len(names) :])
        if others is not None:
            bound[others.arg] = NOTHING.union(*(named[name] for name in named if name not in names))
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
        self._holds(node, NOTHING.union(*(self._resolved(origin, bound) for origin in effects.parts)))
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

    def _texts(self, name: str, node: ast.Call) -> None:
        """Read the code that a call is given as a text."""
        if name in ("exec", "eval") and len(node.args) == 1 and not node.keywords:
            code = node.args[0].value if isinstance(node.args[0], ast.Constant) else None
            self._run_text(code)
            return
        texts = magic_texts(node)
        if texts[:1] == ["cd"]:
            self._change([FOLDER], node)
        if texts[:1] == ["time"] and len(texts) > 1:
            self._run_text(texts[1])

    def _run_text(self, text: object) -> None:
        if not isinstance(text, str):
            return
        try:
            body = ast.parse(text.strip()).body
        except (SyntaxError, ValueError):
            return
        # Expressions are known by their nodes, which must not be freed.
        self._texts_read += body
        self.run(body)
