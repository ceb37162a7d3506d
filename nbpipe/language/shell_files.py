"""Files that shell commands and cell magics write and read, as far as their text says so."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator

from nbpipe.language.callables import dotted_name
from nbpipe.language.name_analysis import magic_texts

_PATH = r"([\w./~+=@%-]*[\w%-])"
_WRITES = tuple(
    re.compile(pattern)
    for pattern in (
        rf"(?<![0-9&<])>>?\s*['\"]?{_PATH}", rf"\b(?:tee|touch)\s+(?:-a\s+)?['\"]?{_PATH}",
        rf"\bwget\s.*?(?:-O|--output-document=?)\s*['\"]?{_PATH}", rf"\bcurl\s.*?(?:-o|--output)\s+['\"]?{_PATH}",
        rf"\b(?:cp|mv|ln)\s+(?:-\w+\s+)*\S+\s+['\"]?{_PATH}\s*(?:$|[;&|])",
    )
)  # fmt: skip
_READS = tuple(
    re.compile(pattern)
    for pattern in (
        rf"(?<!<)<\s*['\"]?{_PATH}", rf"\b(?:cat|head|tail|wc|sort|unzip|gunzip)\s+(?:-\w+\s+)*['\"]?{_PATH}",
        rf"\btar\s+\S*x\S*\s+['\"]?{_PATH}",
    )
)  # fmt: skip
_RUNNING = frozenset({"run", "call", "check_call", "check_output", "Popen", "getoutput", "system", "popen"})
_SHELLS = frozenset({"bash", "sh", "script", "!"})
_RUNNERS = ("subprocess", "os", "sp")


def shell_files(call: ast.Call) -> Iterator[tuple[str, bool]]:
    """Yield the files in the text of a command that a call runs, each with whether it is written."""
    for text in _commands(call):
        yield from ((match[1], True) for pattern in _WRITES for match in pattern.finditer(text))
        yield from ((match[1], False) for pattern in _READS for match in pattern.finditer(text))
    words = magic_texts(call)
    if words[:1] in (["writefile"], ["file"]) and len(words) > 1:
        parts = [part for part in words[1].split() if not part.startswith("-")]
        yield from ((part.strip("'\""), True) for part in parts[:1])


def _commands(call: ast.Call) -> Iterator[str]:
    words = magic_texts(call)
    if words[:1] and words[0] in _SHELLS and len(words) > 2:
        yield from words[2].splitlines()
    first = call.args[0].value if call.args and isinstance(call.args[0], ast.Constant) else None
    if not isinstance(first, str):
        return
    func = call.func
    if isinstance(func, ast.Attribute) and isinstance(func.value, ast.Call):
        if dotted_name(func.value.func) == "get_ipython" and func.attr in ("system", "getoutput"):
            yield first
        return
    root, _, last = dotted_name(func).rpartition(".")
    if root in _RUNNERS and last in _RUNNING:
        yield first
