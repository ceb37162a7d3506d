"""The types of outputs that are evident from a step's code, and the formats that cannot store them."""

from __future__ import annotations

import ast
from collections.abc import Iterable, Iterator, Mapping

from nbpipe.errors import BadPipeline
from nbpipe.language.ast_nodes import every_node
from nbpipe.language.callables import dotted_name
from nbpipe.model import Output, Step

_EVIDENT: Mapping[type[ast.expr], str] = {
    ast.List: "list", ast.ListComp: "list", ast.Dict: "dict", ast.DictComp: "dict", ast.Set: "set", ast.SetComp: "set",
    ast.Tuple: "tuple", ast.JoinedStr: "str", ast.GeneratorExp: "generator", ast.Lambda: "function",
}  # fmt: skip
# What has a function that opens the file which it is given; methods open their own.
_OPENING = frozenset({"", "io", "gzip", "bz2", "lzma", "codecs", "builtins"})
# What no format stores: in words, and what to do instead.
_NEVER: Mapping[str, tuple[str, str]] = {
    "generator": ("a generator", "Output a list of its items, or what can be rebuilt from it."),
    "file": ("an open file", "Declare the file (`-o {0}:file`), write to the path that `{0}` is then, and close it."),
    "connection": ("a connection", "Open it in each step that uses it, and output the file or the address instead."),
    "lock": ("a lock", "Make it in an ordinary cell: each step then has its own."),
    "pool": ("a pool of workers", "Make it in each step that uses it."),
}
# Functions that make what no format stores, by the end of their names.
_MAKERS: Mapping[str, str] = {
    "sqlite3.connect": "connection", "duckdb.connect": "connection", "psycopg2.connect": "connection",
    "psycopg.connect": "connection", "create_engine": "connection", "socket.socket": "connection",
    "threading.Lock": "lock", "threading.RLock": "lock", "ThreadPoolExecutor": "pool", "ProcessPoolExecutor": "pool",
    "multiprocessing.Pool": "pool", "mp.Pool": "pool",
}  # fmt: skip
# What each format takes: in words, and the evident types among it.
_TAKES: Mapping[str, tuple[str, frozenset[str]]] = {
    "arrow": ("a table", frozenset()),
    "feather": ("a table", frozenset()),
    "parquet": ("a table", frozenset()),
    "csv": ("a table", frozenset()),
    "npy": ("a NumPy array", frozenset()),
    "npz": ("a dict of NumPy arrays", frozenset({"dict"})),
    "safetensors": ("a tensor, an array, or a dict of them", frozenset({"dict"})),
    "figure": ("a matplotlib figure", frozenset()),
    "png": ("a figure, an image, or PNG bytes", frozenset({"bytes"})),
    "bin": ("bytes", frozenset({"bytes"})),
    "bytes": ("bytes", frozenset({"bytes"})),
    "text": ("a str", frozenset({"str"})),
    "txt": ("a str", frozenset({"str"})),
    "str": ("a str", frozenset({"str"})),
    "json": (
        "what JSON can represent",
        frozenset({"list", "tuple", "dict", "str", "int", "float", "bool", "NoneType"}),
    ),
}


def unstorable_outputs(step: Step, body: Iterable[ast.stmt]) -> Iterator[BadPipeline]:
    """Return an error for each output whose evident type its format cannot store."""
    statements = list(body)
    for output in step.outputs:
        kind = _assigned_type(output.name, statements) if not output.is_path else ""
        storable = not kind or (kind not in _NEVER and _takes(output, kind))
        if storable or sum(_bindings(output.name, statement) for statement in statements) != 1:
            continue
        if kind in _NEVER:
            words, hint = _NEVER[kind]
            message = f"output `{output.name}` is {words}, which cannot be stored"
            yield BadPipeline(message, hint.format(output.name), output.place)
        else:
            taken, _ = _TAKES[output.format or ""]
            message = f"output `{output.name}` is a value of type {kind}, but {output.format} takes {taken}"
            yield BadPipeline(message, "Declare another format, or none to let the type decide.", output.place)


def _takes(output: Output, kind: str) -> bool:
    format = output.format or ""
    return format not in _TAKES or kind in _TAKES[format][1]


def _assigned_type(name: str, statements: list[ast.stmt]) -> str:
    """Return the type of the only value that a name is assigned; empty if that is not evident."""
    values = [value for statement in statements if (value := _assigned(name, statement)) is not None]
    if len(values) != 1:
        return ""
    value = values[0]
    kind = _made(value) if isinstance(value, ast.Call) else _EVIDENT.get(type(value), "")
    return type(value.value).__name__ if isinstance(value, ast.Constant) else kind


def _made(call: ast.Call) -> str:
    """Return what a call makes that no format stores; empty for any other call."""
    name = dotted_name(call.func)
    last = name.rpartition(".")[2]
    if last == "open" and _is_written(call):
        return "file"
    return next((kind for made, kind in _MAKERS.items() if name == made or name.endswith(f".{made}")), "")


def _is_written(call: ast.Call) -> bool:
    """Return whether a file is opened for writing; one that is open for reading is stored with its text."""
    owner = dotted_name(call.func).rpartition(".")[0]
    place = 1 if owner in _OPENING else 0
    given = [*call.args[place : place + 1], *(each.value for each in call.keywords if each.arg == "mode")]
    modes = [each.value for each in given if isinstance(each, ast.Constant) and isinstance(each.value, str)]
    return any(set(mode) <= set("rwaxbt+") and not set("wax+").isdisjoint(mode) for mode in modes)


def _assigned(name: str, statement: ast.stmt) -> ast.expr | None:
    if isinstance(statement, ast.Assign) and len(statement.targets) == 1:
        target, value = statement.targets[0], statement.value
    elif isinstance(statement, ast.AnnAssign) and statement.value is not None:
        target, value = statement.target, statement.value
    else:
        return None
    return value if isinstance(target, ast.Name) and target.id == name else None


def _bindings(name: str, statement: ast.stmt) -> int:
    """Count everything in a statement that may bind a name; a name in a text counts as one, too."""
    count = 0
    for node in every_node(statement):
        if isinstance(node, ast.Name):
            count += node.id == name and not isinstance(node.ctx, ast.Load)
        elif isinstance(node, ast.AugAssign):
            count += isinstance(node.target, ast.Name) and node.target.id == name
        elif isinstance(node, ast.Constant):
            count += isinstance(node.value, str) and name in node.value.split()
        else:
            named = {getattr(node, field, None) for field in ("name", "asname", "rest")}
            count += name in named or name in getattr(node, "names", ())
    return count
