"""What is read of a notebook's cells, kept for the next reading: from one to the next, most cells stay the same."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from nbpipe.language.definitions import AnalysedDefinition, SharedDefinitions, collect_definitions
from nbpipe.language.directives import StepDeclaration, read_step
from nbpipe.language.lost_settings import OwnSetting, own_settings
from nbpipe.language.step_analysis import NotebookScope, StepAnalysis, StepDraft, analyse_step, draft_step
from nbpipe.model import Cell, Parameter, Step


@dataclass(slots=True)
class _Reading:
    """A step as it was read: ``analyses`` by the settings that it got."""

    draft: StepDraft
    own_settings: tuple[OwnSetting, ...] | None = None
    settings: tuple[AnalysedDefinition, ...] = ()
    analysis: StepAnalysis | None = None


@dataclass(slots=True)
class ParsedCellCache:
    """The declarations, definitions and steps of the last reading, each reused while what it depends on is the same."""

    _declarations: dict[Cell, StepDeclaration] = field(default_factory=dict)
    _read: dict[Cell, StepDeclaration] = field(default_factory=dict)
    _collected: tuple[Any, SharedDefinitions] | None = None
    _scope: tuple[SharedDefinitions, Mapping[str, Parameter], frozenset[str]] | None = None
    _steps: dict[str, _Reading] = field(default_factory=dict)

    def declaration(self, cell: Cell) -> StepDeclaration:
        """Return the declaration of a step's cell; raise BadDirective if it is wrong."""
        declared = self._declarations.get(cell)
        if declared is None:
            declared = read_step(cell)
        self._read[cell] = declared
        return declared

    def definitions(
        self,
        cells: Sequence[tuple[int, Cell]],
        parameters: Sequence[str],
        more_settings: Mapping[str, tuple[str, ...]] | None,
    ) -> SharedDefinitions:
        """Return what ordinary cells share."""
        asked = (cells, parameters, more_settings)
        if self._collected is None or self._collected[0] != asked:
            self._collected = asked, collect_definitions(cells, parameters, more_settings)
        return self._collected[1]

    def drafts(self, steps: Iterable[Step], scope: NotebookScope) -> list[StepDraft]:
        """Return the steps with their code read; forget the cells and steps that are not among them."""
        self._declarations, self._read = self._read, {}
        surroundings = (scope.shared, scope.parameters, scope.refused)
        is_same = self._scope is not None and self._scope[0] is scope.shared and self._scope[1:] == surroundings[1:]
        earlier = self._steps if is_same else {}
        self._scope, self._steps = surroundings, {}
        for step in steps:
            reading = earlier.get(step.name)
            is_known = reading is not None and _is_same(reading.draft.step, step)
            self._steps[step.name] = reading if reading and is_known else _Reading(draft_step(step, scope))
        return [reading.draft for reading in self._steps.values()]

    def own_settings(self, draft: StepDraft, scope: NotebookScope) -> tuple[OwnSetting, ...]:
        """Return the settings in a step's own code."""
        reading = self._steps[draft.step.name]
        if reading.own_settings is None:
            reading.own_settings = own_settings(draft, scope)
        return reading.own_settings

    def analysis(self, draft: StepDraft, scope: NotebookScope, settings: Sequence[AnalysedDefinition]) -> StepAnalysis:
        """Return what a step needs; an incomplete one is analysed again, as others may have what it lacks."""
        reading, given = self._steps[draft.step.name], tuple(settings)
        if reading.analysis is None or not reading.analysis.is_complete or reading.settings != given:
            reading.settings, reading.analysis = given, analyse_step(draft, scope, given)
        return reading.analysis


def _is_same(step: Step, other: Step) -> bool:
    """Return whether two steps have the same declaration in the same place."""
    return step == other and step.key_places == other.key_places
