"""The executions of a run with their phases: which are open, what each still needs, and which it lets go on."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from enum import StrEnum
from graphlib import CycleError, TopologicalSorter

from nbpipe.model import Status
from nbpipe.planning.stimuli import ExecutionsAdded, NewExecution
from nbpipe.planning.tries import Tries


class Phase(StrEnum):
    """The phases of an execution."""

    WAITING = "waiting"
    DECIDING = "deciding"
    CLAIMING = "claiming"
    BLOCKED = "blocked"
    CHECKING = "checking"
    SUBMITTED = "submitted"
    RUNNING = "running"
    ENDED = "ended"

    @property
    def is_under_way(self) -> bool:
        """Return whether an attempt has been submitted and has not ended."""
        return self in (Phase.SUBMITTED, Phase.RUNNING)

    @property
    def has_claim(self) -> bool:
        """Return whether the execution's key is claimed."""
        return self.is_under_way or self is Phase.CHECKING


@dataclass(slots=True, eq=False)
class GraphExecution:
    """An execution's state; ``failures_before`` counts the failures in the run before it joined.

    ``missing`` counts the needs that have not succeeded. ``older`` is the execution of its step that it replaces.
    """

    new: NewExecution
    failures_before: int
    older: GraphExecution | None = None
    phase: Phase = Phase.WAITING
    status: Status | None = None
    missing: int = 0
    dependants: list[GraphExecution] = field(default_factory=list)
    tries: Tries = field(default_factory=Tries)
    awaited: frozenset[str] = frozenset()
    noted: str = ""
    unwanted: bool = False
    superseded: bool = False

    @property
    def id(self) -> str:
        """The execution's id."""
        return self.new.id

    @property
    def succeeded(self) -> bool:
        """Return whether its result exists."""
        return self.status in (Status.SUCCEEDED, Status.REUSED)

    @property
    def has_older_under_way(self) -> bool:
        """Return whether an attempt of an older version of the step still has to end; forget the versions that have."""
        while self.older is not None and not self.older.phase.is_under_way:
            self.older = self.older.older
        return self.older is not None


@dataclass(slots=True)
class ExecutionGraph:
    """All executions of a run; those in some phases are at hand without a search."""

    _executions: dict[str, GraphExecution] = field(default_factory=dict)
    _open: dict[str, GraphExecution] = field(default_factory=dict)
    _waiting: dict[str, GraphExecution] = field(default_factory=dict)
    _blocked: dict[str, GraphExecution] = field(default_factory=dict)

    def __iter__(self) -> Iterator[GraphExecution]:
        """Return an iterator over all executions, in the order in which they joined."""
        return iter(self._executions.values())

    @property
    def has_open(self) -> bool:
        """Return whether any execution has not ended."""
        return bool(self._open)

    def find(self, execution: str) -> GraphExecution:
        """Return the execution with this id; raise ValueError if there is none."""
        if execution not in self._executions:
            raise ValueError(f"the run has no execution `{execution}`")
        return self._executions[execution]

    def needs(self, execution: GraphExecution) -> list[GraphExecution]:
        """Return what an execution needs."""
        return [self._executions[need] for need in execution.new.needs]

    def add(self, added: Iterable[NewExecution], failures_before: int) -> list[GraphExecution]:
        """Add executions and return them; each waits."""
        new = []
        for each in added:
            older = self._executions[each.replaces] if each.replaces is not None else None
            execution = GraphExecution(each, failures_before, older)
            self._executions[each.id] = self._open[each.id] = self._waiting[each.id] = execution
            new.append(execution)
        for execution in new:
            for need in dict.fromkeys(self.needs(execution)):
                if need.status is None:
                    execution.missing += 1
                    need.dependants.append(execution)
        return new

    def refuse_impossible(self, added: ExecutionsAdded) -> None:
        """Raise ValueError for a repeated id, a need that is not in the run, or executions that need each other."""
        new: dict[str, NewExecution] = {}
        for each in added.executions:
            if each.id in new or each.id in self._executions:
                raise ValueError(f"the run has an execution `{each.id}` already")
            new[each.id] = each
        older = (need for each in added.executions for need in each.needs if need not in new)
        replaced = (each.replaces for each in added.executions if each.replaces is not None)
        for name in (*added.superseded, *replaced, *older):
            self.find(name)
        try:
            TopologicalSorter(
                {name: [need for need in each.needs if need in new] for name, each in new.items()}
            ).prepare()
        except CycleError as error:
            raise ValueError(f"executions need each other: {' → '.join(error.args[1])}") from None

    def enter(self, execution: GraphExecution, phase: Phase) -> None:
        """Move an execution to a phase."""
        self._waiting.pop(execution.id, None)
        self._blocked.pop(execution.id, None)
        execution.phase = phase
        if phase is Phase.BLOCKED:
            self._blocked[execution.id] = execution

    def end(self, execution: GraphExecution, status: Status) -> None:
        """Give an execution its final status."""
        self.enter(execution, Phase.ENDED)
        execution.status = status
        self._open.pop(execution.id)

    def take_blocked(self) -> list[GraphExecution]:
        """Return the blocked executions, which the caller moves to another phase."""
        blocked, self._blocked = self._blocked, {}
        return list(blocked.values())

    def waiting(self) -> list[GraphExecution]:
        """Return the executions that wait for what they need."""
        return list(self._waiting.values())

    def still_open(self) -> list[GraphExecution]:
        """Return the executions that have not ended."""
        return list(self._open.values())

    def supply(self, execution: GraphExecution) -> list[GraphExecution]:
        """Count a success, and return the waiting executions that now have all that they need."""
        ready = []
        for other in execution.dependants:
            other.missing -= 1
            if not other.missing and other.phase is Phase.WAITING:
                ready.append(other)
        execution.dependants.clear()
        return ready

    def cut_off(self, execution: GraphExecution) -> Iterator[tuple[GraphExecution, GraphExecution]]:
        """Yield each open execution that needs a failed one, directly or not, after the one because of which it ends.

        The caller ends each before it takes the next.
        """
        causes = [execution]
        while causes:
            cause = causes.pop()
            for other in cause.dependants:
                if other.status is None:
                    yield cause, other
                    causes.append(other)
            cause.dependants.clear()

    def validate(self) -> None:
        """Check the invariants; raise AssertionError with the execution. Takes time linear in the executions."""
        for name, execution in self._executions.items():
            phase, needs = execution.phase, self.needs(execution)
            assert (execution.status is not None) == (phase is Phase.ENDED), name
            assert (name in self._open) == (phase is not Phase.ENDED), name
            assert (name in self._waiting) == (phase is Phase.WAITING), name
            assert (name in self._blocked) == (phase is Phase.BLOCKED), name
            if phase not in (Phase.WAITING, Phase.ENDED) or execution.succeeded:
                assert all(need.succeeded for need in needs), name
            if phase is Phase.WAITING:
                assert execution.missing == sum(not need.succeeded for need in set(needs)) > 0, name
                assert all(need.succeeded or need.status is None for need in needs), name
