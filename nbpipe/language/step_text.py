"""The code of a step: its cells as syntax trees, the names in them, and what they mean apart from layout."""

from __future__ import annotations

import ast
from dataclasses import dataclass

from nbpipe.errors import SourceLocation
from nbpipe.language.ipython_syntax import check_cell, is_plain, parse_cell
from nbpipe.language.name_analysis import NameUsage, name_usage
from nbpipe.language.normal_form import NormalForm, normal_form_of
from nbpipe.model import Step

# With these, code may bind and read names that do not appear in its text.
DYNAMIC_CALLS = frozenset({"exec", "get_ipython", "globals", "locals", "vars", "setattr"})


@dataclass(frozen=True, slots=True)
class StepText:
    """A step's parsed cells: ``trees`` one by one, ``body`` all together; ``plain``: they have no magics."""

    trees: tuple[ast.Module, ...]
    body: list[ast.stmt]
    names: NameUsage
    form: NormalForm
    plain: bool

    @property
    def dynamic(self) -> bool:
        """Return whether it may bind and read names that do not appear in its text."""
        return self.names.stars or bool(self.form.identifiers & DYNAMIC_CALLS)


def read_text(step: Step) -> StepText:
    """Return the code of a step; raise BadCode if a cell is not valid Python."""
    places = [SourceLocation(piece.cell, step=step.name) for piece in step.pieces]
    trees = tuple(parse_cell(piece.source, place) for piece, place in zip(step.pieces, places, strict=True))
    plain = all(is_plain(piece.source) for piece in step.pieces)
    body = [statement for tree in trees for statement in tree.body]
    form = normal_form_of(body)
    if not form.simple:
        for piece, place in zip(step.pieces, places, strict=True):
            check_cell(piece.source, place)
    return StepText(trees, body, name_usage(body), form, plain)
