"""Which executions an increment adds to a run, and which of the run's own stand for its steps already."""

from __future__ import annotations

from collections.abc import Callable, Collection
from dataclasses import dataclass

from nbpipe.model import ExecutionRecord, ReuseVerdict, RunGrown, Status
from nbpipe.run.execution_state import ExecutionState, ExecutionTable
from nbpipe.run.increment import RunIncrement

_DONE = (Status.SUCCEEDED, Status.REUSED)


@dataclass(frozen=True, slots=True)
class RunGrowth:
    """The executions that an increment adds to a run, and those that they replace."""

    added: tuple[ExecutionState, ...]
    replaced: tuple[ExecutionState, ...]
    fact: RunGrown


def grow(increment: RunIncrement, table: ExecutionTable, run: str, new_id: Callable[[], str]) -> RunGrowth:
    """Add to the run's executions those that an increment needs and the run does not have."""
    added: list[ExecutionState] = []
    replaced: list[ExecutionState] = []
    needs = increment.planner.graph.pipeline.needs
    positions = {step.name: place for place, step in enumerate(increment.planner.graph.pipeline.steps)}
    for step in increment.steps:
        needed = tuple(table.current[need].id for need in needs[step.name] if need in increment.selected)
        known = table.current.get(step.name)
        if known is not None and _is_same(known, increment, needed) and _stands(known, increment, table):
            continue
        if known is not None:
            replaced.append(known)
        record = ExecutionRecord(new_id(), run, step.name, positions[step.name], Status.QUEUED, needs=needed)
        state = ExecutionState(record, increment, increment.planner.static_key(step.name), increment.gesture)
        state.replaces = known
        table.add(state)
        added.append(state)
    stands = {step.name: table.current[step.name].id for step in increment.steps}
    return RunGrowth(tuple(added), tuple(replaced), RunGrown(increment.request, stands))


def _is_same(known: ExecutionState, increment: RunIncrement, needed: Collection[str]) -> bool:
    """Return whether an execution is of the step as it is asked for now, fed by the same executions."""
    same = known.static_key == increment.planner.static_key(known.step)
    return same and set(known.record.needs) == set(needed) and known.step not in increment.planner.forced


def _stands(known: ExecutionState, increment: RunIncrement, table: ExecutionTable) -> bool:
    """Return whether nothing else need be executed for a step: it is under way, or its result is up to date."""
    status, asked = known.record.status, known.step in increment.asked
    if not status.terminal:
        return True
    if status not in _DONE:
        # One failure is not repeated for each of the steps that need it.
        return not asked and known.gesture == increment.gesture
    if not known.offered:
        # Its result serves this run only, and is made again for whoever asks for it by name.
        return not asked
    decision = increment.planner.decide(known.step, table.upstream(known.record.needs))
    return isinstance(decision.verdict, ReuseVerdict)
