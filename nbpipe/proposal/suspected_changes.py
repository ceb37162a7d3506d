"""Which objects code may change although nothing is known of the functions and methods that it calls.

A proposal takes a suspicion for a change: that costs a step, never a result.
"""

from __future__ import annotations

import ast
from collections.abc import Container, Iterable, Iterator, Mapping, Sequence

from nbpipe.language.known_calls import VIEWS
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


def sharing(
    value: ast.expr, imports: Mapping[str, str], known: Container[str], classes: Mapping[str, ast.ClassDef]
) -> frozenset[str]:
    """Return the names whose objects a value may keep: what a constructor is given, or what it is a part or view of.

    ``known`` are definitions, ``classes`` those of them that are classes of the notebook.
    """
    if _is_part(value):
        names = [root_of(value)]
    elif isinstance(value, ast.Call):
        names = list(_given(value, imports, classes))
    else:
        names = []
    return frozenset(name for name in names if name and name not in imports and name not in known)


def _is_part(value: ast.expr) -> bool:
    if isinstance(value, ast.Call):
        return isinstance(value.func, ast.Attribute) and value.func.attr in VIEWS and _is_direct(value.func.value)
    return isinstance(value, ast.Subscript | ast.Attribute) and _is_direct(value)


def _given(call: ast.Call, imports: Mapping[str, str], classes: Mapping[str, ast.ClassDef]) -> Iterator[str]:
    """Yield the names that a constructor is given and may keep."""
    name = call.func.attr if isinstance(call.func, ast.Attribute) else root_of(call.func)
    library = imports.get(root_of(call.func), "").partition(".")[0]
    constructs = (name[:1].isupper() and not name.isupper()) or name == "make_pipeline"
    if not constructs or library in _COPYING or (library == "sklearn" and name not in _FITTING_PARTS):
        return
    kept = _kept(classes[name]) if name in classes else None
    given = [*((None, value) for value in call.args), *((item.arg, item.value) for item in call.keywords)]
    for place, (keyword, value) in enumerate(given):
        if kept is not None and not {place, keyword} & kept:
            continue
        nodes = list(ast.walk(value))
        called = {id(node.func) for node in nodes if isinstance(node, ast.Call)}
        yield from (node.id for node in nodes if isinstance(node, ast.Name) and id(node) not in called)


def _kept(node: ast.ClassDef) -> set[int | str | None] | None:
    """Return the arguments, by place and by name, that a class's constructor may keep; None if any."""
    made = next((each for each in node.body if isinstance(each, ast.FunctionDef) and each.name == "__init__"), None)
    if made is None:
        return None
    values = [each.value for each in ast.walk(made) if isinstance(each, ast.Assign | ast.AnnAssign) and each.value]
    own = {part.id for value in values for part in ast.walk(value) if isinstance(part, ast.Name)}
    # rng in `self.w = rng.normal(3)` is used, not kept.
    own -= {root_of(value) for value in values if isinstance(value, ast.Call)} - {
        part.id for value in values for part in _arguments(value) if isinstance(part, ast.Name)
    }
    places = [each.arg for each in (*made.args.posonlyargs, *made.args.args)][1:]
    return {*own, *(place for place, name in enumerate(places) if name in own)}


def _arguments(value: ast.expr) -> list[ast.AST]:
    calls = [value.args, [item.value for item in value.keywords]] if isinstance(value, ast.Call) else [[value]]
    return [node for group in calls for each in group for node in ast.walk(each)]
