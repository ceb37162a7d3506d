"""What objects keep of what they are made of, and which methods are called for an effect of which nothing is known."""

from __future__ import annotations

import ast
from collections.abc import Iterator, Sequence

from nbpipe.language.callables import Callables, dotted_name

_KEPT_NAMES = "_kept_names"
# Classes of these libraries copy what they are given, or fit copies of it.
_COPYING = (
    "pandas",
    "numpy",
    "datetime",
    "collections",
    "pathlib",
    "decimal",
    "sklearn",
    "fractions",
    "polars",
    "torch.utils",
)
# These estimators of scikit-learn fit what they are made of itself.
_FITTING_PARTS = frozenset({"Pipeline", "FeatureUnion", "make_pipeline"})
_LOOKING = frozenset(
    {"show", "head", "tail", "info", "describe", "sample", "plot", "hist", "boxplot", "scatter", "bar", "barh", "line",
     "summary", "display", "items", "keys", "values", "savefig", "dump", "dumps", "imshow", "pie", "explore", "count",
     "value_counts", "nunique", "unique", "isnull", "mean", "sum", "min", "max", "std", "corr", "predict", "score",
     "close", "flush", "render", "draw", "view", "copy", "join", "index", "tofile", "tolist", "equals", "check", "wait",
     "result", "terminate", "format", "pprint", "serve", "memory_usage", "groupby", "any", "all", "apply"}
)  # fmt: skip
_LOOKING_PREFIXES = ("to_", "plot", "print", "show", "save", "write", "export", "display", "get", "is", "has", "assert",
                     "log", "__", "draw", "summar", "describe", "visuali", "inspect", "report", "dump")  # fmt: skip
# Methods that change their object even where the cell shows what they return.
_ACTING = ("fit", "train", "compile", "add", "append", "update", "set", "insert", "remove", "load", "reset",
           "register", "build", "step", "partial_", "put", "push", "pop", "delete", "init", "seed", "execute", "commit",
           "learn", "apply_", "run")  # fmt: skip
# Methods that change objects of some classes, also where the cell shows what they return, and make copies of others.
_CHANGING_SOME = frozenset({"resize", "partition", "rotate", "subtract", "truncate", "scale", "normalize", "shuffle",
                            "connect", "half", "cuda", "to"})  # fmt: skip


def acts(call: ast.expr, *, shown: bool) -> bool:
    """Return whether an expression by itself calls a method of a name, and is not known to only look at the object."""
    if not isinstance(call, ast.Call) or not isinstance(call.func, ast.Attribute):
        return False
    owner: ast.expr = call.func.value
    while isinstance(owner, ast.Attribute | ast.Subscript):
        owner = owner.value
    name = call.func.attr
    if not isinstance(owner, ast.Name) or name in _LOOKING or name.startswith(_LOOKING_PREFIXES):
        return False
    return not shown or name.startswith(_ACTING) or name in _CHANGING_SOME


def kept_arguments(call: ast.Call, callables: Callables) -> Sequence[ast.expr]:
    """Return the arguments of a constructor that its object keeps, as far as its class shows it."""
    name = dotted_name(call.func)
    last = name.rpartition(".")[2]
    given = [*call.args, *(item.value for item in call.keywords)]
    known = callables.class_named(name)
    if known is not None:
        kept = _kept_names(known)
        named = [item.value for item in call.keywords if item.arg in kept]
        return [*named, *(value for value, own in zip(call.args, _parameters(known), strict=False) if own in kept)]
    module = callables.imported.get(name.partition(".")[0])
    if last in _FITTING_PARTS:
        return given
    constructs = last[:1].isupper() and not last.isupper()
    return given if module and constructs and not module.startswith(_COPYING) else ()


def _kept_names(node: ast.ClassDef) -> frozenset[str]:
    """Return the arguments that a class's constructor assigns; kept with the node, which must not be changed."""
    known: frozenset[str] | None = node.__dict__.get(_KEPT_NAMES)
    if known is None:
        known = node.__dict__[_KEPT_NAMES] = frozenset(_kept(node))
    return known


def _parameters(node: ast.ClassDef) -> list[str]:
    made = _constructor(node)
    if made is None:
        return [item.target.id for item in node.body
                if isinstance(item, ast.AnnAssign) and isinstance(item.target, ast.Name)]  # fmt: skip
    return [item.arg for item in (*made.args.posonlyargs, *made.args.args)][1:]


def _constructor(node: ast.ClassDef) -> ast.FunctionDef | None:
    return next((each for each in node.body if isinstance(each, ast.FunctionDef) and each.name == "__init__"), None)


def _kept(node: ast.ClassDef) -> Iterator[str]:
    """Yield the arguments that a class's constructor assigns; of a dataclass, its fields."""
    made = _constructor(node)
    if made is None:
        yield from _parameters(node)
        return
    for each in ast.walk(made):
        if isinstance(each, ast.Assign | ast.AnnAssign) and each.value is not None:
            values = [each.value, *ast.iter_child_nodes(each.value)] if not isinstance(each.value, ast.Call) else []
            yield from (part.id for part in values if isinstance(part, ast.Name))
