"""Where a pipeline draws other random numbers than one kernel would: several steps begin from the same seed."""

from __future__ import annotations

import ast
from collections.abc import Iterable, Mapping, Sequence

from nbpipe.errors import SourceLocation
from nbpipe.language.callables import dotted_name
from nbpipe.language.definitions import AnalysedDefinition
from nbpipe.language.random_generators import draws_by_default
from nbpipe.language.step_analysis import StepDraft
from nbpipe.model import PipelineWarning

_DRAWING = frozenset(
    {"random", "rand", "randn", "randint", "random_sample", "randperm", "choice", "choices", "shuffle",
     "permutation", "gauss", "bernoulli", "multinomial"}
)  # fmt: skip
# With these, code has a generator or a seed of its own.
_OWN = frozenset({"default_rng", "RandomState", "Random", "Generator", "seed", "manual_seed"})


def seed_warnings(
    drafts: Sequence[StepDraft], settings: Mapping[str, Iterable[AnalysedDefinition]]
) -> tuple[PipelineWarning, ...]:
    """Return a warning for each seed from which more than one step draws, as far as their code shows it."""
    drawing = [draft for draft in drafts if _draws(draft)]
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
