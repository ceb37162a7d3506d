"""Deciding whether executions run or reuse results, and claiming keys so that no result is computed twice at a time."""

from __future__ import annotations

from dataclasses import dataclass, field

from nbpipe.history.claims import ClaimedByOther
from nbpipe.model import Failure, FailureKind, ReuseVerdict, Status
from nbpipe.planning import stimuli
from nbpipe.planning.plan import Planner, StepDecision
from nbpipe.run.carried_run import CarriedRun
from nbpipe.run.execution_state import ExecutionState
from nbpipe.run.heartbeat import LEASE
from nbpipe.run.process_identity import is_alive


@dataclass(slots=True)
class ExecutionDecider:
    """Carries out the decisions and claims of a run, and tells its state machine how they went."""

    carried: CarriedRun
    _fresh: set[int] = field(default_factory=set)

    def trust(self, planner: Planner) -> None:
        """Do not look again at what a new planner has just read."""
        self._fresh.add(id(planner))

    def doubt(self) -> None:
        """Look again at files and results before the next decision, as time has passed."""
        self._fresh.clear()

    def decide(self, state: ExecutionState) -> None:
        """Decide an execution; deliver a reused result."""
        state.decision = self._decision(state)
        if self._is_delivered(state):
            self.carried.feed(stimuli.ExecutionDecided(state.id, state.decision.verdict))

    def claim(self, state: ExecutionState) -> None:
        """Claim an execution's key, unless another run holds it."""
        if self.carried.state.status(state.id) is not None:
            return
        if state.key is not None and state.claim is None:
            claim = self.carried.history.claims.claim(
                state.key, owner=self.carried.run.owner, now=self.carried.clock(), lease=LEASE, alive=is_alive
            )
            if isinstance(claim, ClaimedByOther):
                self.carried.feed(stimuli.ClaimRefused(state.id, claim.run))
                return
            state.claim = claim
        self.carried.feed(stimuli.KeyClaimed(state.id))

    def check(self, state: ExecutionState) -> None:
        """Decide again under the claim, since the previous holder of the key may have finished in between."""
        again = self._decision(state)
        elsewhere = None if isinstance(again.verdict, ReuseVerdict) else self._ended_elsewhere(state)
        if isinstance(again.verdict, ReuseVerdict):
            state.decision = again
            if not self._is_delivered(state):
                return
        self.carried.feed(stimuli.DecisionChecked(state.id, again.verdict, elsewhere))

    def release(self, state: ExecutionState) -> None:
        """Give an execution's claim back."""
        if state.claim is not None:
            self.carried.history.claims.release(state.claim)
            state.claim = None

    def _decision(self, state: ExecutionState) -> StepDecision:
        """Decide an execution's step by the present state of files and results."""
        planner = state.increment.planner
        if id(planner) not in self._fresh:
            planner.past.refresh()
            self._fresh.add(id(planner))
        return planner.decide(state.step, self.carried.table.upstream(state.record.needs))

    def _is_delivered(self, state: ExecutionState) -> bool:
        """Fill the destinations of a reused step; return False if that failed."""
        verdict = state.decision.verdict if state.decision else None
        if not isinstance(verdict, ReuseVerdict):
            return True
        problem = state.increment.jobs.deliver(state.step, verdict.hit.artifacts)
        if problem is None:
            return True
        state.failure = not_delivered(problem)
        self.carried.feed(stimuli.ExecutionAttemptEnded(state.id, Status.FAILED, state.failure, final=True))
        return False

    def _ended_elsewhere(self, state: ExecutionState) -> stimuli.AwaitedAttemptEnded | None:
        """Return the ending of the attempt that this execution awaited, if it belongs to the same pipeline."""
        awaited = self.carried.state.awaited(state.id)
        if not self.carried.state.attach or state.key is None or not awaited:
            return None
        attempt = self.carried.history.attempts.newest_at(state.key, awaited, self.carried.run.pipeline)
        if attempt is None or attempt.failure is None or attempt.status not in (Status.FAILED, Status.CANCELLED):
            return None
        state.failure, state.elsewhere = attempt.failure, attempt
        return stimuli.AwaitedAttemptEnded(attempt.status, attempt.failure)


def not_delivered(problem: str) -> Failure:
    """Return the failure of an execution whose result could not be copied to a destination."""
    return Failure(FailureKind.OUTPUT, "NotDelivered", problem, problem)
