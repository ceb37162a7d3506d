"""The driver's state of the executions of a run."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace

from nbpipe.data.event_file import PieceReader
from nbpipe.history.claims import Claim
from nbpipe.history.results import ReuseEntry
from nbpipe.model import (
    Artifact,
    AttemptRecord,
    ExecutionRecord,
    Failure,
    Observation,
    Outcome,
    ReuseVerdict,
    Status,
    StepOutput,
)
from nbpipe.model.compute import Placement
from nbpipe.planning.plan import StepDecision
from nbpipe.run.requested_steps import RequestedSteps


@dataclass(slots=True)
class ExecutionState:
    """The decision, claim and record of an execution.

    ``record`` is its present record; of an ended execution it keeps only what dependent executions need.
    ``gesture`` is the number of the user's gesture that requested it.
    """

    record: ExecutionRecord
    increment: RequestedSteps
    gesture: int
    decision: StepDecision | None = None
    claim: Claim | None = None
    attempt: AttemptRecord | None = None
    pieces: PieceReader | None = None
    failure: Failure | None = None
    outcome: Outcome | None = None
    elsewhere: AttemptRecord | None = None
    offered: bool = False

    @property
    def id(self) -> str:
        """The execution's id."""
        return self.record.id

    @property
    def step(self) -> str:
        """The step's name."""
        return self.record.step

    @property
    def placement(self) -> Placement:
        """Where the step runs, and what it occupies there."""
        return self.increment.jobs.placement(self.step)

    @property
    def static_key(self) -> str:
        """The key that identifies the work, so that a later request can be recognised as the same."""
        return self.increment.planner.static_key(self.step)

    @property
    def key(self) -> str | None:
        """The reuse key that was decided on."""
        return self.decision.key if self.decision else None

    @property
    def token(self) -> int:
        """The token of the claim; 0 for an execution without a claim."""
        return self.claim.token if self.claim else 0

    def entries(self, observed: tuple[Observation, ...] = ()) -> tuple[ReuseEntry, ...]:
        """Return the keys under which a result may be offered."""
        return tuple(ReuseEntry(key, static, observed) for key, static in self.decision.keys) if self.decision else ()

    def stands(self, status: Status, **fields: object) -> ExecutionRecord:
        """Return the record of the execution with this status and its decision."""
        decision = self.decision
        attempts = self.attempt.number if self.attempt else 0
        values: dict[str, object] = {"status": status, "attempts": attempts, "notes": ()}
        if decision is not None:
            values |= {"reasons": decision.verdict.reasons, "components": decision.components, "key": decision.key}
        return replace(self.record, **(values | fields))  # type: ignore[arg-type]  # the fields' own types

    def reused(self, status: Status, now: float) -> ExecutionRecord:
        """Return the record of an execution that reuses an earlier result."""
        verdict = self.decision.verdict if self.decision else None
        if not isinstance(verdict, ReuseVerdict):
            raise TypeError(f"{self.step} was not decided to be reused")
        hit = verdict.hit
        return self.stands(
            status, ended=now, origin=hit.origin, saved_seconds=hit.seconds if status is Status.REUSED else 0.0,
            notebook=hit.notebook or None, artifacts=hit.artifacts, observed=hit.observed,
        )  # fmt: skip

    def ended(self, status: Status, now: float) -> ExecutionRecord:
        """Return the record of an ended execution, with the results of its last attempt."""
        outcome, failure = self.outcome, self.failure if status is not Status.SUCCEEDED else None
        if outcome is None:
            executed = self.elsewhere.executed_notebook if self.elsewhere else None
            return self.stands(
                status, ended=now, failure=failure if status is Status.FAILED else None, notebook=executed
            )
        executed = replace(self.attempt, notebook=outcome.notebook).executed_notebook if self.attempt else None
        return self.stands(
            status, ended=now, started=now - outcome.seconds, seconds=outcome.seconds, artifacts=outcome.artifacts,
            notebook=executed, notes=outcome.notes, observed=outcome.observed, written=outcome.written, failure=failure,
        )  # fmt: skip

    def settle(self) -> None:
        """Drop what only matters while the execution is active, since a run may have many thousands."""
        self.decision = self.outcome = self.pieces = self.attempt = self.failure = self.elsewhere = None
        self.record = replace(
            self.record, reasons=(), components=(), observed=(), written=(), notes=(), failure=None, origin=None
        )


@dataclass(slots=True)
class ExecutionTable:
    """The executions of a run: by id, and the current one of each step."""

    by_id: dict[str, ExecutionState] = field(default_factory=dict)
    current: dict[str, ExecutionState] = field(default_factory=dict)

    def add(self, state: ExecutionState) -> None:
        """Add an execution, replacing an earlier one of its step."""
        self.by_id[state.id] = self.current[state.step] = state

    def upstream(self, needs: Mapping[str, str] | tuple[str, ...]) -> dict[StepOutput, Artifact]:
        """Return the existing outputs of the needed executions."""
        artifacts: dict[StepOutput, Artifact] = {}
        for need in needs:
            state = self.by_id[need]
            artifacts |= {StepOutput(artifact.name, state.step): artifact for artifact in state.record.artifacts}
        return artifacts
