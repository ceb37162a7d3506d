"""Which objects code may change although nothing is known of the functions and methods that it calls.

A proposal takes a suspicion for a change: that costs a step, never a result.
"""

from __future__ import annotations

import ast
from collections.abc import Iterable, Iterator, Mapping, Sequence

from nbpipe.language.mutation_analysis import outside_functions
from nbpipe.language.qualified_names import root_of

_LOOKING = frozenset(
    {"show", "head", "tail", "info", "describe", "sample", "plot", "hist", "boxplot", "scatter", "bar", "barh", "line",
     "summary", "display", "print", "items", "keys", "values", "to_csv", "to_excel", "to_json", "to_parquet", "savefig",
     "save", "savez", "dump", "to_pickle", "to_file", "to_html", "write", "imshow", "pie", "table", "explore", "count",
     "value_counts", "nunique", "unique", "isnull", "mean", "sum", "min", "max", "std", "corr", "predict", "score"}
)  # fmt: skip
_LOOKERS = frozenset(
    {"print", "display", "pprint", "len", "type", "help", "dir", "repr", "str", "list", "sorted", "isinstance",
     "HTML", "Image", "Markdown", "clear_output", "id", "vars", "exit", "quit", "any", "all", "max", "min", "sum"}
)  # fmt: skip
_SHOWING = frozenset(
    {"matplotlib", "pylab", "seaborn", "plotly", "altair", "bokeh", "IPython", "pprint", "missingno", "graphviz",
     "folium", "sns", "plt", "px", "go", "logging", "warnings", "time", "os", "json", "pickle", "joblib"}
)  # fmt: skip
# Methods that change their object even where the cell shows what they return.
_ACTING = ("fit", "train", "compile", "add", "append", "update", "set", "insert", "remove", "load", "reset", "register",
           "build", "step", "partial", "put", "push", "pop", "delete", "drop", "init", "seed", "execute", "commit",
           "backward", "eval", "to_", "apply_", "run", "learn")  # fmt: skip
_COPYING = frozenset({"pandas", "numpy", "datetime", "collections", "pathlib", "decimal"})
# All other estimators of scikit-learn fit copies of those that they are made of.
_FITTING_PARTS = frozenset({"Pipeline", "FeatureUnion", "make_pipeline"})
GENERATORS = frozenset({"default_rng", "RandomState", "Random", "Generator"})


def suspected_changes(
    statements: Sequence[ast.stmt], imports: Mapping[str, str], functions: Mapping[str, ast.AST], depth: int = 3
) -> frozenset[str]:
    """Return the names whose objects the statements may change by calling something for its effect.

    ``imports`` are full names of what imports bind, ``functions`` are those of the notebook.
    """
    found: set[str] = set()
    last = statements[-1] if statements else None
    for statement in statements:
        for node in outside_functions(statement):
            if isinstance(node, ast.Expr) and isinstance(node.value, ast.Call):
                found |= _by_effect(node.value, imports, functions, shown=node is last)
            if isinstance(node, ast.Call) and depth:
                found |= _by_function(node, imports, functions, depth)
    return frozenset(found)


def _by_effect(
    call: ast.Call, imports: Mapping[str, str], functions: Mapping[str, ast.AST], *, shown: bool
) -> set[str]:
    """Return the names that a call whose result is not kept may change."""
    root = root_of(call.func)
    called = call.func.attr if isinstance(call.func, ast.Attribute) else root
    if imports.get(root, root).partition(".")[0] in _SHOWING or called in _LOOKERS or root in functions:
        return set()
    if root in imports:
        return set() if shown else set(_named(call))
    if not isinstance(call.func, ast.Attribute) or called in _LOOKING or not _is_direct(call.func.value):
        return set()
    if shown and not called.startswith(_ACTING):
        return set()
    return {root}


def _by_function(call: ast.Call, imports: Mapping[str, str], functions: Mapping[str, ast.AST], depth: int) -> set[str]:
    """Return the arguments that a function of the notebook may change."""
    function = functions.get(call.func.id) if isinstance(call.func, ast.Name) else None
    if not isinstance(function, ast.FunctionDef | ast.AsyncFunctionDef):
        return set()
    # What a function's last statement returns is not shown.
    inner = suspected_changes([*function.body, ast.Pass()], imports, functions, depth - 1)
    positional = [each.arg for each in (*function.args.posonlyargs, *function.args.args)]
    given = list(zip(positional, call.args, strict=False))
    given += [(item.arg, item.value) for item in call.keywords if item.arg]
    changed = {root_of(value) for name, value in given if name in inner and _is_direct(value)}
    own = {*positional, *(each.arg for each in function.args.kwonlyargs), *_bound(function)}
    return changed | (set(inner) - own)


def _bound(function: ast.AST) -> Iterator[str]:
    return (node.id for node in ast.walk(function) if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store))


def _named(call: ast.Call) -> Iterable[str]:
    values = [*call.args, *(item.value for item in call.keywords)]
    return (root_of(value) for value in values if _is_direct(value))


def _is_direct(node: ast.expr) -> bool:
    """Return whether an expression is a name, or an attribute or item of one."""
    while isinstance(node, ast.Attribute | ast.Subscript):
        node = node.value
    return isinstance(node, ast.Name)


def sharing(value: ast.expr, imports: Mapping[str, str], classes: Iterable[str]) -> frozenset[str]:
    """Return the names whose objects the result of a constructor's call may keep."""
    if not isinstance(value, ast.Call):
        return frozenset()
    name = value.func.attr if isinstance(value.func, ast.Attribute) else root_of(value.func)
    library = imports.get(root_of(value.func), "").partition(".")[0]
    constructs = (name[:1].isupper() and not name.isupper()) or name == "make_pipeline"
    if not constructs or library in _COPYING or (library == "sklearn" and name not in _FITTING_PARTS):
        return frozenset()
    nodes = [node for part in (*value.args, *(item.value for item in value.keywords)) for node in ast.walk(part)]
    called = {id(node.func) for node in nodes if isinstance(node, ast.Call)}
    return frozenset(
        node.id for node in nodes
        if isinstance(node, ast.Name) and id(node) not in called and node.id not in imports
        and node.id not in set(classes)
    )  # fmt: skip
