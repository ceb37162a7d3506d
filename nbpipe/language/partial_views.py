"""Slices, items and copies of objects of which the text does not show whether they share data with the whole.

Slices of arrays and tensors do, those of lists, texts and tables do not; what the code does to them tells more. The
elements of a copy are those of the object if that is a list or dict.
"""

from __future__ import annotations

import ast

from nbpipe.language.callables import dotted_name, is_indexer
from nbpipe.language.known_calls import CHANGERS
from nbpipe.language.mutation_analysis import MUTATORS
from nbpipe.language.object_effects import Origin

SLICE, ITEM, COPIED = "slice", "item", "copied"
VIEWED = (SLICE, ITEM, COPIED)
# An object that is a key of a dict, which holds it; nobody changes it by what is selected from that.
KEY = "key"
# Methods of arrays and tensors; others with these endings are torch's.
_FILLING = frozenset({"fill", "sort", "partition", "put", "itemset", "byteswap", "resize", "__setitem__", "__iadd__"})
_NO_ARRAYS = (ast.List, ast.Tuple, ast.Set, ast.Dict, ast.ListComp, ast.JoinedStr)


def whole_of(origin: Origin) -> Origin:
    """Return the origin of what a slice or an item was selected from, or of what is a key."""
    kind, _, name = origin[1].partition(".")
    return kind, name


def is_one_key(key: ast.expr) -> bool:
    """Return whether a subscript is a constant: a number or a text, also a negative number."""
    return isinstance(key.operand if isinstance(key, ast.UnaryOp) else key, ast.Constant)


def may_be_one_key(key: ast.expr) -> bool:
    """Return whether a subscript may be the number of an element, rather than a condition or a list of columns."""
    if isinstance(key, ast.BinOp):
        arithmetic = isinstance(key.op, ast.Add | ast.Sub | ast.FloorDiv | ast.Mod)
        return arithmetic and not any(isinstance(each, _NO_ARRAYS) for each in (key.left, key.right))
    return isinstance(key, ast.Name | ast.Attribute)


def changes_elements(node: ast.AST, how: str) -> bool:
    """Return whether code that changes a slice or an item in place may change what it was selected from.

    Setting columns or labels does not: tables copy what is selected. Methods of lists do, for an item.
    """
    if how == COPIED:
        return True
    if isinstance(node, ast.Assign):
        return any(map(_sets_element, node.targets))
    if isinstance(node, ast.Subscript):
        return _sets_element(node)
    if isinstance(node, ast.AugAssign):
        text = isinstance(node.value, ast.Constant) and isinstance(node.value.value, str)
        own = isinstance(node.target, ast.Name) or _sets_element(node.target)
        return own and not text and (how == ITEM or not isinstance(node.value, _NO_ARRAYS))
    if isinstance(node, ast.AnnAssign | ast.For):
        return _sets_element(node.target)
    if isinstance(node, ast.Delete):
        return how == ITEM
    return isinstance(node, ast.Call) and _calls_changer(node, how)


def _calls_changer(node: ast.Call, how: str) -> bool:
    last = dotted_name(node.func).rpartition(".")[2]
    if any(each.arg == "inplace" for each in node.keywords):
        return False
    if last in _FILLING or last in CHANGERS or any(each.arg == "out" for each in node.keywords):
        return True
    return (how == ITEM and last in MUTATORS) or (last.endswith("_") and not last.startswith("_"))


def _sets_element(target: ast.expr) -> bool:
    if isinstance(target, ast.Tuple | ast.List):
        return any(map(_sets_element, target.elts))
    if not isinstance(target, ast.Subscript) or is_indexer(target.value):
        return False
    return not (isinstance(target.slice, ast.Constant) and isinstance(target.slice.value, str))
