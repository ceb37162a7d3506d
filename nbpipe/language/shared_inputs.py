"""Inputs of a step that are one object in one kernel, or share one, and copies apart from each other in the step.

Outputs of one step that share objects are kept together; those of two steps are not.
"""

from __future__ import annotations

import ast
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations

from nbpipe.language.ast_nodes import every_node
from nbpipe.language.object_effects import Change, Origin, Origins
from nbpipe.language.partial_views import KEY, whole_of

_SEARCHES = frozenset({"index", "remove", "count", "get", "pop", "discard"})


@dataclass(frozen=True, slots=True)
class SharedInputs:
    """Two inputs of a step, each with the step and the output that it comes from, and the origins that both have."""

    first: tuple[str, tuple[str, str]]
    second: tuple[str, tuple[str, str]]
    common: frozenset[Origin]

    @property
    def names(self) -> tuple[str, str]:
        """Return the names of the two inputs."""
        return self.first[0], self.second[0]


def shared_inputs(makers: Mapping[str, tuple[str, str]], held: Mapping[str, Origins]) -> list[SharedInputs]:
    """Return the inputs from different steps that share objects; ``held`` are the origins of each and of its parts."""
    pairs = combinations(sorted(makers), 2)
    objects = {name: frozenset(whole_of(each) if each[0] == KEY else each for each in held[name]) for name in makers}
    found = [
        SharedInputs((one, makers[one]), (other, makers[other]), objects[one] & objects[other]) for one, other in pairs
    ]
    return [pair for pair in found if pair.common and pair.first[1][0] != pair.second[1][0]]


def change_of_one(pair: SharedInputs, changes: Iterable[Change], read: Collection[str]) -> ast.AST | None:
    """Return the code that changes what two inputs share in a step that uses both."""
    if not all(name in read for name in pair.names):
        return None
    return next((change.node for change in changes if change.known and change.origin in pair.common), None)


def comparison(pair: SharedInputs, body: Sequence[ast.stmt], *, by_identity: bool) -> ast.AST | None:
    """Return the code that compares objects by identity; with ``by_identity``, ``==`` and ``in`` do that, too."""
    nodes = [node for statement in body for node in every_node(statement)]
    for node in nodes:
        if _identifies(node):
            return node
        if by_identity and _searches(node) and {*pair.names} <= {*_names(node)}:
            return node
    return None


def compared_by_identity(definition: ast.ClassDef) -> bool:
    """Return whether instances of a class are equal only to themselves, as far as its text shows."""
    methods = {each.name for each in definition.body if isinstance(each, ast.FunctionDef)}
    plain = all(isinstance(base, ast.Name) and base.id == "object" for base in definition.bases)
    return plain and not definition.decorator_list and not definition.keywords and "__eq__" not in methods


def _identifies(node: ast.AST) -> bool:
    if isinstance(node, ast.Compare):
        sides = zip(node.ops, [node.left, *node.comparators], node.comparators, strict=False)
        return any(
            isinstance(operator, ast.Is | ast.IsNot) and not isinstance(left, ast.Constant)
            and not isinstance(right, ast.Constant)
            for operator, left, right in sides
        )  # fmt: skip
    return isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "id"


def _searches(node: ast.AST) -> bool:
    if isinstance(node, ast.Call):
        return isinstance(node.func, ast.Attribute) and node.func.attr in _SEARCHES
    return isinstance(node, ast.Subscript | ast.Compare)


def _names(node: ast.AST) -> Iterator[str]:
    return (part.id for part in every_node(node) if isinstance(part, ast.Name))
