"""Functions and methods of libraries that change, return or iterate over what they are given."""

from __future__ import annotations

import ast
from collections.abc import Sequence

from nbpipe.language.mutation_analysis import MUTATORS
from nbpipe.language.object_effects import NOTHING, Origins

# Classes whose methods may be called with an object in front: list.append(x, 1).
CONTAINERS = frozenset(
    {"list", "dict", "set", "deque", "bytearray", "object", "OrderedDict", "defaultdict", "Counter", "ndarray",
     "Tensor", "DataFrame", "Series", "Graph", "DiGraph"}
)  # fmt: skip
# Functions of libraries that change their first argument.
CHANGERS = frozenset(
    {"setattr", "delattr", "setitem", "delitem", "shuffle", "heappush", "heappop", "heapify", "heapreplace",
     "heappushpop", "insort", "insort_left", "insort_right", "copyto", "fill_diagonal", "putmask", "place", "put",
     "put_along_axis", "at", "next", "anext", "iadd", "iand", "iconcat", "ifloordiv", "ilshift", "imatmul", "imod",
     "imul", "ior", "ipow", "irshift", "isub", "itruediv", "ixor", "set_node_attributes", "set_edge_attributes",
     "add_path", "add_cycle", "add_star"}
)  # fmt: skip
# The functions of the module operator that are spelled as the methods they call.
SPELLED = frozenset({f"__{name}__" for name in CHANGERS if name.startswith("i")} | {"__setitem__", "__delitem__"})
# Functions and methods that write into any of their arguments.
FILLING = frozenset({"pack_into", "readinto", "recv_into"})
# Methods that return the object itself, a part or a view of it.
VIEWS = frozenset(
    {"get", "setdefault", "items", "values", "view", "reshape", "ravel", "squeeze", "swapaxes", "edges", "nodes",
     "adjacency", "subgraph", "__getattribute__"}
)  # fmt: skip
# Methods of arrays and tensors that return a view of them, or themselves: those of other objects may make copies.
ARRAY_METHODS = frozenset(
    {"transpose", "diagonal", "to_numpy", "numpy", "detach", "cpu", "contiguous", "unsqueeze", "permute", "expand",
     "narrow", "unbind", "chunk", "split", "t", "movedim", "unfold"}
)  # fmt: skip
# Methods of tensors that return the tensor itself or a view of it where they can; those of arrays make copies.
TENSOR_METHODS = frozenset({"to", "flatten", "float", "double", "type", "cuda"})
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
        "nditer",
        "Draw",
    }
)
# Functions that return an element of what they are given, or of what it holds.
SELECTING = frozenset({"next", "max", "min", "random.choice"})
# Functions of NumPy that return their first argument or a view of it, if they can; torch's have the same names.
_ARRAY_VIEWS = frozenset(
    {"array_split", "asanyarray", "ascontiguousarray", "asfortranarray", "asmatrix", "as_strided",
     "as_tensor", "atleast_1d", "atleast_2d", "atleast_3d", "chunk", "diagonal", "dsplit", "expand_dims", "flip",
     "fliplr", "flipud", "from_numpy", "hsplit", "imag", "moveaxis", "movedim", "narrow", "permute", "ravel", "real",
     "require", "reshape", "rollaxis", "rot90", "sliding_window_view", "split", "squeeze", "swapaxes", "t",
     "transpose", "unbind", "unsqueeze", "vsplit"}
)  # fmt: skip
_ARRAY_LIBRARIES = ("numpy.", "torch.")
# These share the data of what they are given, unless they are asked for a copy.
_WRAPPING = frozenset({"numpy.ma.array", "numpy.ma.masked_array", "numpy.ma.MaskedArray", "xarray.DataArray"})
# Arguments that ask for the data itself where a copy is usual.
_NO_COPY = frozenset({"copy", "deep", "copy_X", "copy_x"})
# Functions of these libraries that are asked for no copy change what they are given.
_CHANGING_WITHOUT_COPY = ("networkx.", "sklearn.")
# The argument of numpy's functions that the result is written to, by its number.
_WRITTEN = {
    **dict.fromkeys(
        ("sqrt", "exp", "log", "log2", "log10", "log1p", "expm1", "abs", "absolute", "sin", "cos", "tan", "negative",
         "square", "rint", "floor", "ceil", "trunc", "sign", "reciprocal", "tanh"), 1
    ),
    **dict.fromkeys(
        ("add", "subtract", "multiply", "divide", "true_divide", "power", "maximum", "minimum", "mod", "floor_divide",
         "round", "around", "dot", "matmul", "outer", "max", "amax", "min", "amin", "any", "all", "argmax", "argmin"), 2
    ),
    **dict.fromkeys(("clip", "cumsum", "cumprod", "sum", "prod", "mean", "take", "compress"), 3),
}  # fmt: skip
# Methods that put what they are given into their object.
ADDING = frozenset({"append", "appendleft", "add", "insert", "extend", "setdefault", "update", "put"})
# Functions that make a new object with the elements of what they are given, or hand these out one after the other.
COLLECTING = frozenset(
    {"list", "tuple", "set", "frozenset", "dict", "sorted", "filter", "reversed", "copy.copy", "enumerate", "zip",
     "iter",
     "collections.OrderedDict", "collections.defaultdict", "collections.deque", "types.SimpleNamespace",
     "itertools.chain", "itertools.chain.from_iterable", "itertools.islice", "itertools.repeat", "itertools.cycle",
     "itertools.takewhile", "itertools.dropwhile", "itertools.product", "itertools.zip_longest", "dict.fromkeys"}
)  # fmt: skip
# Methods that call a function with their own object.
PIPING = frozenset({"pipe", "sort"})


def changes_first_argument(function: ast.AST) -> bool:
    """Return whether an expression is a function that changes what it is given: ``list.append``, ``heappush``."""
    if isinstance(function, ast.Attribute):
        owner = function.value
        if isinstance(owner, ast.Name) and owner.id in CONTAINERS:
            return function.attr in MUTATORS
        return function.attr in CHANGERS or (function.attr in SPELLED and _is_module(owner))
    return isinstance(function, ast.Name) and function.id in CHANGERS


def _is_module(node: ast.AST) -> bool:
    return isinstance(node, ast.Name) and node.id == "operator"


def returns_argument(full_name: str, call: ast.Call) -> bool:
    """Return whether a function with this full name returns its first argument, or shares the data of it."""
    last = full_name.rpartition(".")[2]
    if full_name in _WRAPPING:
        return not _is_set(call, "copy")
    return last in SAME or (last in _ARRAY_VIEWS and full_name.startswith(_ARRAY_LIBRARIES)) or asks_for_no_copy(call)


def overwrites_argument(full_name: str, call: ast.Call) -> bool:
    """Return whether a function changes its first argument because a copy is declined, or overwriting permitted."""
    if full_name == "numpy.nan_to_num":
        second = call.args[1] if len(call.args) > 1 else None
        return asks_for_no_copy(call) or (isinstance(second, ast.Constant) and second.value is False)
    if any((each.arg or "").startswith("overwrite_") and _is_set(call, each.arg) for each in call.keywords):
        return True
    return full_name.startswith(_CHANGING_WITHOUT_COPY) and asks_for_no_copy(call)


def _is_set(call: ast.Call, name: str | None) -> bool:
    """Return whether a call has an argument with this name that is not the constant False."""
    return any(
        each.arg == name and not (isinstance(each.value, ast.Constant) and not each.value.value)
        for each in call.keywords
    )


def asks_for_no_copy(call: ast.Call) -> bool:
    """Return whether a call has an argument such as ``copy=False``."""
    return any(
        each.arg in _NO_COPY and isinstance(each.value, ast.Constant) and each.value.value is False
        for each in call.keywords
    )


def written_by_position(name: str, arguments: Sequence[Origins]) -> Origins:
    """Return the origins of the array that a function of numpy writes its result to, given as its last argument."""
    root, _, last = name.partition(".")
    place = _WRITTEN.get(last) if root == "numpy" else None
    return arguments[place] if place is not None and len(arguments) > place else NOTHING


def written_by_method(name: str, arguments: Sequence[Origins]) -> Origins:
    """Return the origins of the array that a method of an array writes its result to, given as its last argument."""
    place = _WRITTEN.get(name, 0) - 1
    return arguments[place] if 0 < place < len(arguments) else NOTHING
