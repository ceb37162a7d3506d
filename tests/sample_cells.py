"""Makes notebooks for tests of the language: cells from their texts, and what is read from them."""

from __future__ import annotations

from collections.abc import Mapping

from nbpipe.language.notebook_parser import parse_cells
from nbpipe.language.parsed_notebook import ParsedNotebook
from nbpipe.model import Cell, StepCode


def cells(*sources: str, tags: Mapping[int, str] | None = None) -> list[Cell]:
    """Get code cells numbered from 1; ``tags`` are by number."""
    told = {number: frozenset(words.split()) for number, words in (tags or {}).items()}
    return [Cell(number, source, "", told.get(number, frozenset())) for number, source in enumerate(sources, 1)]


def read(*sources: str, tags: Mapping[int, str] | None = None) -> ParsedNotebook:
    """Read a notebook of these cells."""
    return parse_cells(cells(*sources, tags=tags))


def fine(*sources: str, tags: Mapping[int, str] | None = None) -> ParsedNotebook:
    """Read a notebook that has nothing wrong."""
    reading = read(*sources, tags=tags)
    assert [str(error) for error in reading.errors] == []
    return reading


def wrong(*sources: str, tags: Mapping[int, str] | None = None) -> str:
    """Read a notebook that has one thing wrong, and get the error's text."""
    errors = read(*sources, tags=tags).errors
    assert len(errors) == 1, [str(error) for error in errors]
    return str(errors[0])


def shared_names(code: StepCode) -> list[str]:
    """Get the names of the definitions that a step is given, sorted."""
    return sorted(name for definition in code.definitions for name in definition.names)


def code_of(*sources: str, tags: Mapping[int, str] | None = None) -> StepCode:
    """Get what the last step of a notebook needs, which has nothing wrong."""
    reading = fine(*sources, tags=tags)
    return reading.code[reading.steps[-1].name]
