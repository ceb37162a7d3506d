"""The text of a cell that becomes a step: its declaration, and what goes to a cell of its own above it."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterable, Sequence

from nbpipe.language.source_text import lines_of

_TIME = re.compile(r"\s*%%time[^\S\n]*\n?")
_COLUMNS = 100


def declaration(name: str, inputs: Sequence[str], outputs: Sequence[str], after: Sequence[str] = ()) -> str:
    """Return the declaration of a step as comments, so that the cell runs in any kernel."""
    options = [("i", "in", inputs), ("o", "out", outputs)]
    short = "".join(f" -{letter} {', '.join(items)}" for letter, _, items in options if items)
    short += f" --after {', '.join(after)}" if after else ""
    if len(short) + len(name) <= _COLUMNS:
        return f"#| step: {name}{short}"
    long = [f"#| {key}: {', '.join(items)}" for _, key, items in options if items]
    return "\n".join([f"#| step: {name}", *long, *([f"#| after: {', '.join(after)}"] if after else [])])


def continuation(name: str) -> str:
    """Return the declaration of a cell that continues a step."""
    return f"#| step: {name} --append"


def step_source(source: str, first: str, moved: Iterable[ast.stmt]) -> str:
    """Return a step's cell: its declaration, and its text without the statements that are moved out.

    ``%%time`` goes as well: a step's times are recorded anyway.
    """
    gone = {number for statement in moved for number in _lines_with(statement, source)}
    lines = [line for number, line in enumerate(lines_of(_timeless(source)), 1) if number not in gone]
    text = "\n".join(lines).strip("\n") if gone else "\n".join(lines).lstrip("\n")
    return f"{first}\n{text}"


def moved_source(source: str, moved: Sequence[ast.stmt]) -> str:
    """Return the text of statements that are moved to a cell of their own, with the comments right above them."""
    lines = lines_of(source)
    blocks: list[str] = []
    simple = True
    for statement in moved:
        text = "\n".join(lines[number - 1] for number in sorted(_lines_with(statement, source)))
        plain = not isinstance(statement, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef)
        blocks.append(("" if not blocks else "\n" if plain and simple else "\n\n\n") + text)
        simple = plain
    return "".join(blocks)


def _timeless(source: str) -> str:
    """Return the source with a ``%%time`` line blank."""
    match = _TIME.match(source)
    return "\n" * match[0].count("\n") + source[match.end() :] if match else source


def _lines_with(statement: ast.stmt, source: str) -> set[int]:
    """Return the lines of a statement, of its decorators, and of the comments right above it."""
    lines = lines_of(source)
    first = min([statement.lineno, *(each.lineno for each in getattr(statement, "decorator_list", []))])
    numbers = set(range(first, (statement.end_lineno or first) + 1))
    while first > 1 and lines[first - 2].lstrip().startswith("#") and not lines[first - 2].startswith("#|"):
        first -= 1
        numbers.add(first)
    return numbers
