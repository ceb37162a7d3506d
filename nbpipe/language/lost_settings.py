"""Settings that a step would have in one kernel and does not get: those of other steps, and those between its cells.

Seeds are left to :mod:`nbpipe.language.hidden_changes`, which knows where random numbers are drawn.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from nbpipe.errors import SourceLocation
from nbpipe.language.definitions import AnalysedDefinition
from nbpipe.language.mutation_analysis import MUTATORS
from nbpipe.language.setting_reach import SettingReach
from nbpipe.language.setting_statements import Setting, SettingReader
from nbpipe.language.step_analysis import NotebookScope, StepDraft
from nbpipe.model import PipelineWarning

_CODE = "hidden-change"
_SHOWN = 60
_IN_STEP = "Each step has a kernel of its own: set it in an ordinary cell above these steps, or in each of them."
_BETWEEN = "A step gets the settings above its first cell: move this one there, or into the step."


@dataclass(frozen=True, slots=True)
class OwnSetting:
    """A statement of a step that sets an option for the rest of its kernel; ``by_name``: of an object with a name."""

    step: str
    cell: int
    line: int
    setting: Setting
    by_name: bool = False


def own_settings(draft: StepDraft, scope: NotebookScope) -> tuple[OwnSetting, ...]:
    """Return the settings in a step's own code."""
    return tuple(_own_settings(draft, scope))


def lost_setting_warnings(
    drafts: Sequence[StepDraft],
    settings: Sequence[AnalysedDefinition],
    own: Mapping[str, Sequence[OwnSetting]],
    reach: SettingReach,
) -> tuple[PipelineWarning, ...]:
    """Return a warning for each setting that steps do not get although it stands above code of theirs.

    ``settings`` are those of ordinary cells, ``own`` those of the steps.
    """
    return (*_between(drafts, settings, reach, own), *_in_steps(drafts, settings, reach, own))


def _own_settings(draft: StepDraft, scope: NotebookScope) -> Iterator[OwnSetting]:
    if not any(map(_may_set, draft.body)):
        return
    reader = SettingReader(scope.shared.names.inside(draft.body), scope.shared.more_settings)
    for piece, tree in zip(draft.step.pieces, draft.trees, strict=False):
        for statement in tree.body:
            setting = reader.read(statement) if _may_set(statement) else None
            if setting is not None and "seed" not in setting.name:
                by_name = isinstance(statement, ast.Assign) and not _is_of_call(statement)
                yield OwnSetting(draft.step.name, piece.cell, statement.lineno, setting, by_name=by_name)


def _may_set(statement: ast.stmt) -> bool:
    """Return whether a statement calls something or sets an attribute, but not whether it calls a mutating method."""
    if isinstance(statement, ast.Assign):
        return any(isinstance(target, ast.Attribute) for target in statement.targets)
    call = statement.value if isinstance(statement, ast.Expr) else None
    if not isinstance(call, ast.Call):
        return False
    if isinstance(call.func, ast.Name):
        return call.func.id != "print"
    return not (isinstance(call.func, ast.Attribute) and call.func.attr in MUTATORS)


def _is_of_call(statement: ast.Assign) -> bool:
    return any(isinstance(target, ast.Attribute) and isinstance(target.value, ast.Call) for target in statement.targets)


def _is_concerned(step: str, own: OwnSetting, reach: SettingReach) -> bool:
    """Return whether a step is to be told of a setting: who names what it changes is told of that change."""
    named = reach.concerns(step, own.setting.users)
    return not own.by_name if named else reach.concerns_values(step, own.setting.users, own.setting.name)


def _between(
    drafts: Sequence[StepDraft], settings: Sequence[AnalysedDefinition], reach: SettingReach,
    own: Mapping[str, Sequence[OwnSetting]],
) -> Iterator[PipelineWarning]:  # fmt: skip
    """Yield a warning for each setting of an ordinary cell that stands between the cells of a step."""
    for draft in drafts:
        cells = [piece.cell for piece in draft.step.pieces]
        between = [each for each in settings if cells[0] < each.definition.cell < cells[-1]]
        names = {each.setting.name for each in own.get(draft.step.name, ())}
        for each in reach.concerning(draft.step.name, between):
            if each.definition.setting not in names and "seed" not in each.definition.setting:
                text = each.definition.source.strip().splitlines()[0][:_SHOWN]
                message = f"`{text}` stands between the cells of `{draft.step.name}`, which does not get it"
                yield PipelineWarning(_CODE, message, _BETWEEN, SourceLocation(each.definition.cell, each.line))


def _in_steps(
    drafts: Sequence[StepDraft], settings: Sequence[AnalysedDefinition], reach: SettingReach,
    own: Mapping[str, Sequence[OwnSetting]],
) -> Iterator[PipelineWarning]:  # fmt: skip
    """Yield a warning for each setting of a step that a step below would have, unless it is set again before."""
    for each in (each for of_step in own.values() for each in of_step):
        missing = []
        for draft in drafts:
            first = draft.step.pieces[0].cell
            if first <= each.cell or draft.step.name == each.step:
                continue
            again = {other.setting.name for other in own.get(draft.step.name, ())}
            again |= {item.definition.setting for item in settings if each.cell < item.definition.cell < first}
            if each.setting.name not in again and _is_concerned(draft.step.name, each, reach):
                missing.append(f"`{draft.step.name}`")
        if missing:
            listed = ", ".join(missing[:-1]) + (" and " if missing[:-1] else "") + missing[-1]
            do = "do" if len(missing) > 1 else "does"
            message = f"step `{each.step}` sets `{each.setting.name}`, which {listed} {do} not get"
            yield PipelineWarning(_CODE, message, _IN_STEP, SourceLocation(each.cell, each.line, step=each.step))
