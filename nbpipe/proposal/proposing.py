"""The proposal for a plain notebook, improved until nbpipe itself has nothing against it."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace

from nbpipe.errors import FileBetweenSteps, Refused, SourceLocation
from nbpipe.language.cell_markers import CellMarker
from nbpipe.language.change_warnings import CODE as HIDDEN_CHANGE
from nbpipe.language.definitions import collect_definitions
from nbpipe.language.directives import marker
from nbpipe.language.ipython_syntax import without_magic, without_prompts
from nbpipe.language.notebook_parser import parse_cells
from nbpipe.language.parsed_notebook import ParsedNotebook, unbound_errors
from nbpipe.model import Cell, PipelineWarning
from nbpipe.model.proposals import CellEdits, Proposal, ProposedStep
from nbpipe.planning.graph import build_graph
from nbpipe.proposal.cell_groups import DataFlow, Group
from nbpipe.proposal.cell_tags import CellTags, with_earlier_steps
from nbpipe.proposal.cell_traits import CellTraits, TraitReader
from nbpipe.proposal.drafting import Drafter
from nbpipe.proposal.notebook_outline import OutlineCell
from nbpipe.proposal.proposal_warnings import UNTOLD, doubts, is_divided, undivided
from nbpipe.proposal.step_cells import CellSelection, CellSelector

MERGED = "merged-cells"
ORDINARY = "left-ordinary"
_UNSETTLED = "no division into steps was found that gives the same results"
_TELLING = (HIDDEN_CHANGE,)
_STOPPED = re.compile(r"\s*%%(?!time\b)")
_ASSIGNED = re.compile(r"^([^\W\d]\w*)\s*(?::[^=\n]+)?=(?!=)", re.MULTILINE)
# A notebook that is not right after so many changes of the proposal is left alone.
_ROUNDS = 200

Checker = Callable[[ParsedNotebook], Sequence[Refused]]


@dataclass(slots=True)
class _Wishes:
    """What the checks of earlier drafts demand: cells to leave, cells in one step, and cells to keep out altogether.

    ``stuck``: there are errors that none of these removes.
    """

    refused: dict[int, str] = field(default_factory=dict)
    joined: list[frozenset[int]] = field(default_factory=list)
    reasons: list[str] = field(default_factory=list)
    broken: set[int] = field(default_factory=set)
    stuck: bool = False


def proposal_for(
    outlined: Sequence[OutlineCell],
    more_settings: Mapping[str, tuple[str, ...]] | None = None,
    check: Checker = lambda _reading: (),
) -> Proposal:
    """Return the proposal for a notebook's code cells; ``check`` returns what else is wrong with a parsed draft."""
    cells = {item.cell.number: item for item in outlined}
    tags = with_earlier_steps([item.cell for item in outlined])
    traits, wrong, broken = _traits(cells, tags, more_settings)
    flow, wishes = DataFlow.of(traits), _Wishes(refused=wrong, broken=set(broken))
    for _ in range(_ROUNDS):
        selection = CellSelector(flow, cells, tags, wishes.refused).select(wishes.joined)
        steps, edits = Drafter(flow, cells, tags, frozenset(wishes.broken)).draft(selection.groups)
        reading, former = _parsed(edits, cells, more_settings)
        if not steps or not _wish(wishes, reading, steps, former, check):
            if wishes.stuck:
                break
            notes = [*_notes(selection, wishes), *doubts(steps, cells)]
            if not is_divided(steps, tags):
                return Proposal((), CellEdits(), (*notes, undivided(steps[0])))
            return Proposal(steps, edits, (*notes, *(_located(reading.warnings, former) if steps else ())))
    return Proposal((), CellEdits(), (PipelineWarning(UNTOLD, _UNSETTLED, "Mark steps by hand."),))


def _traits(
    cells: Mapping[int, OutlineCell], tags: Mapping[int, CellTags], more_settings: Mapping[str, tuple[str, ...]] | None
) -> tuple[dict[int, CellTraits], dict[int, str], frozenset[int]]:
    """Return the traits of the cells in their order, why some of them cannot be steps, and those with errors."""
    wrong: dict[int, str] = {}
    plain: list[tuple[int, Cell]] = []
    for place, (number, item) in enumerate(cells.items()):
        reason = _unreadable(item.cell)
        if reason is not None:
            wrong[number] = reason
        elif "parameters" not in item.cell.tags and marker(item.cell.source) is not CellMarker.PARAMETERS:
            plain.append((place, item.cell))
    given = _parameters(cells, tags)
    shared = collect_definitions([each for each in plain if not tags[each[1].number].parameters], given, more_settings)
    errors = {error.place.cell: error.message for error in shared.errors if error.place.cell is not None}
    wrong = {**errors, **wrong}
    found = TraitReader(shared).read_all()
    traits = {number: found.get(number, CellTraits(number)) for number in cells}
    for number, item in cells.items():
        if _STOPPED.match(item.cell.source):
            wrong.setdefault(number, f"it runs `{item.cell.source.split()[0]}`")
    return traits, wrong, frozenset(errors)


def _unreadable(cell: Cell) -> str | None:
    """Return why a cell is no plain Python; empty if nothing needs to be said."""
    mark = marker(cell.source)
    if mark is CellMarker.LOCAL or "local" in cell.tags or "injected-parameters" in cell.tags:
        return ""
    if mark is CellMarker.MAGIC and without_magic(cell.source) is None:
        return f"it runs `{cell.source.split()[0]}`"
    if mark is None and cell.source.lstrip().startswith(("#|", "# |")):
        return "it begins with lines `#|` for another tool"
    if without_magic(cell.source) is not None and without_prompts(cell.source).rstrip() != cell.source.rstrip():
        return "it has prompts or is indented"
    return None


def _parameters(cells: Mapping[int, OutlineCell], tags: Mapping[int, CellTags]) -> list[str]:
    marked = [
        item.cell for number, item in cells.items()
        if tags[number].parameters or "parameters" in item.cell.tags
        or marker(item.cell.source) is CellMarker.PARAMETERS
    ]  # fmt: skip
    return [name for cell in marked for name in _ASSIGNED.findall(cell.source)]


def _parsed(
    edits: CellEdits, cells: Mapping[int, OutlineCell], more_settings: Mapping[str, tuple[str, ...]] | None
) -> tuple[ParsedNotebook, dict[int, int]]:
    edited, former = edits.applied([item.cell for item in cells.values()])
    return parse_cells(edited, more_settings), former


def _wish(
    wishes: _Wishes, reading: ParsedNotebook, steps: Sequence[ProposedStep], former: Mapping[int, int], check: Checker
) -> bool:
    """Note what has to change in the next draft; return False if nothing has to."""
    by_name = {step.name: frozenset(step.cells) for step in steps}
    for step in reading.steps:
        for warned in reading.code[step.name].warnings:
            if warned.code in _TELLING:
                _join(wishes, by_name, step.name, _blamed(warned.place, former), warned.message)
                return True
    values = {parameter.name: parameter.default for parameter in reading.parameters}
    _, errors = build_graph(reading, values, None)
    every = [*reading.errors, *unbound_errors(reading), *errors]
    every = every or list(check(reading))
    changed = any(_heed(wishes, error, by_name, former) for error in every)
    wishes.stuck = bool(every) and not changed
    return changed


def _heed(wishes: _Wishes, error: Refused, by_name: Mapping[str, frozenset[int]], former: Mapping[int, int]) -> bool:
    """Note what has to change because of an error; return False if that has been tried."""
    if isinstance(error, FileBetweenSteps) and error.writer in by_name and error.reader in by_name:
        _join(wishes, by_name, error.reader, by_name[error.writer], error.message)
        return True
    blamed = by_name.get(error.place.step or "") or _blamed(error.place, former)
    blamed = blamed or frozenset().union(*by_name.values())
    fresh = blamed - wishes.refused.keys()
    wishes.refused |= dict.fromkeys(fresh, error.message)
    # A cell with an error that is no step either is kept out.
    broken = frozenset() if fresh else blamed - wishes.broken
    wishes.broken |= broken
    return bool(fresh or broken)


def _blamed(place: SourceLocation, former: Mapping[int, int]) -> frozenset[int]:
    number = former.get(place.cell or 0)
    return frozenset() if number is None else frozenset([number])


def _join(
    wishes: _Wishes, by_name: Mapping[str, frozenset[int]], reader: str, others: frozenset[int], why: str
) -> None:
    """Put a step's cells and others in one step; leave the reader as it is if that has been tried."""
    together = by_name[reader] | others
    if together == by_name[reader] or together in wishes.joined:
        wishes.refused |= dict.fromkeys(by_name[reader], why)
    else:
        wishes.joined.append(together)
        wishes.reasons.append(why)


def _notes(selection: CellSelection, wishes: _Wishes) -> tuple[PipelineWarning, ...]:
    notes: list[PipelineWarning] = []
    for together, why in zip(wishes.joined, wishes.reasons, strict=True):
        notes.append(_merge_note(tuple(sorted(together)), why))
    notes += [_merge_note(group, why) for why, group in _last_merges(selection)]
    for number, why in sorted(selection.ordinary.items()):
        if why:
            notes.append(PipelineWarning(ORDINARY, f"cell {number} stays as it is: {why}", "", SourceLocation(number)))
    return tuple(dict.fromkeys(notes))


def _located(warnings: Sequence[PipelineWarning], former: Mapping[int, int]) -> list[PipelineWarning]:
    """Return what a plan of the proposal will warn of, by the numbers of the cells as they are."""
    return [
        replace(warned, place=SourceLocation(former.get(warned.place.cell or 0), step=warned.place.step))
        for warned in warnings
    ]


def _last_merges(selection: CellSelection) -> list[tuple[str, Group]]:
    """Return the merges without those that later ones contain."""
    merges = list(selection.merges)
    return [
        (why, group) for place, (why, group) in enumerate(merges)
        if not any(set(group) < set(later) for _, later in merges[place + 1 :])
    ]  # fmt: skip


def _merge_note(group: Sequence[int], why: str) -> PipelineWarning:
    listed = f"{', '.join(map(str, group[:-1]))} and {group[-1]}"
    return PipelineWarning(MERGED, f"cells {listed} are one step: {why}", "", SourceLocation(group[0]))
