"""Which files code reads and writes, as far as its text says so: paths that are texts, constants or parameters."""

from __future__ import annotations

import ast
import posixpath
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass

from nbpipe.language.ast_nodes import children
from nbpipe.language.callables import dotted_name
from nbpipe.language.shell_files import shell_files

_PATH_ARGUMENTS = frozenset(
    {"path", "path_or_buf", "fname", "filename", "file", "filepath", "filepath_or_buffer", "io", "excel_writer",
     "source", "target", "fp", "f"}
)  # fmt: skip
_JOINING = frozenset({"Path", "pathlib.Path", "PurePath", "PosixPath", "os.path.join", "path.join", "join"})
_SAME_PATH = frozenset({"str", "os.fspath", "fspath", "os.path.normpath"})
_READING = frozenset({"load", "imread", "loadtxt", "genfromtxt", "fromfile", "getsize", "ParquetFile", "read"})
_READING_PREFIXES = ("read_", "scan_", "load_")
_WRITING = frozenset(
    {"save", "savez", "savez_compressed", "savetxt", "savefig", "imwrite", "imsave", "tofile", "dump", "write_image",
     "write_html", "ExcelWriter", "save_model", "save_file", "save_npz", "write", "PdfPages"}
)  # fmt: skip
_WRITING_PREFIXES = ("to_", "write_", "sink_")
_OF_PATHS = {"read_text": False, "read_bytes": False, "write_text": True, "write_bytes": True, "touch": True,
             "exists": False, "is_file": False, "stat": False}  # fmt: skip
_OPENING = frozenset({"open", "File", "ZipFile", "TarFile"})
_MOVING = frozenset(
    {"shutil.copy", "shutil.copy2", "shutil.copyfile", "shutil.move", "os.rename", "os.replace", "os.link"}
)
# A file that is looked for is read: whether it is there matters.
_LOOKING = frozenset({"os.path.exists", "os.path.isfile", "os.path.getmtime", "os.stat", "exists", "isfile"})
# numpy adds these suffixes to names without them.
_SUFFIXED = {"save": ".npy", "savez": ".npz", "savez_compressed": ".npz"}
_SHELL = ("system", "getoutput", "run_cell_magic", "popen", "Popen", "run", "call", "check_call", "check_output")
_CALLED = frozenset(
    {
        *_SHELL,
        "exists",
        "isfile",
        "getmtime",
        "stat",
        *_READING,
        *_WRITING,
        *_OF_PATHS,
        *_OPENING,
        "connect",
        *(name.rpartition(".")[2] for name in _MOVING),
    }
)
_OTHERS = ("Image.open", "webbrowser.open", "os.open", "urllib.request.urlopen")


@dataclass(frozen=True, slots=True)
class FileReference:
    """A file that code reads or writes. ``literal`` is the text in the code, if the path is written in the call."""

    path: str
    writes: bool
    node: ast.expr
    literal: ast.Constant | None


def file_references(trees: Iterable[ast.AST], known: Mapping[str, str]) -> list[FileReference]:
    """Return the files in the calls of some code; ``known`` are the texts that names stand for.

    The name of a parameter stands for itself in braces, because its value is not in the text.
    """
    references: list[FileReference] = []
    texts = dict(known)
    for tree in trees:
        nodes = list(_nodes(tree))
        for node in nodes:
            if isinstance(node, ast.Assign):
                _assigned(node, texts)
        for node in nodes:
            if isinstance(node, ast.Call):
                references += _called(node, texts)
    return references


def may_use_files(identifiers: Iterable[str]) -> bool:
    """Return whether code with these names and attributes may call a function that reads or writes a file."""
    return any(
        name in _CALLED or name.startswith(_READING_PREFIXES) or name.startswith(_WRITING_PREFIXES)
        for name in identifiers
    )


def assigned_paths(statements: Iterable[ast.stmt], known: Mapping[str, str]) -> dict[str, str]:
    """Return the known texts, with those that statements assign to names."""
    texts = dict(known)
    for statement in statements:
        if isinstance(statement, ast.Assign):
            _assigned(statement, texts)
    return texts


def _nodes(tree: ast.AST) -> Iterator[ast.AST]:
    todo = [tree]
    while todo:
        node = todo.pop()
        yield node
        todo += reversed(children(node))


def _assigned(node: ast.Assign, texts: dict[str, str]) -> None:
    for target in node.targets:
        if isinstance(target, ast.Name):
            text = path_text(node.value, texts)
            if text is None:
                texts.pop(target.id, None)
            else:
                texts[target.id] = text


def path_text(node: ast.AST, known: Mapping[str, str]) -> str | None:
    """Return the text that an expression builds for a path; None if it depends on anything else."""
    try:
        return _text(node, known)
    except RecursionError:
        return None


def _text(node: ast.AST, known: Mapping[str, str]) -> str | None:
    if isinstance(node, ast.Constant):
        return node.value if isinstance(node.value, str) else None
    if isinstance(node, ast.Name):
        return known.get(node.id)
    if isinstance(node, ast.FormattedValue):
        return _text(node.value, known) if node.format_spec is None else None
    if isinstance(node, ast.JoinedStr):
        return _joined([_text(part, known) for part in node.values], "")
    if isinstance(node, ast.BinOp) and isinstance(node.op, ast.Add | ast.Div):
        separator = "/" if isinstance(node.op, ast.Div) else ""
        return _joined([_text(node.left, known), _text(node.right, known)], separator)
    if isinstance(node, ast.Call) and not node.keywords:
        name = dotted_name(node.func)
        if name in _JOINING and node.args:
            return _joined([_text(argument, known) for argument in node.args], "/")
        if name in _SAME_PATH and len(node.args) == 1:
            return _text(node.args[0], known)
        if name in ("Path.cwd", "os.getcwd", "Path"):
            return "."
    return None


def normal_path(text: str) -> str | None:
    """Return a path without detours; None for what does not look like a file."""
    if "://" in text or "\0" in text or "\n" in text or not text or text.endswith(("/", ".")):
        return None
    if "/" not in text and "." not in text and "{" not in text:
        return None
    return posixpath.normpath(text)


def _joined(parts: list[str | None], separator: str) -> str | None:
    texts = [part for part in parts if part is not None]
    if len(texts) != len(parts):
        return None
    return posixpath.join(*texts) if separator else "".join(texts)


def _called(node: ast.Call, known: Mapping[str, str]) -> Iterator[FileReference]:
    for text, writes in shell_files(node):
        if path := normal_path(text):
            yield FileReference(path, writes, node, None)
    name = dotted_name(node.func)
    last = name.rpartition(".")[2]
    owner = node.func.value if isinstance(node.func, ast.Attribute) else None
    if name in _MOVING and len(node.args) > 1:
        yield from _reference(node.args[0], known, writes=False)
        yield from _reference(node.args[1], known, writes=True)
    elif last in _OPENING and name not in _OTHERS:
        yield from _opened(node, owner, known)
    elif name in _LOOKING:
        yield from _argument(node, known, writes=False)
    elif last in _OF_PATHS and owner is not None:
        yield from _reference(owner, known, writes=_OF_PATHS[last])
    elif name == "Image.open" or last in _READING or last.startswith(_READING_PREFIXES):
        yield from _argument(node, known, writes=False)
    elif last == "connect" and name.startswith(("sqlite3.", "duckdb.")):
        yield from _argument(node, known, writes=False)
        yield from _argument(node, known, writes=True)
    elif last in _SUFFIXED and name.partition(".")[0] in ("np", "numpy"):
        yield from _suffixed(node, known, _SUFFIXED[last])
    elif last in _WRITING or last.startswith(_WRITING_PREFIXES):
        yield from _argument(node, known, writes=True)


def _opened(node: ast.Call, owner: ast.expr | None, known: Mapping[str, str]) -> Iterator[FileReference]:
    """Yield what ``open(path, mode)`` or ``path.open(mode)`` opens."""
    is_method = owner is not None and path_text(owner, known) is not None
    arguments = [owner, *node.args] if is_method else list(node.args)
    keyword = next((item.value for item in node.keywords if item.arg == "mode"), None)
    mode_node = keyword or (arguments[1] if len(arguments) > 1 else None)
    mode = mode_node.value if isinstance(mode_node, ast.Constant) and isinstance(mode_node.value, str) else "r"
    for argument in arguments[:1]:
        if argument is None:
            continue
        # What is appended to is kept.
        if any(letter in mode for letter in "ra+"):
            yield from _reference(argument, known, writes=False)
        if any(letter in mode for letter in "wax+"):
            yield from _reference(argument, known, writes=True)


def _suffixed(node: ast.Call, known: Mapping[str, str], suffix: str) -> Iterator[FileReference]:
    """Yield the file that numpy writes, under the name that it gives it."""
    for argument in node.args[:1]:
        text = path_text(argument, known)
        if text is not None and not text.endswith((suffix, "/")):
            yield FileReference(posixpath.normpath(text + suffix), writes=True, node=argument, literal=None)
        yield from _reference(argument, known, writes=True)


def _argument(node: ast.Call, known: Mapping[str, str], *, writes: bool) -> Iterator[FileReference]:
    """Yield the first argument that is a path: of some functions it is the first one, of others the second."""
    named = [item.value for item in node.keywords if item.arg in _PATH_ARGUMENTS]
    for argument in [*node.args[: 2 if writes else 1], *named]:
        references = list(_reference(argument, known, writes=writes))
        if references:
            yield references[0]
            return


def _reference(node: ast.expr, known: Mapping[str, str], *, writes: bool) -> Iterator[FileReference]:
    text = path_text(node, known)
    path = normal_path(text) if text is not None else None
    if path is not None:
        yield FileReference(path, writes, node, node if isinstance(node, ast.Constant) else None)
