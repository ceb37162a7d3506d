"""A notebook's cells as a pipeline: cells are classified, steps assembled, and all errors collected."""

from __future__ import annotations

import ast
import dataclasses
import re
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from typing import Any

from nbpipe.errors import BadDirective, BadParameter, BadPipeline, Refusals, Refused, SourceLocation
from nbpipe.language.cell_markers import CellKind, CellMarker
from nbpipe.language.conditions import condition_names
from nbpipe.language.definitions import AnalysedDefinition, is_local, is_shared
from nbpipe.language.directives import StepDeclaration, marker, read_defaults
from nbpipe.language.dynamic_code import execution_warnings
from nbpipe.language.files_outside_steps import written_outside_warnings
from nbpipe.language.hidden_changes import ChangedElsewhere, changed_elsewhere
from nbpipe.language.ipython_syntax import parse_cell
from nbpipe.language.lost_settings import OwnSetting, lost_setting_warnings
from nbpipe.language.name_analysis import magic_texts, name_usage
from nbpipe.language.parameters import read_injected, read_parameters
from nbpipe.language.parsed_cell_cache import ParsedCellCache
from nbpipe.language.parsed_notebook import CHANGED_INPUT, ParsedNotebook
from nbpipe.language.seed_restarts import seed_warnings
from nbpipe.language.session_names import session_name_warnings
from nbpipe.language.setting_reach import SettingReach
from nbpipe.language.setup_effects import UnsharedEffect, effect_warnings
from nbpipe.language.source_text import line_span, lines_of, nearest
from nbpipe.language.step_analysis import (
    NotebookScope,
    StepAnalysis,
    StepDraft,
    binders,
    missing_for,
)
from nbpipe.language.step_files import StepFiles
from nbpipe.model import Cell, Parameter, PipelineWarning, Step, StepCell, StepCode, StepOptions

_BINDING = re.compile(r"^\s*([^\W\d]\w*)\s*(?::[^=\n]*)?=(?!=)", re.MULTILINE)
_WORD = re.compile(r"[^\W\d]\w*")
_DEFAULTS = re.compile(r"\s*%nbpipe\s+defaults\b(.*)$")


def parse_cells(
    cells: Sequence[Cell],
    more_settings: Mapping[str, tuple[str, ...]] | None = None,
    cache: ParsedCellCache | None = None,
) -> ParsedNotebook:
    """Parse code cells in notebook order; never raise, but collect everything wrong in ``errors``.

    ``more_settings`` are settings beyond the table, with the libraries whose users they concern. ``cache`` makes the
    next reading of a notebook, with few cells changed, cheap.
    """
    cache = cache or ParsedCellCache()
    errors: list[Refused] = []
    kinds = [(_kind(cell), cell) for cell in cells]
    parameters, injected = _parameters(kinds, errors)
    by_name = {parameter.name: parameter for parameter in parameters}
    placed = [(position, cell) for position, (kind, cell) in enumerate(kinds) if kind is CellKind.ORDINARY]
    ordinary = [cell for _, cell in placed]
    shared = cache.definitions(placed, list(by_name), more_settings)
    errors += shared.errors
    garbled = _words_of_broken_cells(ordinary, shared.errors)
    defaults = _defaults(ordinary, errors)
    declaring, wrong = [cell for kind, cell in kinds if kind is CellKind.STEP], list[Refused]()
    steps = _steps(declaring, defaults, wrong, cache)
    errors += wrong
    refused = _refused(kinds, parameters) | garbled
    scope = NotebookScope(shared, by_name, _makers(steps), refused=refused)
    analyses, effects = _analyses(kinds, steps, scope, cache)
    errors += _step_errors(steps, {**dict.fromkeys(refused), **by_name}, analyses)
    unbound = {name: analysed.unbound for name, analysed in analyses.items() if analysed.unbound}
    order = {cell.number: place for place, cell in reversed(list(enumerate(cells)))}
    changed = changed_elsewhere(order, analyses, shared, parameters)
    errors += changed.errors
    files = StepFiles.of(shared, parameters)
    code = _code(analyses, changed, files, {warning.place for warning in effects})
    effects += written_outside_warnings(steps, code, files.written_outside(shared, ordinary), order)
    doubtful = {name: analysed.doubtful for name, analysed in analyses.items() if analysed.doubtful}
    return ParsedNotebook(
        tuple(steps), parameters, code, injected, defaults, unbound, tuple(errors),
        garbled | _words_of_broken_cells(declaring, wrong), _broken_cells(ordinary, shared.errors), doubtful, effects,
    )  # fmt: skip


def _execution_warnings(kinds: Iterable[tuple[CellKind, Cell]], steps: Iterable[Step]) -> tuple[PipelineWarning, ...]:
    """Return the warning about code that is executed from text, except in cells that are shared or kept out."""
    ordinary = [cell for kind, cell in kinds if kind is CellKind.ORDINARY]
    unshared = [cell for cell in ordinary if not is_shared(cell) and not is_local(cell)]
    return execution_warnings(unshared, [piece for step in steps for piece in step.pieces])


def _makers(steps: Iterable[Step]) -> dict[str, tuple[str, ...]]:
    """Return the steps that have an output, by its name."""
    makers: dict[str, tuple[str, ...]] = {}
    for step in steps:
        for output in step.outputs:
            makers[output.name] = (*makers.get(output.name, ()), step.name)
    return makers


def _code(
    analyses: Mapping[str, StepAnalysis],
    changed: ChangedElsewhere,
    files: StepFiles,
    reported: Collection[SourceLocation | None],
) -> dict[str, StepCode]:
    """Return the code of the steps with the files that it uses and the warnings about changes that it does not see.

    Of the statements at ``reported`` places, the notebook's warnings tell.
    """
    code: dict[str, StepCode] = {}
    for name, analysed in analyses.items():
        own = [
            item
            for item in analysed.code.warnings
            if item.code != CHANGED_INPUT or item.place not in changed.reported[name]
        ]
        hidden = [item for item in changed.warnings.get(name, ()) if item.place not in reported]
        warnings = (*own, *hidden)
        code[name] = dataclasses.replace(analysed.code, uses=files.uses(analysed), warnings=warnings)
    return code


def _analyses(
    kinds: Sequence[tuple[CellKind, Cell]], steps: Sequence[Step], scope: NotebookScope, cache: ParsedCellCache
) -> tuple[dict[str, StepAnalysis], tuple[PipelineWarning, ...]]:
    """Return what each step needs, and the warnings about what set-up cells do, and text that is executed."""
    drafts = cache.drafts(steps, scope)
    scope = dataclasses.replace(scope, binders=binders(drafts))
    settings: Mapping[str, Sequence[AnalysedDefinition]] = {}
    effects: Mapping[int, Sequence[UnsharedEffect]] = scope.shared.effects
    about_settings: tuple[PipelineWarning, ...] = ()
    own = {draft.step.name: each for draft in drafts if (each := cache.own_settings(draft, scope))}
    if scope.shared.settings or own:
        settings, effects, lost = _settings(kinds, drafts, scope, own)
        about_settings = (*seed_warnings(drafts, settings, scope.shared), *lost)
    analyses = {draft.step.name: cache.analysis(draft, scope, settings.get(draft.step.name, ())) for draft in drafts}
    drawn = {definition.cell for analysed in analyses.values() for definition in analysed.code.definitions}
    told = (*about_settings, *_execution_warnings(kinds, steps), *session_name_warnings(analyses.values()))
    return analyses, (*effect_warnings(effects, drawn), *told)


def _settings(
    kinds: Sequence[tuple[CellKind, Cell]],
    drafts: Sequence[StepDraft],
    scope: NotebookScope,
    own: Mapping[str, Sequence[OwnSetting]],
) -> tuple[dict[str, list[AnalysedDefinition]], dict[int, list[UnsharedEffect]], tuple[PipelineWarning, ...]]:
    """Return the settings that each step gets, the statements that no step gets, by cell, and what is to be said."""
    effects = {cell: list(of_cell) for cell, of_cell in scope.shared.effects.items()}
    usable = []
    for setting in scope.shared.settings:
        missing = missing_for(setting, scope)
        if missing:
            cell = setting.definition.cell
            text = setting.definition.source.strip().splitlines()[0]
            effects.setdefault(cell, []).append(UnsharedEffect(cell, setting.line, text, missing))
        else:
            usable.append(setting)
    cells = {
        cell.number: position for position, (kind, cell) in reversed(list(enumerate(kinds))) if kind is CellKind.STEP
    }
    positions = {draft.step.name: cells[draft.step.pieces[0].cell] for draft in drafts}
    reach = SettingReach(drafts, scope, positions)
    lost = lost_setting_warnings(drafts, usable, own, reach)
    return {draft.step.name: reach.of(draft.step.name, usable) for draft in drafts}, effects, lost


def _kind(cell: Cell) -> CellKind:
    mark = marker(cell.source)
    if mark is CellMarker.STEP:
        return CellKind.STEP
    if "injected-parameters" in cell.tags:
        return CellKind.INJECTED
    if mark is CellMarker.PARAMETERS or "parameters" in cell.tags:
        return CellKind.PARAMETERS
    return CellKind.ORDINARY


def _parameters(
    kinds: Sequence[tuple[CellKind, Cell]], errors: list[Refused]
) -> tuple[tuple[Parameter, ...], dict[str, Any]]:
    declared = [cell for kind, cell in kinds if kind is CellKind.PARAMETERS]
    injected: dict[str, Any] = {}
    parameters: tuple[Parameter, ...] = ()
    if len(declared) > 1:
        numbers = " and ".join(str(cell.number) for cell in declared)
        errors.append(
            BadParameter(f"cells {numbers} are both parameters cells", "Keep one.", SourceLocation(declared[1].number))
        )
    try:
        parameters = read_parameters(declared[0]) if declared else ()
        for kind, cell in kinds:
            if kind is CellKind.INJECTED:
                injected |= read_injected(cell)
    except Refused as error:
        errors.append(error)
    except Refusals as several:
        errors += several.errors
    return parameters, injected


def _refused(kinds: Sequence[tuple[CellKind, Cell]], parameters: Sequence[Parameter]) -> frozenset[str]:
    """Return the names bound by an erroneous parameters cell that are not parameters; the cell is reported once."""
    bound: set[str] = set()
    for kind, cell in kinds:
        if kind is CellKind.PARAMETERS:
            try:
                bound |= name_usage(parse_cell(cell.source, SourceLocation(cell.number)).body).binds
            except (Refused, RecursionError):
                bound |= set(_BINDING.findall(cell.source))
    return frozenset(bound - {parameter.name for parameter in parameters})


def _words_of_broken_cells(cells: Iterable[Cell], errors: Iterable[Refused]) -> frozenset[str]:
    """Return the words of the cells that the errors are about."""
    wrong = {error.place.cell for error in errors}
    return frozenset(word for cell in cells if cell.number in wrong for word in _WORD.findall(cell.source))


def _broken_cells(ordinary: Iterable[Cell], errors: Iterable[Refused]) -> frozenset[int]:
    """Return the numbers of the cells that the errors are about, without cells that all steps share."""
    wrong = {error.place.cell for error in errors}
    shared = {cell.number for cell in ordinary if is_shared(cell)}
    return frozenset(cell for cell in wrong - shared if cell is not None)


def _defaults(cells: Sequence[Cell], errors: list[Refused]) -> dict[str, Any]:
    defaults: dict[str, Any] = {}
    for cell in cells:
        called = _called_defaults(cell) if "%nbpipe" in cell.source else []
        for number, line in enumerate(lines_of(cell.source), 1):
            match = _DEFAULTS.match(line)
            if match and match[1].strip() in called:
                try:
                    defaults |= read_defaults(line_span(match[1], cell.number, number, match.start(1) + 1))
                except BadDirective as error:
                    errors.append(error)
    return defaults


def _called_defaults(cell: Cell) -> list[str]:
    """Return the arguments of ``%nbpipe defaults`` calls in the cell's code, ignoring text that only looks like one."""
    try:
        tree = parse_cell(cell.source, SourceLocation(cell.number))
    except Refused:
        return []
    calls = (magic_texts(node) for node in ast.walk(tree))
    words = (texts[1].split(maxsplit=1) for texts in calls if texts[:1] == ["nbpipe"] and len(texts) > 1)
    defaults = [" ".join(rest).strip() for verb, *rest in filter(None, words) if verb == "defaults"]
    return [text for text in defaults if text not in ("--help", "-h")]


def _steps(
    cells: Sequence[Cell], defaults: Mapping[str, Any], errors: list[Refused], cache: ParsedCellCache
) -> list[Step]:
    steps: dict[str, Step] = {}
    continued: list[StepDeclaration] = []
    for cell in cells:
        try:
            declared = cache.declaration(cell)
        except BadDirective as error:
            errors.append(error)
            continue
        if declared.append:
            continued.append(declared)
        elif declared.name in steps:
            first = steps[declared.name].place.cell
            message = f"cells {first} and {cell.number} are both called `{declared.name}`"
            errors.append(BadPipeline(message, "Rename one, or continue the first with --append.", declared.place))
        else:
            steps[declared.name] = _begin(declared, defaults)
    unread = _words_of_broken_cells(cells, errors)
    for declared in continued:
        if declared.name in steps or declared.name not in unread:
            _continue(declared, steps, errors)
    return list(steps.values())


def _begin(declared: StepDeclaration, defaults: Mapping[str, Any]) -> Step:
    options: StepOptions = declared.options
    if defaults:
        fields = {field.name for field in dataclasses.fields(StepOptions)}
        left_out = {key: value for key, value in defaults.items() if key not in declared.key_places and key in fields}
        later = [(key, value) for key, value in defaults.items() if isinstance(value, SourceLocation)]
        options = dataclasses.replace(options, **left_out, later=(*options.later, *later))
    piece = StepCell(declared.place.cell or 0, declared.body)
    return Step(
        declared.name, declared.inputs, declared.outputs, options, (piece,), declared.place, declared.key_places
    )


def _continue(declared: StepDeclaration, steps: dict[str, Step], errors: list[Refused]) -> None:
    step = steps.get(declared.name)
    if step is None:
        hint = nearest(declared.name, steps) or f"Begin it with %%step {declared.name}."
        errors.append(BadPipeline(f"there is no step `{declared.name}` to continue", hint, declared.place))
        return
    repeated = [item for item in declared.inputs if item.name in {other.name for other in step.inputs}]
    again = [item for item in declared.outputs if item.name in {other.name for other in step.outputs}]
    for name, place in [*((i.name, i.place) for i in repeated), *((o.name, o.place) for o in again)]:
        errors.append(BadDirective(f"`{name}` is declared twice in step {step.name}", "Keep one.", place))
    steps[step.name] = dataclasses.replace(
        step,
        inputs=(*step.inputs, *declared.inputs),
        outputs=(*step.outputs, *declared.outputs),
        pieces=(*step.pieces, StepCell(declared.place.cell or 0, declared.body)),
    )


def _step_errors(
    steps: Iterable[Step], parameters: Mapping[str, Parameter | None], analyses: Mapping[str, StepAnalysis]
) -> Iterator[Refused]:
    for step in steps:
        yield from _parameter_errors(step, parameters)
        yield from analyses[step.name].errors


def _parameter_errors(step: Step, parameters: Mapping[str, Parameter | None]) -> list[Refused]:
    """Return the errors of ``param`` and ``when``, which both refer to parameters.

    What ``when`` reads decides whether the step runs, not what it computes: it is not part of the step's code.
    """
    errors: list[Refused] = []
    for name in step.options.params:
        if name not in parameters:
            hint = nearest(name, parameters) or "Give it a default in the parameters cell."
            errors.append(BadPipeline(f"there is no parameter `{name}`", hint, step.place_of("param", name)))
    if step.options.when is None:
        return errors
    place = step.place_of("when")
    try:
        names = condition_names(step.options.when, place)
    except BadDirective as error:
        return [*errors, error]
    for name in names:
        if name not in parameters:
            hint = nearest(name, parameters) or "A condition can only read parameters."
            errors.append(BadPipeline(f"`when` reads `{name}`, which is not a parameter", hint, place))
    return errors
