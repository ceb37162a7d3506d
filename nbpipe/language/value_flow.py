"""Which objects expressions come from, change and bind to names, followed through aliases, functions and methods.

An object is known by its origins: where it came from. What cannot be determined from the text has none.
"""

from __future__ import annotations

import ast
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, ClassVar

from nbpipe.language.ast_nodes import children, every_node
from nbpipe.language.callables import (
    Callables,
    Function,
    dotted_name,
    is_indexer,
    is_property,
    named_global,
    positional_parameters,
)
from nbpipe.language.mutation_analysis import is_mutator
from nbpipe.language.name_state import NameState
from nbpipe.language.object_effects import NOTHING, CallEffects, Change, Origin, Origins, Use
from nbpipe.language.object_retention import kept_arguments
from nbpipe.language.partial_views import (
    COPIED,
    ITEM,
    KEY,
    SLICE,
    VIEWED,
    changes_elements,
    is_one_key,
    may_be_one_key,
    whole_of,
)
from nbpipe.language.process_state import replaced_state
from nbpipe.language.value_kinds import CHANGING, LOOKED_AT, SHARING, Kind, kind_of

# Objects about which the text shows nothing else may be changed by methods that are called for their effect.
_SUSPECTED = ("output", "made", "parameter")
# The kinds of objects whose slices and items may share their data, if the text shows no array.
_VIEWABLE: Mapping[str, tuple[Kind | None, ...]] = {
    SLICE: (None,), ITEM: (None, Kind.LIST, Kind.ARRAYS), COPIED: (Kind.LIST, Kind.ARRAYS)
}  # fmt: skip
DISPLAYS = (ast.List, ast.Tuple, ast.Set, ast.Dict)
# Operators that make a list or dict of the elements of others.
_JOINING = (ast.Add, ast.Mult, ast.BitOr)
_JOINED = (Kind.LIST, Kind.ARRAYS, Kind.FILLED)
# The origins of modules: known by their own name, or by that which a function uses for one.
_GLOBAL = ("module", "name")


@dataclass(slots=True)
class ValueFlow(ABC):
    """Reads expressions in order, and keeps in ``state`` what names hold.

    ``changes`` and ``rebinds`` are in the order in which the code makes them; ``uses`` are what it calls, iterates over
    or passes on; ``draws`` are the generators of random numbers that are used before they are seeded. ``owner`` is the
    class of a method, ``instance`` the name of its first parameter; ``returns`` are the origins of what a function
    returns, ``returned_parts`` those of what a new list or dict holds that it returns. With ``place``, what a statement
    makes gets an origin of its own.
    """

    callables: Callables
    state: NameState
    changes: list[Change] = field(default_factory=list)
    rebinds: list[tuple[str, ast.AST]] = field(default_factory=list)
    uses: dict[tuple[Use, Origin], None] = field(default_factory=dict)
    draws: set[str] = field(default_factory=set)
    in_function: bool = False
    owner: str = ""
    instance: str = ""
    place: str = ""
    shown: ast.AST | None = None
    varying: set[str] = field(default_factory=set)
    _nested: set[str] = field(default_factory=set)
    returns: set[Origin] = field(default_factory=set)
    returned_parts: set[Origin] = field(default_factory=set)
    _given: Origins = NOTHING
    _seeded: set[str] = field(default_factory=set)
    _stored: bool = False
    _certain: bool = True
    _held: dict[int, Origins] = field(default_factory=dict)
    _texts_read: list[ast.stmt] = field(default_factory=list)

    @abstractmethod
    def run(self, statements: Iterable[ast.AST]) -> None:
        """Read statements as if they were executed once, with every branch taken."""

    @abstractmethod
    def effects(self, function: Function, owner: str) -> CallEffects:
        """Return what a call of a function changes; ``owner`` is the class of a method, else empty."""

    @abstractmethod
    def _call(self, node: ast.Call) -> Origins:
        """Read a call, and return the origins of its result."""

    @abstractmethod
    def _is_function(self, node: ast.expr) -> bool:
        """Return whether an expression is a function of which is known what it changes."""

    @abstractmethod
    def _passed(self, name: str, node: ast.AST) -> None:
        """Read a call of a function by whatever it is passed to."""

    @abstractmethod
    def _bound(self, function: Function, arguments: list[Origins], named: Mapping[str, Origins]) -> dict[str, Origins]:
        """Return the origins of what a function's parameters get."""

    @abstractmethod
    def _apply(self, effects: CallEffects, node: ast.AST, bound: Mapping[str, Origins]) -> Origins:
        """Note what a call does whose parameters get this, and return the origins of its result."""

    # Names

    def _origins_of(self, name: str) -> Origins:
        return self.state.origins_of(name)

    def _bind_value(self, target: ast.expr, value: ast.expr) -> None:
        pairs = (ast.Tuple, ast.List)
        if isinstance(target, pairs) and isinstance(value, pairs) and len(target.elts) == len(value.elts):
            values = [self._stored_value(item) for item in value.elts]
            known = [(self._parts(item), self._kind(item)) for item in value.elts]
            for part, origins, (parts, kind) in zip(target.elts, values, known, strict=True):
                self._bind(part, origins or self._new(target), target)
                self._know(part, parts, kind)
            return
        origins, parts, kind = self._stored_value(value), self._parts(value), self._kind(value)
        kept = self._kept_by(value)
        unpacked = parts if isinstance(target, pairs) else NOTHING
        self._bind(target, (origins | unpacked) or self._new(target), target)
        self._know(target, parts if isinstance(target, ast.Name) else parts | origins, kind)
        if isinstance(target, ast.Name):
            if kept:
                self.state.kept[target.id] = kept
            self._stand_for(target.id, [value])

    def _new(self, node: ast.AST) -> Origins:
        """Return an origin for what a statement makes."""
        return frozenset([("made", f"{self.place}:{id(node)}")]) if self.place and not self.in_function else NOTHING

    def _know(self, target: ast.AST, parts: Origins, kind: Kind | None) -> None:
        """Remember what an assignment shows of the object that a target now holds, or holds in turn."""
        if isinstance(target, ast.Name):
            self.state.parts[target.id] = parts
            if kind is not None:
                self.state.kinds[target.id] = kind
        elif isinstance(target, ast.Attribute | ast.Subscript) and isinstance(target.value, ast.Name):
            self.state.put_into(target.value.id, parts)
        elif isinstance(target, ast.Tuple | ast.List) and kind is not None and not parts:
            for part in target.elts:
                self._know(part, NOTHING, kind)

    def _stand_for(self, name: str, values: Iterable[ast.expr]) -> None:
        """Remember which functions a name may stand for, if these are what it is bound to."""
        functions = tuple(filter(self._is_function, values))
        if functions:
            self.state.functions[name] = functions
        if not self.in_function and (functions or name in self.callables.aliases):
            self.callables.aliases[name] = functions

    def _kind(self, value: ast.AST) -> Kind | None:
        return kind_of(value, self.callables, self.state.kinds)

    def _parts(self, node: ast.AST) -> Origins:
        """Return the origins of what a list or dict holds: a change of that is seen in it, but not the reverse.

        The expression has been read before.
        """
        return self.state.origins_in(node) if isinstance(node, ast.Name) else self._held.get(id(node), NOTHING)

    def _holds(self, node: ast.AST, origins: Origins) -> None:
        """Note the origins of what the new list or dict holds that an expression makes."""
        if origins:
            self._held[id(node)] = origins

    def _with_parts(self, node: ast.expr) -> Origins:
        """Read an expression, and return the origins of its value and of what that holds."""
        return self._value(node) | self._parts(node)

    def _kept_by(self, value: ast.AST) -> Origins:
        """Return the origins of what calls and methods of an object change, because it was made of that."""
        if isinstance(value, ast.Attribute):
            return self._owner_of(value) if is_mutator(value.attr) else NOTHING
        if not isinstance(value, ast.Call):
            return NOTHING
        nodes = [node for each in kept_arguments(value, self.callables) for node in every_node(each)]
        if not nodes:
            return NOTHING
        called = {id(node.func) for node in nodes if isinstance(node, ast.Call)}
        named = {node.id for node in nodes if isinstance(node, ast.Name) and id(node) not in called}
        return NOTHING.union(*map(self._origins_of, sorted(named)))

    def _bind(self, target: ast.AST, origins: Origins, node: ast.AST) -> None:
        if isinstance(target, ast.Name):
            self._bind_name(target.id, origins, node)
        elif isinstance(target, ast.Starred):
            self._bind(target.value, self._new(target), node)
            self._know(target.value, origins, Kind.LIST)
        elif isinstance(target, ast.Tuple | ast.List):
            for part in target.elts:
                self._bind(part, origins, node)
        elif isinstance(target, ast.Attribute | ast.Subscript):
            if self._bind_in_module(target, origins, node):
                return
            named = named_global(target)
            if named:
                self._rebind(named, node)
            if isinstance(target, ast.Subscript):
                self._value(target.slice)
            self._change(self._owner_of(target), node)

    def _bind_in_module(self, target: ast.Attribute | ast.Subscript, origins: Origins, node: ast.AST) -> bool:
        """Read an assignment to what all code of a process has in common, and return whether it is one."""
        full = self.callables.full_name(dotted_name(target.value if isinstance(target, ast.Subscript) else target))
        if isinstance(target, ast.Subscript):
            key = target.slice.value if isinstance(target.slice, ast.Constant) else None
            if full != "sys.modules" or not isinstance(key, str):
                return False
            self._change([("module", key.partition(".")[0])], node)
            return True
        module, _, attribute = full.rpartition(".")
        replaced = replaced_state(full)
        if module == "builtins":
            self._rebind(attribute, node)
        elif any(kind in _GLOBAL and self.callables.full_name(name) == "sys" for kind, name in origins):
            self._put_back(replaced, node)
        else:
            self._change(replaced, node)
        return module == "builtins" or bool(replaced)

    def _put_back(self, origins: Iterable[Origin], node: ast.AST) -> None:
        self.changes += [Change(origin, node, restores=True) for origin in origins]

    def _bind_name(self, name: str, origins: Origins, node: ast.AST) -> None:
        self.state.forget(name)
        if not self.in_function or name in self.state.globals:
            self._rebind(name, node)
        self.state.set(name, origins)

    def _rebind(self, name: str, node: ast.AST) -> None:
        self.state.set(name, NOTHING)
        self.rebinds.append((name, node))

    def _change(self, origins: Iterable[Origin], node: ast.AST) -> None:
        for origin in sorted(origins):
            if origin[0] not in VIEWED:
                self.changes.append(Change(origin, node, self._certain))
            elif changes_elements(node, origin[0]):
                self._suspect([origin], node)

    def _use(self, use: Use, origins: Iterable[Origin], node: ast.AST) -> None:
        """Note that objects are used: that changes those of some kinds."""
        if self.in_function:
            self.uses.update(dict.fromkeys((use, origin) for origin in sorted(origins)))
            return
        kinds = self.callables.kinds
        self._change([each for each in origins if each in kinds and use in CHANGING[kinds[each]]], node)

    def _suspect(self, origins: Iterable[Origin], node: ast.AST) -> None:
        for origin in sorted(origins):
            # The caller of a function knows what a parameter is.
            whole = whole_of(origin) if origin[0] in VIEWED and not self.in_function else origin
            if whole[0] in (*_SUSPECTED, *VIEWED):
                self.changes.append(Change(whole, node, certain=False, known=False))

    def _special(self, node: ast.AST, origins: Origins, names: Iterable[str]) -> Origins:
        """Read what operators, properties and other syntax call in the classes of the notebook."""
        result = NOTHING
        for name in names:
            for class_name, method in self.callables.methods(name):
                bound = self._bound(method, [origins], {})
                result |= self._apply(self.effects(method, class_name), node, bound)
        return result

    def _own_objects(self, node: ast.AST, origins: Origins) -> Origins:
        """Return the origins of an expression's value, if that may be an object of a class of the notebook."""
        return origins if self._kind(node) not in LOOKED_AT else NOTHING

    # Values

    def _value(self, node: ast.AST) -> Origins:
        """Return the origins of an expression's value, which may be the object itself or a part of it."""
        if isinstance(node, ast.Call):
            return self._call(node)
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
        hidden = self.in_function and node.id in self.state.names and node.id not in self._nested
        if self.callables.function(node.id) is not None and not hidden:
            self._later(lambda: self._passed(node.id, node))
        return self._origins_of(node.id)

    def _attribute(self, node: ast.Attribute) -> Origins:
        origins = self._owner_of(node)
        for class_name, method in self.callables.methods(node.attr):
            if is_property(method):
                own = self._own_objects(node.value, origins)
                self._apply(self.effects(method, class_name), node, self._bound(method, [own], {}))
        return origins | self._parts(node.value)

    def _subscript(self, node: ast.Subscript) -> Origins:
        self._value(node.slice)
        origins = self._owner_of(node)
        self._use(Use.ITEM, origins, node)
        self._special(node, self._own_objects(node.value, origins), ("__getitem__", "__missing__"))
        indexes = node.slice.elts if isinstance(node.slice, ast.Tuple) else [node.slice]
        held = self._parts(node.value)
        if any(isinstance(each, ast.Slice) for each in indexes):
            self._holds(node, origins | held)
            return self._perhaps(origins, SLICE)
        if is_one_key(node.slice) or (isinstance(node.slice, ast.Name) and node.slice.id in self.varying):
            return origins | held
        # Other subscripts of tables select copies, those of lists and dicts their elements.
        return held | (self._perhaps(origins, ITEM) if may_be_one_key(node.slice) else NOTHING)

    def _perhaps(self, origins: Origins, how: str) -> Origins:
        """Return the origins of a slice or an item, of which the text may not show whether it is a copy."""
        kinds = self.callables.kinds
        arrays = SHARING if how != COPIED else ()
        shared = frozenset(each for each in origins if each[0] in VIEWED or kinds.get(each) in arrays)
        return shared | frozenset(
            (how, ".".join(each)) for each in origins - shared
            if each[0] in _SUSPECTED and (kinds.get(each) in _VIEWABLE[how] or each[0] == "parameter")
        )  # fmt: skip

    def _owner_of(self, node: ast.Attribute | ast.Subscript) -> Origins:
        """Return the origins of the object that an attribute or an item belongs to."""
        inner = node.value
        named = named_global(inner) if isinstance(inner, ast.Subscript) else ""
        if named:
            return self._origins_of(named)
        if isinstance(node, ast.Attribute) and isinstance(inner, ast.Name) and self.owner:
            shared = node.attr == "__class__" or node.attr in self.callables.class_attributes(self.owner)
            if inner.id == self.instance and shared:
                return frozenset([("name", self.owner)])
        if isinstance(inner, ast.Attribute | ast.Subscript):
            if isinstance(inner, ast.Subscript):
                self._value(inner.slice)
            owners = self._owner_of(inner)
            return owners | self._parts(inner.value) if not is_indexer(inner) else owners
        return self._origins_of(inner.id) if isinstance(inner, ast.Name) else self._value(inner)

    def _either(self, node: ast.IfExp | ast.BoolOp) -> Origins:
        parts = [child for child in children(node) if isinstance(child, ast.expr)]
        origins = NOTHING.union(*map(self._value, parts))
        self._holds(node, NOTHING.union(*map(self._parts, parts)))
        return origins

    def _walrus(self, node: ast.NamedExpr) -> Origins:
        origins = self._value(node.value)
        self._bind(node.target, origins, node)
        return origins

    def _passed_on(self, node: ast.Starred | ast.Await) -> Origins:
        return self._value(node.value)

    def _lambda(self, node: ast.Lambda) -> Origins:
        given = self._given
        self._later(lambda: self._scoped(dict.fromkeys(positional_parameters(node.args), given), (), node.body))
        return NOTHING

    def _comprehension(self, node: ast.ListComp | ast.SetComp | ast.GeneratorExp | ast.DictComp) -> Origins:
        hidden: dict[str, Origins] = {}
        for generator in node.generators:
            elements = self._with_parts(generator.iter)
            self._use(Use.PASSED, elements, generator.iter)
            self._special(generator.iter, elements, ("__iter__", "__next__"))
            self.varying.update(part.id for part in ast.walk(generator.target) if isinstance(part, ast.Name))
            hidden |= {part.id: elements for part in ast.walk(generator.target) if isinstance(part, ast.Name)}
            self._loop_functions(generator.target, generator.iter)
        tests = [test for one in node.generators for test in one.ifs]
        if isinstance(node, ast.DictComp):
            tests.append(node.key)
        self._holds(node, self._scoped(hidden, tests, node.value if isinstance(node, ast.DictComp) else node.elt))
        return NOTHING

    def _scoped(self, hidden: Mapping[str, Origins], before: Iterable[ast.AST], result: ast.expr) -> Origins:
        """Read expressions in which some names mean something else, and return the origins of the last one."""
        outer = {name: self.state.names.get(name) for name in hidden}
        self.state.names.update(hidden)
        for part in before:
            self._value(part)
        origins = self._item(result)
        for name, own in outer.items():
            self.state.restore(name, own)
        return origins

    def _loop_functions(self, target: ast.expr, iterated: ast.expr) -> None:
        """Remember the functions of a display that a loop's variable stands for, one after the other."""
        if isinstance(target, ast.Name) and isinstance(iterated, ast.List | ast.Tuple | ast.Set):
            self._stand_for(target.id, iterated.elts)

    def _display(self, node: ast.List | ast.Tuple | ast.Set) -> Origins:
        self._holds(node, NOTHING.union(*map(self._item, node.elts)))
        return NOTHING

    def _dictionary(self, node: ast.Dict) -> Origins:
        items = [self._item(value) if key is not None else self._with_parts(value)
                 for key, value in zip(node.keys, node.values, strict=True)]  # fmt: skip
        # A key is the same object as outside, and what is looked up by it is another one.
        items += [frozenset((KEY, ".".join(each)) for each in self._value(key)) for key in filter(None, node.keys)]
        self._holds(node, NOTHING.union(*items))
        return NOTHING

    def _item(self, node: ast.expr) -> Origins:
        """Read an item of a display, and return the origins of what it adds to that; a display in it counts as well."""
        origins = self._value(node)
        if isinstance(node, ast.Starred):
            return origins | self._parts(node.value)
        return origins | self._parts(node) if isinstance(node, DISPLAYS) else origins

    def _binary(self, node: ast.BinOp) -> Origins:
        sides = [(each, self._with_parts(each)) for each in (node.left, node.right)]
        if isinstance(node.op, _JOINING) and any(held for _, held in sides):
            lists = [held for each, held in sides if not _is_number(each) and self._kind(each) in _JOINED]
            # The other operand of a product is a number.
            joined = [held for _, held in sides] if lists and not isinstance(node.op, ast.Mult) else lists
            self._holds(node, NOTHING.union(*joined))
        return NOTHING

    def _yield(self, node: ast.Yield | ast.YieldFrom) -> Origins:
        if node.value is not None:
            self.returned_parts |= self._item(node.value) | self._parts(node.value)
        return NOTHING

    _VALUES: ClassVar[Mapping[type[ast.AST], Callable[[Any, Any], Origins]]] = {
        ast.Name: _name, ast.Attribute: _attribute, ast.Subscript: _subscript, ast.IfExp: _either, ast.BoolOp: _either,
        ast.NamedExpr: _walrus, ast.Starred: _passed_on, ast.Await: _passed_on, ast.Lambda: _lambda,
        ast.ListComp: _comprehension, ast.SetComp: _comprehension, ast.GeneratorExp: _comprehension,
        ast.DictComp: _comprehension, ast.List: _display, ast.Tuple: _display, ast.Set: _display, ast.Dict: _dictionary,
        ast.BinOp: _binary, ast.Yield: _yield, ast.YieldFrom: _yield,
    }  # fmt: skip


def _is_number(node: ast.AST) -> bool:
    return isinstance(node, ast.Constant) and not isinstance(node.value, str | bytes)
