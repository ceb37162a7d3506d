"""Where a pipeline draws other random numbers than one kernel would.

Several steps begin from the same seed, or ordinary cells draw between a seed and a step.
"""

from __future__ import annotations

import ast
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from nbpipe.errors import SourceLocation
from nbpipe.language.callables import dotted_name
from nbpipe.language.definitions import AnalysedDefinition, SharedDefinitions
from nbpipe.language.mutation_analysis import outside_functions
from nbpipe.language.qualified_names import QualifiedNames
from nbpipe.language.random_generators import drawn_library, draws_by_default
from nbpipe.language.step_analysis import StepDraft
from nbpipe.model import PipelineWarning

_DRAWING = frozenset(
    {"random", "rand", "randn", "randint", "random_sample", "randperm", "choice", "choices", "shuffle",
     "permutation", "gauss", "bernoulli", "multinomial"}
)  # fmt: skip
_SHOWN = 60
# With these, code has a generator or a seed of its own.
_OWN = frozenset({"default_rng", "RandomState", "Random", "Generator", "seed", "manual_seed"})


@dataclass(frozen=True, slots=True)
class _Draw:
    """A statement of an ordinary cell that draws from a library's generator."""

    cell: int
    line: int
    library: str
    text: str


def seed_warnings(
    drafts: Sequence[StepDraft], settings: Mapping[str, Sequence[AnalysedDefinition]], shared: SharedDefinitions
) -> tuple[PipelineWarning, ...]:
    """Return the warnings about steps that start from a seed where one kernel would go on, as far as code shows it."""
    drawing = [draft for draft in drafts if _draws(draft)]
    seeded = any(_is_seed(item) for draft in drawing for item in settings[draft.step.name])
    draws = list(_ordinary_draws(shared)) if seeded else []
    passed = [
        _passed_over(draft, seed, draw)
        for draft in drawing
        for draw in draws
        if (seed := _seed_before(draw, settings[draft.step.name])) is not None
        and draw.cell < draft.step.pieces[0].cell
        and not _is_seeded_after(draw, settings[draft.step.name])
    ]
    return (*_restarts(drawing, settings), *{warning.message: warning for warning in reversed(passed)}.values())


def _restarts(
    drawing: Sequence[StepDraft], settings: Mapping[str, Iterable[AnalysedDefinition]]
) -> tuple[PipelineWarning, ...]:
    """Return a warning for each seed from which more than one step draws."""
    seeds = {id(item): item for draft in drawing for item in settings[draft.step.name] if _is_seed(item)}
    warnings = []
    for seed in seeds.values():
        steps = [f"`{each.step.name}`" for each in drawing if any(item is seed for item in settings[each.step.name])]
        if len(steps) > 1:
            text = seed.definition.source.strip().splitlines()[0]
            warnings.append(
                PipelineWarning(
                    "seed-restarts",
                    f"{', '.join(steps[:-1])} and {steps[-1]} each start from `{text}`, where one kernel would go on "
                    "drawing",
                    "Seed each step by itself if they must draw different numbers.",
                    SourceLocation(seed.definition.cell, seed.line),
                )
            )
    return tuple(warnings)


def _passed_over(draft: StepDraft, seed: AnalysedDefinition, draw: _Draw) -> PipelineWarning:
    text = seed.definition.source.strip().splitlines()[0]
    return PipelineWarning(
        "seed-restarts",
        f"`{draft.step.name}` starts from `{text}`, where one kernel has drawn in `{draw.text}` before",
        "Draw in a step, or seed the step by itself.",
        SourceLocation(draw.cell, draw.line),
    )


def _ordinary_draws(shared: SharedDefinitions) -> Iterator[_Draw]:
    """Yield the statements of ordinary cells that draw, themselves or in a function of the notebook."""
    for cell in shared.cells:
        for statement in () if cell.whole else cell.loose:
            for library in sorted(_libraries_drawn(statement, shared.names, frozenset())):
                text = ast.unparse(statement).splitlines()[0][:_SHOWN]
                yield _Draw(cell.number, statement.lineno, library, text)


def _libraries_drawn(tree: ast.AST, names: QualifiedNames, within: frozenset[str]) -> set[str]:
    drawn: set[str] = set()
    for call in (node for node in outside_functions(tree) if isinstance(node, ast.Call)):
        called = names.of(call.func) or dotted_name(call.func)
        # A method of what a call returns.
        called = called.rpartition(".")[2] if "()" in called else called
        library = drawn_library(called, call)
        drawn |= {library} if library else set()
        function = names.functions.get(called)
        if function is not None and called not in within:
            for statement in function.body:
                drawn |= _libraries_drawn(statement, names, within | {called})
    return drawn


def _seed_before(draw: _Draw, settings: Iterable[AnalysedDefinition]) -> AnalysedDefinition | None:
    """Return the last seed above a draw of the generator that it draws from."""
    above = [item for item in settings if _seeds(item, draw.library) and _place(item) <= (draw.cell, draw.line)]
    return max(above, key=_place, default=None)


def _is_seeded_after(draw: _Draw, settings: Iterable[AnalysedDefinition]) -> bool:
    return any(_seeds(item, draw.library) and _place(item) > (draw.cell, draw.line) for item in settings)


def _seeds(item: AnalysedDefinition, library: str) -> bool:
    return _is_seed(item) and library in item.users


def _place(item: AnalysedDefinition) -> tuple[int, int]:
    return item.definition.cell, item.line


def _is_seed(item: AnalysedDefinition) -> bool:
    return "seed" in item.definition.setting


def _draws(draft: StepDraft) -> bool:
    identifiers = draft.identifiers(())
    if not identifiers.isdisjoint(_OWN):
        return False
    calls = (node for tree in draft.trees for node in ast.walk(tree) if isinstance(node, ast.Call))
    return not identifiers.isdisjoint(_DRAWING) or any(
        draws_by_default(dotted_name(call.func).rpartition(".")[2], call) for call in calls
    )
