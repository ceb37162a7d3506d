"""Which objects a statement changes in place, as far as static analysis can tell."""

from __future__ import annotations

import ast
from collections.abc import Iterator

from nbpipe.language.ast_nodes import children
from nbpipe.language.call_arguments import named_arguments

MUTATORS = frozenset(
    {"append", "extend", "insert", "remove", "pop", "clear", "sort", "reverse", "update", "setdefault", "popitem",
     "add", "discard", "difference_update", "intersection_update", "symmetric_difference_update"}
)  # fmt: skip
_MORE_MUTATORS = frozenset(
    {"fill", "itemset", "setflags", "appendleft", "popleft", "extendleft", "move_to_end", "fit", "partial_fit",
     "fit_transform", "fit_predict", "set_params", "load_state_dict", "zero_grad", "add_node", "add_edge",
     "add_nodes_from", "add_edges_from", "remove_node", "remove_edge",
     "step", "learn", "train_on_batch", "byteswap", "add_module", "__setitem__", "__delitem__", "__setattr__",
     "__delattr__", "__iadd__", "put", "push", "eliminate_zeros", "sum_duplicates", "sort_indices", "setdiag",
     "clear_edges", "add_weighted_edges_from", "remove_nodes_from", "remove_edges_from", "frombytes", "fromlist",
     "putpixel", "putalpha", "putdata", "paste", "thumbnail", "alpha_composite", "setfield", "insert_column",
     "replace_column"}
)  # fmt: skip
_PARTS = (ast.Subscript, ast.Attribute)
_CHANGING = (*_PARTS, ast.AugAssign, ast.Call)
_FUNCTIONS = (ast.FunctionDef, ast.AsyncFunctionDef, ast.Lambda, ast.ClassDef)


def changed_in_place(statement: ast.stmt) -> dict[str, ast.stmt | ast.expr]:
    """Return the names whose objects the statement changes, with the first place: ``x[k] =``, ``x.append(…)``, ``+=``.

    Function bodies are not analysed.
    """
    changed: dict[str, ast.stmt | ast.expr] = {}
    for node in outside_functions(statement):
        if type(node) not in _CHANGING:
            continue
        if isinstance(node, _PARTS) and not isinstance(node.ctx, ast.Load):
            _note(changed, node.value, node)
        elif isinstance(node, ast.AugAssign) and isinstance(node.target, ast.Name):
            changed.setdefault(node.target.id, node)
        elif isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and _mutates(node, node.func):
            _note(changed, node.func.value, node)
    return changed


def outside_functions(node: ast.AST) -> Iterator[ast.AST]:
    """Yield the nodes below ``node`` that are not part of a function or class."""
    todo = [node]
    while todo:
        following = todo.pop()
        if type(following) not in _FUNCTIONS:
            yield following
            below = children(following)
            if below:
                todo += reversed(below)


def is_mutator(name: str) -> bool:
    """Return whether methods with this name change their object, whatever they are given."""
    return name in MUTATORS or name in _MORE_MUTATORS or (name.endswith("_") and not name.startswith("_"))


def is_mutating_call(call: ast.Call) -> bool:
    """Return whether a method's call changes its object by all that is known of methods with this name.

    Also methods of estimators, arrays and graphs, and those that torch marks with a final underscore.
    """
    if not isinstance(call.func, ast.Attribute):
        return False
    name = call.func.attr
    # Without arguments, it is that of a model in torch.
    switches = name == "eval" and not call.args and not call.keywords
    return switches or _mutates(call, call.func) or is_mutator(name)


def _mutates(call: ast.Call, method: ast.Attribute) -> bool:
    inplace = any(
        name == "inplace" and not (isinstance(value, ast.Constant) and value.value is not True)
        for name, value in (named_arguments(call) if call.keywords else ())
    )
    return inplace or method.attr in MUTATORS


def _note(changed: dict[str, ast.stmt | ast.expr], owner: ast.expr, where: ast.expr) -> None:
    while isinstance(owner, _PARTS):
        owner = owner.value
    if isinstance(owner, ast.Name):
        changed.setdefault(owner.id, where)
