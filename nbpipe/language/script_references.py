"""Files of code that a step runs by magic: ``%run x.py``, ``!python x.py``, ``!bash x.sh``."""

from __future__ import annotations

import ast
import re
import shlex
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from nbpipe.language.name_analysis import magic_texts

_INTERPRETER = re.compile(r"(?:.*/)?(?:python[\d.]*|bash|sh)|[{$]\{?sys\.executable\}?")
_SEPARATORS = re.compile(r"[;&|()]+")
_UNKNOWN = re.compile(r"[${}*?`~]")
_INSTALLING = re.compile(
    r"\b(?:pip[\d.]*|conda|mamba|micromamba|pixi|uv|poetry)\s(?:.*\s)?(?:install|uninstall|remove|add|sync|update)\b"
)
_WITH_VALUE = {"-W", "-X"}


@dataclass(frozen=True, slots=True)
class ScriptReferences:
    """The scripts that code runs: ``files`` as written, ``modules`` of ``-m``, ``hidden`` commands of unknown files.

    ``runs``: ``%run`` executes code in the step's own namespace, where it may bind any name. ``installing`` are
    the commands that install or remove packages.
    """

    files: tuple[str, ...] = ()
    modules: tuple[str, ...] = ()
    hidden: tuple[str, ...] = ()
    runs: bool = False
    installing: tuple[str, ...] = ()


def script_references(trees: Iterable[ast.AST]) -> ScriptReferences:
    """Return the scripts that code runs by magics and shell escapes."""
    files: dict[str, None] = {}
    modules: dict[str, None] = {}
    hidden: dict[str, None] = {}
    installing: dict[str, None] = {}
    runs = False
    for tree in trees:
        for node in ast.walk(tree):
            runs |= _runs(node)
            installing |= dict.fromkeys(_installs(node))
            for kind, text in _called(node):
                {"file": files, "module": modules, "hidden": hidden}[kind][text] = None
    return ScriptReferences(tuple(files), tuple(modules), tuple(hidden), runs, tuple(installing))


def _runs(node: ast.AST) -> bool:
    """Return whether a node is the call that IPython makes of ``%run``."""
    return _method(node) == "run_line_magic" and magic_texts(node)[:1] == ["run"]


def _installs(node: ast.AST) -> Iterator[str]:
    """Yield a magic or a shell command as its author wrote it, if it installs or removes packages."""
    texts = magic_texts(node)
    if _method(node) == "run_line_magic" and _INSTALLING.match(" ".join(texts)):
        yield f"%{' '.join(texts)}"
    elif texts and _method(node) in ("system", "getoutput") and _INSTALLING.search(texts[0]):
        yield f"!{texts[0]}"


def _method(node: ast.AST) -> str:
    return node.func.attr if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) else ""


def _called(node: ast.AST) -> Iterator[tuple[str, str]]:
    texts = magic_texts(node)
    if _runs(node):
        yield from _run(" ".join(texts[1:]))
    elif texts and _method(node) in ("system", "getoutput"):
        yield from _shell(texts[0])


def _run(text: str) -> Iterator[tuple[str, str]]:
    try:
        words = shlex.split(text)
    except ValueError:
        words = []
    kind, script = _script(words)
    if kind == "file" and "." not in script.rpartition("/")[2]:
        # IPython adds a missing suffix.
        script += ".py"
    yield (kind, script) if kind else ("hidden", f"%run {text}")


def _shell(text: str) -> Iterator[tuple[str, str]]:
    """Yield the script that each command of a shell line runs; after ``cd`` its path is unknown."""
    try:
        lexer = shlex.shlex(text, posix=True, punctuation_chars=";&|()")
        lexer.whitespace_split = True
        lexer.commenters = ""
        words = list(lexer)
    except ValueError:
        words = []
    moved = False
    command: list[str] = []
    for word in [*words, ";"]:
        if not _SEPARATORS.fullmatch(word):
            command.append(word)
            continue
        moved |= command[:1] == ["cd"]
        if command and _INTERPRETER.fullmatch(command[0]) and "-c" not in command[1:2]:
            kind, script = _script(command[1:])
            if kind:
                yield (kind, script) if not moved else ("hidden", f"!{text}")
        command = []


def _script(words: list[str]) -> tuple[str, str]:
    """Return the file or module among an interpreter's arguments; empty texts if there is none."""
    rest = list(words)
    while rest and rest[0].startswith("-"):
        option = rest.pop(0)
        if option == "-m" and rest:
            return ("hidden" if _UNKNOWN.search(rest[0]) else "module", rest[0])
        if option in _WITH_VALUE and rest:
            rest.pop(0)
    if not rest or rest[0] in ("<", ">"):
        return "", ""
    return ("hidden" if _UNKNOWN.search(rest[0]) else "file", rest[0])
