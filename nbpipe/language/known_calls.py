"""Functions and methods of libraries that change, return or iterate over what they are given."""

from __future__ import annotations

import ast
from collections.abc import Sequence

from nbpipe.language.mutation_analysis import MUTATORS
from nbpipe.language.object_effects import NOTHING, Origins

# Classes whose methods may be called with an object in front: list.append(x, 1).
CONTAINERS = frozenset({"list", "dict", "set", "deque", "bytearray", "object"})
# Functions of libraries that change their first argument.
CHANGERS = frozenset(
    {"setattr", "delattr", "setitem", "delitem", "shuffle", "heappush", "heappop", "heapify", "heapreplace",
     "heappushpop", "insort", "insort_left", "insort_right", "copyto", "fill_diagonal", "putmask", "place", "put",
     "put_along_axis", "at", "next", "anext", "iadd", "iand", "iconcat", "ifloordiv", "ilshift", "imatmul", "imod",
     "imul", "ior", "ipow", "irshift", "isub", "itruediv", "ixor", "set_node_attributes", "set_edge_attributes",
     "add_path", "add_cycle", "add_star"}
)  # fmt: skip
# Functions and methods that write into any of their arguments.
FILLING = frozenset({"pack_into", "readinto", "recv_into"})
# Methods that return the object itself, a part or a view of it.
VIEWS = frozenset({"get", "setdefault", "items", "values", "view", "reshape", "ravel", "squeeze", "swapaxes"})
# Functions whose results have the elements of what they are given.
ITERATED = frozenset({"enumerate", "zip", "reversed", "list", "tuple", "sorted", "iter"})
# Functions that return their first argument, a part or a view of it.
SAME = frozenset(
    {
        "getattr",
        "vars",
        "iter",
        "asarray",
        "max",
        "min",
        "next",
        "memoryview",
        "frombuffer",
        "type",
        "proxy",
        "closing",
        "nullcontext",
        "ChainMap",
    }
)
# Functions of NumPy that return their first argument or a view of it, if they can; torch's have the same names.
_ARRAY_VIEWS = frozenset(
    {"array_split", "asanyarray", "ascontiguousarray", "asfortranarray", "asmatrix", "as_strided",
     "as_tensor", "atleast_1d", "atleast_2d", "atleast_3d", "chunk", "diagonal", "dsplit", "expand_dims", "flip",
     "fliplr", "flipud", "from_numpy", "hsplit", "imag", "moveaxis", "movedim", "narrow", "permute", "ravel", "real",
     "require", "reshape", "rollaxis", "rot90", "sliding_window_view", "split", "squeeze", "swapaxes", "t",
     "transpose", "unbind", "unsqueeze", "vsplit"}
)  # fmt: skip
_ARRAY_LIBRARIES = ("numpy.", "torch.")
# Arguments that ask for the data itself where a copy is usual.
_NO_COPY = frozenset({"copy", "deep"})
_UNARY = frozenset(
    {"sqrt", "exp", "log", "log2", "log10", "log1p", "expm1", "abs", "absolute", "sin", "cos", "tan", "negative",
     "square", "rint", "floor", "ceil", "trunc", "sign", "reciprocal", "tanh"}
)  # fmt: skip
_BINARY = frozenset(
    {"add", "subtract", "multiply", "divide", "true_divide", "power", "maximum", "minimum", "mod", "floor_divide"}
)
# Methods that put what they are given into their object.
ADDING = frozenset({"append", "appendleft", "add", "insert", "extend", "setdefault", "update", "put"})
# Functions that make a new list, dict or set with the elements of what they are given.
COLLECTING = frozenset({"list", "tuple", "set", "frozenset", "dict", "sorted", "filter", "reversed", "copy.copy"})
# Methods that call a function with their own object.
PIPING = frozenset({"pipe", "sort"})


def changes_first_argument(function: ast.AST) -> bool:
    """Return whether an expression is a function that changes what it is given: ``list.append``, ``heappush``."""
    if isinstance(function, ast.Attribute):
        owner = function.value
        if isinstance(owner, ast.Name) and owner.id in CONTAINERS:
            return function.attr in MUTATORS
        return function.attr in CHANGERS
    return isinstance(function, ast.Name) and function.id in CHANGERS


def returns_argument(full_name: str, call: ast.Call) -> bool:
    """Return whether a function with this full name returns its first argument, or shares the data of it."""
    last = full_name.rpartition(".")[2]
    return last in SAME or (last in _ARRAY_VIEWS and full_name.startswith(_ARRAY_LIBRARIES)) or asks_for_no_copy(call)


def asks_for_no_copy(call: ast.Call) -> bool:
    """Return whether a call has an argument such as ``copy=False``."""
    return any(
        each.arg in _NO_COPY and isinstance(each.value, ast.Constant) and each.value.value is False
        for each in call.keywords
    )


def written_by_position(name: str, arguments: Sequence[Origins]) -> Origins:
    """Return the origins of the array that a function of numpy writes its result to, given as its last argument."""
    root, _, last = name.partition(".")
    if root not in ("np", "numpy"):
        return NOTHING
    place = 1 if last in _UNARY else 2 if last in _BINARY else len(arguments)
    return arguments[place] if len(arguments) > place else NOTHING
