"""Parsed notebooks: the steps, the parameters, the code of each step, and what is wrong."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from nbpipe.errors import BadPipeline, Refused
from nbpipe.model import Parameter, PipelineWarning, Step, StepCode

# The code of the warning about an input that a step changes in place.
CHANGED_INPUT = "changed-input"


@dataclass(frozen=True, slots=True)
class ParsedNotebook:
    """The parsed cells; ``errors`` is empty if they can be planned, ``unbound`` lists outputs not bound yet.

    ``unread`` are the words in erroneous cells: names that these cells may define. ``broken`` are the numbers of those
    among them that only matter to steps that read what they may define; ``doubtful`` lists these names by step.
    ``effects`` warns of what set-up cells do that steps get otherwise, or not at all.
    """

    steps: tuple[Step, ...]
    parameters: tuple[Parameter, ...]
    code: Mapping[str, StepCode]
    injected: Mapping[str, Any] = field(default_factory=dict)
    defaults: Mapping[str, Any] = field(default_factory=dict)
    unbound: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    errors: tuple[Refused, ...] = ()
    unread: frozenset[str] = frozenset()
    broken: frozenset[int] = frozenset()
    doubtful: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    effects: tuple[PipelineWarning, ...] = ()

    @property
    def warnings(self) -> tuple[PipelineWarning, ...]:
        """Return the advice about set-up cells and all steps."""
        return (*self.effects, *(warned for code in self.code.values() for warned in code.warnings))


def unbound_errors(reading: ParsedNotebook) -> list[Refused]:
    """Return an error for each step with a value output that no statement can bind."""
    return [
        BadPipeline(
            f"no statement of the step binds its output `{name}`",
            f"Assign to `{name}`, or declare `-o {name}:file` or `-o {name}:dir` for a path to write to.",
            output.place if (output := step.output(name)) else step.place,
        )
        for step in reading.steps for name in reading.unbound.get(step.name, ())
    ]  # fmt: skip
