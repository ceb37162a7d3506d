"""The extension of a run: which executions requested steps add, and which existing ones serve them."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, replace

from nbpipe.model import ExecutionRecord, ReuseVerdict, RunGrown, Status
from nbpipe.planning.stimuli import NewExecution
from nbpipe.run.execution_state import ExecutionState, ExecutionTable
from nbpipe.run.registrations import bound_datasets
from nbpipe.run.requested_steps import RequestedSteps

_DONE = (Status.SUCCEEDED, Status.REUSED)


@dataclass(frozen=True, slots=True)
class RunExtension:
    """The executions that an increment adds to a run, and those that they replace, by step."""

    added: tuple[ExecutionState, ...]
    replaced: Mapping[str, ExecutionState]
    fact: RunGrown

    def new_execution(self, state: ExecutionState) -> NewExecution:
        """Return an added execution for the run's state machine."""
        retries = state.increment.planner.graph.steps[state.step].options.retries
        older = self.replaced.get(state.step)
        return NewExecution(state.id, state.step, state.record.needs, retries, older.id if older else None)


def grow(increment: RequestedSteps, table: ExecutionTable, run: str, new_id: Callable[[], str]) -> RunExtension:
    """Add the executions that an increment needs and the run does not have yet."""
    added: list[ExecutionState] = []
    replaced: dict[str, ExecutionState] = {}
    needs = increment.planner.graph.pipeline.needs
    positions = {step.name: place for place, step in enumerate(increment.planner.graph.pipeline.steps)}
    for step in increment.steps:
        needed = tuple(table.current[need].id for need in needs[step.name] if need in increment.selected)
        current = table.current.get(step.name)
        if current is not None and _is_same(current, increment, needed) and _stands(current, increment, table):
            continue
        if current is not None:
            replaced[step.name] = current
        record = ExecutionRecord(new_id(), run, step.name, positions[step.name], Status.QUEUED, needs=needed)
        record = replace(record, datasets=bound_datasets(increment.planner, step.name))
        state = ExecutionState(record, increment, increment.gesture)
        table.add(state)
        added.append(state)
    stands = {step.name: table.current[step.name].id for step in increment.steps}
    return RunExtension(tuple(added), replaced, RunGrown(increment.request, stands))


def _is_same(current: ExecutionState, increment: RequestedSteps, needed: Collection[str]) -> bool:
    """Return whether an execution does the requested work, with the same upstream executions."""
    same = current.static_key == increment.planner.static_key(current.step)
    return same and set(current.record.needs) == set(needed) and current.step not in increment.planner.forced


def _stands(current: ExecutionState, increment: RequestedSteps, table: ExecutionTable) -> bool:
    """Return whether an existing execution serves a step: it is active, or its result is up to date."""
    status, is_requested = current.record.status, current.step in increment.requested
    if not status.terminal:
        return True
    if status not in _DONE:
        # A failed step is not retried for each of the steps that need it.
        return not is_requested and current.gesture == increment.gesture
    if not current.offered:
        # Its result is not reused outside this run, so it is recomputed when it is requested by name.
        return not is_requested
    decision = increment.planner.decide(current.step, table.upstream(current.record.needs))
    return isinstance(decision.verdict, ReuseVerdict)
