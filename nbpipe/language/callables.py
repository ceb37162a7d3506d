"""The functions and classes that code may call by name, and the methods of these classes."""

from __future__ import annotations

import ast
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

Function = ast.FunctionDef | ast.AsyncFunctionDef
_FUNCTIONS = (ast.FunctionDef, ast.AsyncFunctionDef)
_MUTABLE = (ast.List, ast.Dict, ast.Set, ast.ListComp, ast.DictComp, ast.SetComp, ast.Call)
_PROPERTIES = frozenset({"property"})


@dataclass(slots=True)
class _Class:
    methods: dict[str, Function]
    node: ast.ClassDef
    attributes: frozenset[str]


@dataclass(slots=True)
class Callables:
    """Functions and classes by name.

    ``imported`` are the full names of what imports bind, ``effects`` what calls change, ``kinds`` those of objects,
    ``made`` those of what calls return, ``aliases`` the functions that other global names stand for.
    """

    imported: dict[str, str] = field(default_factory=dict)
    effects: dict[int, Any] = field(default_factory=dict)
    kinds: dict[Any, Any] = field(default_factory=dict)
    made: dict[int, Any] = field(default_factory=dict)
    aliases: dict[str, tuple[ast.expr, ...]] = field(default_factory=dict)
    _functions: dict[str, Function] = field(default_factory=dict)
    _classes: dict[str, _Class] = field(default_factory=dict)
    _by_name: dict[str, list[tuple[str, Function]]] | None = None

    def define(self, node: Function | ast.ClassDef) -> None:
        """Add a function or class; it replaces one with the same name."""
        self._by_name = None
        if isinstance(node, ast.ClassDef):
            methods = {item.name: item for item in node.body if isinstance(item, _FUNCTIONS)}
            self._classes[node.name] = _Class(methods, node, _shared_attributes(node))
            self._functions.pop(node.name, None)
        else:
            self._functions[node.name] = node
            self._classes.pop(node.name, None)

    def full_name(self, name: str) -> str:
        """Return a dotted name as its module has it, if an import binds what it begins with; else the name."""
        root, dot, rest = name.partition(".")
        return f"{self.imported[root]}{dot}{rest}" if root in self.imported else name

    def function(self, name: str) -> Function | None:
        """Return the function with this name, if there is one."""
        return self._functions.get(name)

    def class_named(self, name: str) -> ast.ClassDef | None:
        """Return the class with this name, if there is one."""
        owner = self._classes.get(name)
        return owner.node if owner else None

    @property
    def classes(self) -> list[ast.ClassDef]:
        """Return all classes."""
        return [each.node for each in self._classes.values()]

    def method_of(self, class_name: str, name: str) -> Function | None:
        """Return a method of a class, which it defines itself or has from a class of the notebook."""
        todo, seen = [class_name], set[str]()
        while todo:
            current = todo.pop(0)
            owner = self._classes.get(current)
            if owner is None or current in seen:
                continue
            seen.add(current)
            if name in owner.methods:
                return owner.methods[name]
            todo += [dotted_name(base) for base in owner.node.bases]
        return None

    def methods(self, name: str) -> Sequence[tuple[str, Function]]:
        """Return the methods with this name, each with the name of its class."""
        if self._by_name is None:
            self._by_name = {}
            for class_name, owner in self._classes.items():
                for each, method in owner.methods.items():
                    self._by_name[each] = [*self._by_name.get(each, ()), (class_name, method)]
        return self._by_name.get(name, ())

    def functions_of(self, name: str) -> list[tuple[Function, str]]:
        """Return the function with this name, or all methods of the class with this name, each with its class."""
        if name in self._functions:
            return [(self._functions[name], "")]
        owner = self._classes.get(name)
        return [(method, name) for method in owner.methods.values()] if owner else []

    def class_attributes(self, class_name: str) -> frozenset[str]:
        """Return the attributes of a class that its instances share."""
        owner = self._classes.get(class_name)
        return owner.attributes if owner else frozenset()


def dotted_name(node: ast.AST) -> str:
    """Return ``a.b.c`` as a text; of other expressions, only the last attribute; else an empty text."""
    parts: list[str] = []
    while isinstance(node, ast.Attribute):
        parts.append(node.attr)
        node = node.value
    if isinstance(node, ast.Name):
        parts.append(node.id)
    elif parts:
        parts.append("")
    return ".".join(reversed(parts))


def positional_parameters(arguments: ast.arguments) -> list[str]:
    """Return the names of the parameters that can be given by position."""
    return [item.arg for item in (*arguments.posonlyargs, *arguments.args)]


def mutable_defaults(function: Function) -> frozenset[str]:
    """Return the parameters whose default values can be changed in place."""
    arguments = function.args
    names = positional_parameters(arguments)
    defaulted = names[len(names) - len(arguments.defaults) :]
    pairs = [*zip(defaulted, arguments.defaults, strict=True)]
    pairs += [(item.arg, value) for item, value in zip(arguments.kwonlyargs, arguments.kw_defaults, strict=True)
              if value is not None]  # fmt: skip
    return frozenset(name for name, value in pairs if isinstance(value, _MUTABLE))


def named_defaults(function: Function) -> dict[str, str]:
    """Return the parameters whose default value is what a name holds, with that name."""
    arguments = function.args
    names = positional_parameters(arguments)
    pairs = [*zip(names[len(names) - len(arguments.defaults) :], arguments.defaults, strict=True)]
    pairs += [(item.arg, value) for item, value in zip(arguments.kwonlyargs, arguments.kw_defaults, strict=True)
              if value is not None]  # fmt: skip
    return {name: value.id for name, value in pairs if isinstance(value, ast.Name)}


def is_indexer(node: ast.AST) -> bool:
    """Return whether an expression is a table's ``loc`` or the like, through which it is read and set."""
    return isinstance(node, ast.Attribute) and node.attr in ("loc", "iloc", "at", "iat")


def is_property(function: Function) -> bool:
    """Return whether a method is called by reading an attribute."""
    return any(dotted_name(decorator) in _PROPERTIES for decorator in function.decorator_list)


def is_class_method(function: Function) -> bool:
    """Return whether a method gets its class as its first argument."""
    named = {dotted_name(decorator) for decorator in function.decorator_list}
    return "classmethod" in named or function.name in ("__init_subclass__", "__new__", "__class_getitem__")


def _shared_attributes(node: ast.ClassDef) -> frozenset[str]:
    """Return the mutable attributes of a class that no method replaces for its instance."""
    shared = {
        target.id
        for item in node.body if isinstance(item, ast.Assign) and not isinstance(item.value, ast.Constant)
        for target in item.targets if isinstance(target, ast.Name)
    }  # fmt: skip
    if not shared:
        return frozenset()
    own = {
        part.attr for item in node.body if isinstance(item, _FUNCTIONS) for part in ast.walk(item)
        if isinstance(part, ast.Attribute) and isinstance(part.ctx, ast.Store) and isinstance(part.value, ast.Name)
    }  # fmt: skip
    return frozenset(shared - own)


def named_global(target: ast.Attribute | ast.Subscript) -> str:
    """Return the name in ``globals()["name"]``, also of ``vars()`` and ``locals()``, else an empty text."""
    if not isinstance(target, ast.Subscript) or not isinstance(target.value, ast.Call):
        return ""
    key = target.slice.value if isinstance(target.slice, ast.Constant) else None
    own = dotted_name(target.value.func) in ("globals", "vars", "locals") and not target.value.args
    return key if own and isinstance(key, str) else ""
