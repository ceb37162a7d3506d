"""What an expression makes, as far as it matters for changes: what using it changes, what shares data with a slice."""

from __future__ import annotations

import ast
from collections.abc import Mapping
from enum import Enum

from nbpipe.language.ast_nodes import children
from nbpipe.language.callables import Callables, Function, dotted_name, positional_parameters
from nbpipe.language.known_calls import asks_for_no_copy
from nbpipe.language.mutation_analysis import changed_in_place, outside_functions
from nbpipe.language.object_effects import Use


class Kind(Enum):
    """The kinds of values that are told apart."""

    CONSUMED = "consumed"  # Every use changes it: generators of random numbers, iterators, axes of a plot.
    CALLED = "called"  # A call changes it: a function that keeps variables of an enclosing function.
    FILLED = "filled"  # Reading a key may add it.
    ARRAY = "array"  # Slices and rows share its data.
    TENSOR = "tensor"  # An array that also shares its data with most of what its methods return.
    ARRAYS = "arrays"  # A list of arrays.
    LIST = "list"  # Slices are copies, elements are not: lists, dicts, texts.
    TABLE = "table"  # Everything that is selected is a copy.
    PICTURE = "picture"  # Methods return copies, if they are not known to change it.
    WRITER = "writer"  # Every method changes what it was made of.
    OVERWRITING = "overwriting"  # Its methods change what they are given: estimators made with copy=False.


_CONSUMED = frozenset(
    {"default_rng", "RandomState", "Random", "count", "cycle", "iter", "map", "filter", "zip", "enumerate", "reversed",
     "islice", "chain", "accumulate", "reader", "DictReader", "finditer", "iglob", "subplots", "add_subplot", "gca",
     "gcf", "figure", "StringIO", "BytesIO", "manual_seed"}
)  # fmt: skip
_CONSUMED_CLASSES = frozenset({"Generator"})
_FILLED = frozenset({"defaultdict"})
_ARRAYS = frozenset({"np", "numpy", "jnp", "cp", "cupy"})
_ARRAY_METHODS = frozenset({"to_numpy", "astype", "reshape", "ravel", "flatten", "transpose", "numpy"})
# numpy's functions that make a copy or no array.
_NO_ARRAYS = frozenset({"save", "load", "unique", "shape", "mean", "sum", "float64", "float32", "int64", "dtype"})
_LISTS = (
    ast.List, ast.Tuple, ast.Dict, ast.Set, ast.ListComp, ast.DictComp, ast.SetComp, ast.JoinedStr, ast.Constant
)  # fmt: skip
_LIST_CALLS = frozenset(
    {"list", "tuple", "dict", "set", "sorted", "str", "range", "deque", "Counter", "OrderedDict", "split", "splitlines",
     "tolist", "to_list", "to_dict", "readlines", "read", "read_text", "glob", "listdir", "loads", "findall"}
)  # fmt: skip
# What makes objects of other kinds, by its full name.
_SPECIAL = {
    "PIL.Image.open": Kind.PICTURE, "PIL.Image.new": Kind.PICTURE, "PIL.Image.fromarray": Kind.PICTURE,
    "PIL.ImageDraw.Draw": Kind.WRITER, "csv.writer": Kind.WRITER, "csv.DictWriter": Kind.WRITER,
}  # fmt: skip
_TABLES = frozenset({"pd", "pandas", "pl", "polars"})
# What pandas reads with these may be of any class.
_ANYTHING = frozenset({"read_pickle", "eval"})
# The uses that change objects of these kinds.
CHANGING: Mapping[Kind, frozenset[Use]] = {
    Kind.CONSUMED: frozenset({Use.PASSED, Use.CALLED}), Kind.CALLED: frozenset({Use.CALLED}),
    Kind.FILLED: frozenset({Use.ITEM}),
    Kind.ARRAY: frozenset({Use.ADDED}), Kind.TENSOR: frozenset({Use.ADDED}), Kind.ARRAYS: frozenset({Use.ADDED}),
    Kind.LIST: frozenset(), Kind.TABLE: frozenset(), Kind.PICTURE: frozenset(), Kind.WRITER: frozenset(),
    Kind.OVERWRITING: frozenset(),
}  # fmt: skip
# The kinds of objects whose slices share their data.
SHARING = (Kind.ARRAY, Kind.TENSOR)
# The kinds of objects that are of no class of the notebook.
LOOKED_AT = (*SHARING, Kind.TABLE, Kind.PICTURE, Kind.LIST, Kind.ARRAYS)
_OF_BOTH = (Kind.TENSOR, Kind.ARRAY, Kind.TABLE, Kind.ARRAYS, Kind.LIST)
# Methods that change objects of these kinds, while those of others with the same name make a copy.
IN_PLACE: Mapping[Kind | None, frozenset[str]] = {
    Kind.ARRAY: frozenset({"resize", "partition"}), Kind.LIST: frozenset({"rotate", "subtract"})
}  # fmt: skip
CLASS_KINDS = {"ndarray": Kind.ARRAY, "deque": Kind.LIST, "Counter": Kind.LIST}
# Methods of tables that return a new one, while those of others with the same name change their object.
PURE_IN_TABLES = frozenset({"add"})
# What only looks at an object, also at an iterator.
LOOKING = frozenset(
    {"print", "type", "isinstance", "repr", "id", "display", "hasattr", "callable", "str", "len", "dir"}
)


def kind_of(value: ast.AST, callables: Callables, kinds: Mapping[str, Kind]) -> Kind | None:
    """Return the kind of what an expression makes; ``kinds`` are those of names."""
    if isinstance(value, ast.Name):
        return kinds.get(value.id)
    if isinstance(value, ast.GeneratorExp):
        return Kind.CONSUMED
    if isinstance(value, _LISTS):
        item = value.elts[0] if isinstance(value, ast.List | ast.Tuple) and value.elts else getattr(value, "elt", None)
        return Kind.ARRAYS if isinstance(item, ast.Call) and kind_of(item, callables, kinds) in SHARING else Kind.LIST
    if isinstance(value, ast.BinOp):
        sides = {kind_of(value.left, callables, kinds), kind_of(value.right, callables, kinds)}
        return next((kind for kind in _OF_BOTH if kind in sides), None)
    if isinstance(value, ast.Subscript):
        owner = kind_of(value.value, callables, kinds)
        return owner if owner is Kind.TABLE or (owner in _OF_BOTH and isinstance(value.slice, ast.Slice)) else None
    return _kind_of_result(value, callables, kinds) if isinstance(value, ast.Call) else None


def _kind_of_result(value: ast.Call, callables: Callables, kinds: Mapping[str, Kind]) -> Kind | None:
    name = dotted_name(value.func)
    function = callables.function(name)
    if function is not None:
        if id(function) not in callables.made:
            callables.made[id(function)] = _made_by(function, callables)
        known: Kind | None = callables.made[id(function)]
        return known
    root, _, last = name.rpartition(".")
    if isinstance(value.func, ast.Attribute) and callables.methods(last):
        return None
    if last in _CONSUMED or (last in _CONSUMED_CLASSES and root):
        return Kind.CONSUMED
    if last in _FILLED:
        return Kind.FILLED
    full = callables.full_name(name)
    special = _SPECIAL.get(full)
    if special is not None or asks_for_no_copy(value):
        return special or (Kind.OVERWRITING if full.startswith("sklearn.") and last[:1].isupper() else None)
    first = root.partition(".")[0]
    if first == "torch" and last not in _NO_ARRAYS:
        return Kind.TENSOR
    if (first in _ARRAYS and last not in _NO_ARRAYS) or last in _ARRAY_METHODS:
        return Kind.ARRAY
    if last in _LIST_CALLS:
        return Kind.LIST
    is_of_table = isinstance(value.func, ast.Attribute) and kind_of(value.func.value, callables, kinds) is Kind.TABLE
    return Kind.TABLE if (first in _TABLES and last not in _ANYTHING) or is_of_table else None


def keeps_state(function: Function) -> bool:
    """Return whether a function returns another one that changes variables of its own."""
    inner = [each for each in function.body if isinstance(each, ast.FunctionDef | ast.AsyncFunctionDef)]
    if not inner:
        return False
    own = {node.id for node in outside_functions_of(function) if isinstance(node, ast.Name)} | {
        *positional_parameters(function.args)
    }
    return any(_changes_enclosing(each, own) for each in inner)


def outside_functions_of(function: Function) -> list[ast.AST]:
    """Return the nodes of a function's body that are not part of a function in it."""
    return [node for statement in function.body for node in outside_functions(statement)]


def _changes_enclosing(inner: Function, own: set[str]) -> bool:
    nodes = outside_functions_of(inner)
    if any(isinstance(node, ast.Nonlocal) for node in nodes):
        return True
    local = {node.id for node in nodes if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store)}
    local.update(positional_parameters(inner.args))
    changed = {name for statement in inner.body for name in changed_in_place(statement)}
    return bool((changed & (own | {inner.name})) - local)


def _made_by(function: Function, callables: Callables) -> Kind | None:
    nodes = outside_functions_of(function)
    if any(isinstance(node, ast.Yield | ast.YieldFrom) for node in nodes):
        managed = any(
            dotted_name(each).rpartition(".")[2].endswith("contextmanager") for each in function.decorator_list
        )
        return None if managed else Kind.CONSUMED
    if keeps_state(function):
        return Kind.CALLED
    returned = [node.value for node in nodes if isinstance(node, ast.Return) and node.value is not None]
    kinds = {kind_of(each, callables, {}) for each in returned if not _calls_own(each)}
    return next((kind for kind in kinds if kind is not None), None)


def _calls_own(node: ast.AST) -> bool:
    """Return whether an expression calls a function by its plain name, which might be the same function again."""
    return any(isinstance(each, ast.Call) and isinstance(each.func, ast.Name) for each in [node, *children(node)])
